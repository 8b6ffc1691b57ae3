"""A model that the ComfyUI of one bridge has and that of another lacks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from bridge.mosquitto import Mosquitto
from tests.end_to_end.group import Start, member
from tests.end_to_end.test_several_bridges import running_at
from tests.support.comfyui import Graph, Server, image, our_output, running_server, supervised, then
from tests.support.peer import Message, Peer

pytestmark = [pytest.mark.comfyui, pytest.mark.postgresql]


MODEL = "large.safetensors"


def with_checkpoint(seconds: float) -> Graph:
    graph = then(image(), "TestCheckpoint", ckpt_name=MODEL)
    return our_output(then(graph, "TestSleep", seconds=seconds, step=0.05))


WORKFLOWS = {"quick": with_checkpoint(0.1), "long": with_checkpoint(3.0)}


def offers_it(message: Message) -> bool:
    found: list[str] = message.json["inputs"]["properties"]["checkpoint"].get("enum", [])
    return MODEL in found


@pytest.fixture(scope="module")
def stocked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A ComfyUI that has one more checkpoint than that of the other tests."""
    folder = tmp_path_factory.mktemp("stocked")
    (folder / "models").mkdir()
    (folder / "models" / MODEL).touch()
    paths = folder / "paths.yaml"
    paths.write_text(json.dumps({"more": {"checkpoints": str(folder / "models")}}))
    config = supervised()
    args = (*config.args, "--extra-model-paths-config", str(paths))
    with running_server(msgspec.structs.replace(config, args=args), folder) as server:
        yield server


async def test_a_job_goes_to_the_bridge_that_has_its_model_and_waits_for_it_with_a_reason(
    start: Start, stocked: Server, broker: Mosquitto, watcher: Peer, journal: str
) -> None:
    await start("a", workflows=WORKFLOWS)
    has_it: dict[str, Any] = {"comfyui_url": stocked.url, "comfyui_secret": stocked.secret}
    await watcher.subscribe("comfy2mqtt/workflow/quick")
    b = await start("b", workflows=WORKFLOWS, **has_it)
    await watcher.next("comfy2mqtt/workflow/quick", offers_it)
    async with Peer(broker.url) as peer:
        await peer.listen()
        refused = (await peer.ask("run/quick/none", {"checkpoint": "huge.safetensors"}))["error"]
        assert (refused["code"], refused["details"]["allowed"]) == ("invalid_input", [MODEL])
        jobs = [f"j{index}" for index in range(3)]
        for job_id in jobs:
            assert (await peer.ask(f"run/quick/{job_id}"))["status"] == "ok"
        assert {(await peer.result(job_id))["instance"] for job_id in jobs} == {"b-default"}

        # It dies under one job, with another behind it and one that it has not taken.
        waiting = ("running", "next", "last")
        for job_id in waiting:
            assert (await peer.ask(f"run/long/{job_id}"))["status"] == "ok"
        assert await running_at(journal, "b-default") == "running"
        await b.kill()
        await member(watcher, "b", b"offline")
        for job_id in waiting:
            await peer.job(
                job_id, "status", lambda m: m.json.get("reason") == "ComfyUI b-default is away"
            )
        await b.start(ready=False)
        results = [await peer.result(job_id) for job_id in waiting]
        assert {each["instance"] for each in results} == {"b-default"}
        assert [each["attempts"] for each in results] == [2, 1, 1]
