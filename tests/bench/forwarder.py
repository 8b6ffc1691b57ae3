"""A bridge that only forwards, and one that also keeps: `python -m` this `forwards|keeps serve`.

Between the same broker and the same ComfyUI, on the same libraries and the same kind of event loop:
a request becomes a prompt, the bytes of an output a message, the end of a prompt a result. One that
`keeps` has a job in the journal before it is answered and submitted, and its outcome there before
the result. Nothing is checked, ordered, repeated or cleaned up, and no status is published. So it
keeps no promise: it is for the bench alone, to see what the way itself costs.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace
from uvloop import new_event_loop

from bridge.aio import sha256_of
from bridge.comfyui.client import ComfyClient
from bridge.comfyui.connection import connected
from bridge.comfyui.frames import Executing, Frame, NodeExecuted, OutputBytes
from bridge.contract.numbering import Numbered
from bridge.contract.topics import Topics
from bridge.jobs.job import Draft, KeptOutput
from bridge.jobs.journal import Journal
from bridge.jobs.queue import Key
from bridge.mqtt import Address, Connection, Incoming, Subscription
from tests.bench.graphs import COLOUR
from tests.bench.writer import new_draft
from tests.support.bridge import BridgeProcess
from tests.support.comfyui import Graph

KEEP_S = 3600.0


class ForwarderProcess(BridgeProcess):
    """A forwarder, started as a bridge is."""

    kind: str

    @property
    def command(self) -> Sequence[str]:
        """The command line's choices."""
        return (sys.executable, "-m", "tests.bench.forwarder", self.kind, "serve")


def forwarder(kind: str) -> type[ForwarderProcess]:
    """Return the processes of one that `forwards` or `keeps`."""
    return type("Forwarder", (ForwarderProcess,), {"kind": kind})


class _Forwarder:
    """Takes messages from the broker and frames from ComfyUI, and passes them on."""

    def __init__(
        self,
        broker: Connection,
        comfyui: ComfyClient,
        client_id: str,
        workflows: Mapping[str, Graph],
        journal: Journal | None,
    ) -> None:
        self._broker = broker
        self._comfyui = comfyui
        self._client_id = client_id
        self._workflows = workflows
        self._journal = journal
        self._topics = Topics()
        self._drafts: dict[str, Draft] = {}
        self._outputs: dict[str, list[KeptOutput]] = {}
        self._views: dict[str, asyncio.Task[None]] = {}
        self._tasks = set[asyncio.Task[None]]()

    async def read(self) -> None:
        """Take requests until the connection ends."""
        async for message in self._broker.messages:
            self._start(self._accept(message))

    def take(self, frame: Frame) -> None:
        """Take what ComfyUI sends."""
        match frame:
            case OutputBytes(header, data):
                self._output(header.prompt_id, data, header.sha256)
            case NodeExecuted(prompt_id, _, _, {"images": [image]}):
                self._views[prompt_id] = self._start(self._view(prompt_id, image))
            case Executing(None, str(prompt_id)):
                self._start(self._end(prompt_id))

    async def _accept(self, message: Incoming) -> None:
        *_, client, _, _, workflow, job_id = message.topic.split("/")
        draft = new_draft(client)
        draft = replace(draft, job=replace(draft.job, key=Key(client, job_id)))
        if self._journal is not None:
            await self._journal.accept(draft, time.time())
        self._drafts[draft.job.prompt_id] = draft
        self._publish(
            self._topics.response(client, "run"), {"status": "ok", "data": {"job_id": job_id}}
        )
        self._broker.ack(message)
        prompt = _coloured(self._workflows[workflow], message.payload)
        await self._comfyui.submit(prompt, draft.job.prompt_id, self._client_id)

    async def _view(self, prompt_id: str, image: Mapping[str, str]) -> None:
        data = await self._comfyui.view(image["filename"], image["subfolder"], image["type"])
        self._output(prompt_id, data, await sha256_of(data))

    def _output(self, prompt_id: str, data: bytes | memoryview, sha256: str) -> None:
        key = self._drafts[prompt_id].key
        self._broker.publish(self._topics.job(key.client, key.job_id, "output", "0"), data)
        kept = KeptOutput(
            index=0, content_type="image/png", sha256=sha256, size=len(data), data=bytes(data)
        )
        self._outputs.setdefault(prompt_id, []).append(kept)

    async def _end(self, prompt_id: str) -> None:
        if prompt_id in self._views:
            await self._views.pop(prompt_id)
        key = self._drafts.pop(prompt_id).key
        if self._journal is not None:
            now = self._journal.clock.now()
            await self._journal.finish(
                key,
                state="succeeded",
                result=Numbered(b'{"n":', b"}"),
                now=now,
                outputs=self._outputs.pop(prompt_id, ()),
                keep_until=now + KEEP_S,
            )
        self._publish(self._topics.job(key.client, key.job_id, "result"), {"state": "succeeded"})

    def _publish(self, topic: str, message: object) -> None:
        self._broker.publish(topic, msgspec.json.encode(message))

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _coloured(graph: Graph, payload: bytes) -> Graph:
    node, _, name = COLOUR.partition(".")
    inputs = {**graph[node]["inputs"], name: msgspec.json.decode(payload)[COLOUR]}
    return {**graph, node: {**graph[node], "inputs": inputs}}


async def _serve(kind: str, setting: Mapping[str, str], workflows: Mapping[str, Graph]) -> None:
    async with AsyncExitStack() as stack:
        broker = await stack.enter_async_context(Connection(Address.parse(setting["mqtt_url"])))
        comfyui = await stack.enter_async_context(
            ComfyClient(setting["comfyui_url"], secret=setting["comfyui_secret"])
        )
        socket = await stack.enter_async_context(
            connected(comfyui.base_url, headers=comfyui.headers)
        )
        journal = None
        if kind == "keeps":
            journal = Journal(Path(setting["data"]) / "journal.db")
            await journal.open()
            stack.push_async_callback(journal.close)
        forwarding = _Forwarder(broker, comfyui, socket.client_id, workflows, journal)
        await broker.subscribe([Subscription(filter=Topics().requests)])
        broker.publish("comfy2mqtt/bridge/comfyui/default", b'{"state": "ready"}', retain=True)
        broker.publish("comfy2mqtt/bridge/state", b"online", retain=True)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(forwarding.read())
            tasks.create_task(socket.deliver_frames(forwarding.take))


def _main(kind: str) -> None:
    prefix = "COMFY2MQTT_"
    setting = {
        name.removeprefix(prefix).lower(): value
        for name, value in os.environ.items()
        if name.startswith(prefix)
    }
    files = Path(setting["workflows"]).glob("*.json")
    workflows = {each.stem: msgspec.json.decode(each.read_bytes()) for each in files}
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(_serve(kind, setting, workflows))


if __name__ == "__main__":
    _main(sys.argv[1])
