"""The promises about a request before any ComfyUI has a part in it: so none is there."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing

import pytest

from bridge.mosquitto import Mosquitto
from tests.conftest import StartBridge
from tests.end_to_end import graphs
from tests.support.patience import PATIENCE_S
from tests.support.peer import Peer

pytestmark = pytest.mark.broker

WORKFLOWS = {"colour": graphs.colour()}


async def test_the_same_id_is_the_same_job_and_another_request_under_it_a_conflict(
    detached: StartBridge, broker: Mosquitto
) -> None:
    await detached(WORKFLOWS)
    async with Peer(broker.url) as peer:
        await peer.listen()
        request = {"workflow": "colour", "inputs": {"colour": 1}, "job_id": "one"}
        assert (await peer.ask("submit", request))["data"]["duplicate"] is False
        assert (await peer.ask("submit", request))["data"]["duplicate"] is True
        for changes in (
            {"inputs": {"colour": 2}},
            {"inputs": {"colour": 1, "size": 32}},
            {"output": {"format": "jpeg"}},
        ):
            answer = await peer.ask("submit", {**request, **changes})
            assert answer["error"]["code"] == "conflict", changes
        assert len((await peer.ask("list", {"peek": True}))["data"]["jobs"]) == 1


async def test_a_retained_request_makes_no_job(detached: StartBridge, broker: Mosquitto) -> None:
    await detached(WORKFLOWS)
    async with Peer(broker.url) as peer:
        await peer.listen()
        answer = await peer.ask("run/colour", b'{"colour": 1}', retain=True)
        assert answer["error"]["code"] == "bad_request"
        assert (await peer.ask("list", {"peek": True}))["data"]["jobs"] == []
        peer.request("run/colour", b"", retain=True)  # clears it


@pytest.mark.parametrize(
    "topic", ["comfy2mqtt/client/bob/reply/x", "comfy2mqtt/client/alice/request/x", "elsewhere"]
)
async def test_a_request_with_a_foreign_response_topic_makes_no_job(
    detached: StartBridge, broker: Mosquitto, topic: str
) -> None:
    await detached(WORKFLOWS)
    async with Peer(broker.url) as peer:
        await peer.listen()
        answer = await peer.ask("run/colour", b'{"colour": 1}', ResponseTopic=topic)
        assert answer["error"]["code"] == "forbidden"
        assert (await peer.ask("list", {"peek": True}))["data"]["jobs"] == []


async def test_a_request_that_was_not_answered_comes_again_after_a_kill(
    detached: StartBridge, broker: Mosquitto
) -> None:
    bridge = await detached(WORKFLOWS)
    async with Peer(broker.url) as peer:
        await peer.listen()
        path = bridge.folder / "data" / "journal.db"
        # Nobody else can write into the journal meanwhile: the request is taken, not answered.
        with closing(sqlite3.connect(path, isolation_level=None)) as journal:
            journal.execute("BEGIN IMMEDIATE")
            # Once the second one is looked at, the first would have been acknowledged, if it were.
            for verb in ("run/colour/one", "run/colour/two"):
                peer.request(verb, b'{"colour": 1}')
                async with asyncio.timeout(PATIENCE_S):
                    while f"request/{verb}" not in bridge.log:  # noqa: ASYNC110 - a file
                        await asyncio.sleep(0.01)
            await bridge.kill()
        response = "comfy2mqtt/client/alice/response/run"
        assert peer.all(response) == []
        await bridge.start(ready=False)
        answers = [(await peer.next(response, timeout_s=20)).json for _ in range(2)]
        assert [answer["data"]["job_id"] for answer in answers] == ["one", "two"]
