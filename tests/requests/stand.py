"""A request handler on its real parts, without a broker and without a ComfyUI."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
from msgspec import UnsetType

from bridge.adapters.mqtt.encoder import Encoder
from bridge.config import ClientRights
from bridge.contract.errors import BridgeError, Forbidden
from bridge.contract.messages import OutputInfo, Part, Transaction, encode
from bridge.contract.numbering import Numbered
from bridge.contract.retained import Choices
from bridge.contract.retained_pages import RetainedMessage
from bridge.contract.sets import SetResult, SetStatus
from bridge.contract.topics import RequestTopic, Topics
from bridge.jobs.dependencies import Dependencies, Sources
from bridge.jobs.job import Envelope, KeptOutput
from bridge.jobs.journal.sets import SetRecord
from bridge.jobs.queue import Key
from bridge.jobs.sets.collect import SetCollector
from bridge.jobs.sets.driver import QueueLimits, SetDriver
from bridge.jobs.uploads import UploadRules, Uploads
from bridge.media.files import Folder
from bridge.media.transcode import Transcoder
from bridge.requests.admission import Admission, AdmissionConfig
from bridge.requests.context import Answer, RequestContext
from bridge.requests.handler import RequestHandler
from bridge.requests.input_media import InputMedia
from bridge.requests.permissions import Permissions
from bridge.requests.processor_time import ProcessorTime
from bridge.requests.rate_limit import RateLimiter
from bridge.requests.sets import SetRequests
from bridge.requests.thumbnails import Thumbnails
from bridge.workflows.catalogue import NodeRules
from bridge.workflows.library import Library
from tests.jobs.dispatching import RunningDispatcher, running_dispatcher
from tests.jobs.drafts import draft
from tests.workflows.graphs import INFO, NAMED

MAX_QUEUE = 3
ENCODER = Encoder(Topics(), {"keep_results_s": 700.0, "keep_outputs_s": 80.0})
# What comes with a request, rather than in it.
_BESIDE = {"client", "correlation", "expiry_s", "response_topic", "room", "user_properties"}
_IN_TOPIC = RequestTopic.__struct_fields__
PICTURE = NAMED
SIMPLE: dict[str, Any] = {
    **{number: NAMED[number] for number in ("1", "2", "9")},
    "3": {"class_type": "Loader", "inputs": {"ckpt": "a.safetensors"}},
    "8": {
        "class_type": "Sampler",
        "inputs": {
            "seed": ["2", 0],
            "steps": 20,
            "cfg": 7.5,
            "sampler": "euler",
            "tiled": False,
            "model": ["3", 0],
        },
    },
}
DENIED = {
    "1": {"class_type": "LoadImage", "inputs": {"image": "there.png"}},
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "x"}},
}


class Packets:
    """Limits of packets of so many bytes, as the MQTT adapter makes them."""

    def __init__(self, limit: int) -> None:
        self._limit = limit

    def answer_room(
        self,
        context: RequestContext,
        transaction: Transaction | UnsetType,
        max_packet: int | None = None,
    ) -> int:
        limit = min(self._limit, max_packet or self._limit)
        return ENCODER.answer_room(context, transaction, limit)

    def part_room(
        self,
        context: RequestContext,
        transaction: Transaction | UnsetType,
        part: Part,
        max_packet: int | None,
    ) -> int:
        limit = min(self._limit, max_packet or self._limit)
        return ENCODER.part_room(context, transaction, part, limit)

    def check(self, context: RequestContext, answer: Answer) -> None:
        packets = ENCODER.answer(context, answer, self._limit)
        assert [packet.problem for packet in packets] == [None] * len(packets)


class SetNotes:
    """Records what happens to sets."""

    def __init__(self) -> None:
        self.statuses: list[SetStatus] = []
        self.results: list[SetResult] = []
        self.outputs: list[tuple[OutputInfo, bytes]] = []
        self.room: int | None = None
        self.keep_s: float | None = None
        self.came = asyncio.Event()

    def set_status(self, key: Key, envelope: Envelope, status: SetStatus) -> None:
        del key, envelope
        self.statuses.append(status)
        self.came.set()

    def set_output(
        self, record: SetRecord, info: OutputInfo, data: bytes | memoryview, keep_s: float
    ) -> str | None:
        self.outputs.append((info, bytes(data)))
        self.keep_s = keep_s
        return f"set/{record.key.job_id}/output/{info.index}"

    def set_result(self, key: Key, envelope: Envelope, result: bytes) -> None:
        del key, envelope
        self.results.append(msgspec.json.decode(result, type=SetResult))
        self.came.set()

    def set_result_room(self, key: Key, envelope: Envelope) -> int | None:
        del key, envelope
        return self.room


class Stand:
    """A handler, and what its tests look at."""

    def __init__(
        self, folder: Path, dispatcher: RunningDispatcher, clients: Mapping[str, ClientRights]
    ) -> None:
        self.dispatcher = dispatcher
        self.journal = dispatcher.journal
        self.files = Folder(folder / "blobs")
        self.refreshed = 0
        self.fresh_info: bytes | None = None
        self.now = 0.0
        permissions = Permissions(clients)
        uploads = Uploads(
            folder / "uploads", self.journal, self.files, UploadRules(10**6, lambda _: 10**6, 60.0)
        )
        self.transcoder = Transcoder()
        waiting = Dependencies(
            self.journal, self.files, Sources(_nothing, _nothing), self.transcoder
        )
        nodes = NodeRules(deny=("LoadImage",))
        self.library = Library(
            folder / "workflows", folder / "cache", ["main"], nodes, keyed=["main"]
        )
        media = InputMedia(waiting, uploads, permissions, 100_000)
        admission = Admission(
            AdmissionConfig(MAX_QUEUE, permissions, nodes),
            library=self.library,
            journal=self.journal,
            files=self.files,
            dispatcher=dispatcher,
            media=media,
            refresh=self._refresh,
            check_display=_no_display,
        )
        self.admission = admission
        processor = ProcessorTime(lambda c: permissions.of(c).processor_share, lambda: self.now)
        waiting.bounds.spend = processor.spend
        self.media = media
        self.notes = SetNotes()
        self.collector = SetCollector(
            self.journal,
            self.files,
            self.transcoder,
            self.notes,
            keep_outputs_s=3600.0,
            scratch=folder / "collecting",
        )
        self.driver = SetDriver(
            self.journal,
            dispatcher,
            self.notes,
            catalogue=lambda: self.library.catalogue,
            limits=QueueLimits(MAX_QUEUE, lambda client: permissions.of(client).max_queue),
            collector=self.collector,
        )
        self.handler = RequestHandler(
            admission=admission,
            sets=SetRequests(
                admission=admission,
                driver=self.driver,
                journal=self.journal,
                files=self.files,
                media=media,
                permissions=permissions,
                catalogue=lambda: self.library.catalogue,
                spend=processor.spend,
            ),
            uploads=uploads,
            journal=self.journal,
            files=self.files,
            thumbnails=Thumbnails(self.files, self.transcoder, processor),
            dispatcher=dispatcher,
            rate_limiter=RateLimiter(lambda c: permissions.of(c).requests_per_s, lambda: self.now),
            processor=processor,
            retained=self._described,
        )

    def _described(self) -> dict[str, RetainedMessage]:
        found: dict[str, RetainedMessage] = {
            f"workflow/{name}": each.definition() for name, each in self.library.workflows.items()
        }
        for name, choices in self.library.choices().items():
            found[f"bridge/choices/{name}"] = Choices(name=name, choices=list(choices))
        return found

    async def ask(self, verb: str, payload: bytes | None = None, **given: Any) -> Answer:
        """Send a request of alice; a payload is given, or made of the fields."""
        about = given
        if payload is None:
            about = {name: value for name, value in given.items() if name in _BESIDE}
            fields = {name: value for name, value in given.items() if name not in _BESIDE}
            payload = json.dumps(fields).encode()
        answers: list[Answer] = []
        levels = {name: about.pop(name) for name in _IN_TOPIC if name in about}
        topic = RequestTopic(**{"client": "alice", "verb": verb, **levels})
        context = RequestContext(**{"topic": topic, "payload": payload, **about})
        await self.handler.handle(context, answers.append)
        (answer,) = answers
        if isinstance(context.room, Packets):
            context.room.check(context, answer)
        return answer

    async def data(self, verb: str, payload: bytes | None = None, **given: Any) -> Any:
        """Send a request, and return what its answer reports, as the wire has it."""
        answer = await self.ask(verb, payload, **given)
        assert answer.error is None, answer.error
        return msgspec.json.decode(encode(answer.data))

    async def error(self, verb: str, payload: bytes | None = None, **given: Any) -> BridgeError:
        """Send a request, and return the error that it is answered with."""
        answer = await self.ask(verb, payload, **given)
        assert answer.error is not None, answer.data
        return answer.error

    async def submitted(self, job_id: str, **changes: Any) -> Any:
        """Send work that waits, since there is no ComfyUI; return what its answer reports."""
        return await self.data("submit", workflow="simple", job_id=job_id, **changes)

    async def finished(self, job_id: str, *outputs: KeptOutput, result: str = "") -> None:
        """Write a job into the journal that has succeeded with these outputs."""
        await self.journal.accept(draft(job_id), 1.0)
        await self.journal.finish(
            Key("alice", job_id),
            state="succeeded",
            result=Numbered(b'{"text": "%b", "n": ' % result.encode(), b"}"),
            now=2.0,
            outputs=outputs,
            keep_until=9e9,
        )

    async def _refresh(self) -> bool:
        self.refreshed += 1
        if self.fresh_info is None:
            return False
        await self.library.update("main", self.fresh_info)
        return True


async def _nothing(*_: object) -> bytes:
    raise AssertionError


def _no_display(client: str, display: str) -> None:
    raise Forbidden(f"{client!r} may not show on {display!r}")


@asynccontextmanager
async def standing(folder: Path, **clients: ClientRights) -> AsyncIterator[Stand]:
    """Open a stand with the workflows of this module, on a ComfyUI's nodes known from a cache."""
    workflows = {"simple": SIMPLE, "picture": PICTURE, "denied": DENIED}
    for name, content in workflows.items():
        _write(folder / "workflows" / f"{name}.json", content)
    _write(folder / "cache" / "main.json", INFO.raw)
    async with running_dispatcher(folder) as dispatcher:
        stand = Stand(folder, dispatcher, clients)
        await stand.library.open()
        try:
            yield stand
        finally:
            await stand.transcoder.close()


def _write(path: Path, content: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(msgspec.json.encode(content))
