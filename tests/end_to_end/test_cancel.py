"""Cancelling, time limits and expiry: exact, confirmed, and nothing of others is touched."""

from __future__ import annotations

import asyncio

import pytest

from bridge.comfyui.client import ComfyClient
from bridge.comfyui.events import Succeeded
from bridge.mosquitto import Mosquitto
from tests.conftest import StartBridge
from tests.end_to_end import graphs
from tests.support.comfyui import Server, new_id, our_output, slow_image, then
from tests.support.peer import Message, Peer

pytestmark = pytest.mark.comfyui


def is_running(message: Message) -> bool:
    return bool(message.json["state"] == "running")


async def test_a_job_is_cancelled_wherever_it_is(attached: StartBridge, broker: Mosquitto) -> None:
    await attached({"slow": graphs.slow(30)})
    async with Peer(broker.url) as peer:
        await peer.listen()
        for job_id in ("runs", "at-comfyui", "queued"):
            await peer.ask(f"run/slow/{job_id}")
        await peer.job("runs", "status", is_running)
        await peer.no_position("at-comfyui")

        answer = await peer.ask("cancel", b"queued")
        assert answer["data"] == {"job_id": "queued", "state": "cancelled", "cancelling": False}
        assert (await peer.result("queued"))["attempts"] == 0

        answer = await peer.ask("cancel", b"at-comfyui")
        assert answer["data"]["cancelling"] is True
        assert (await peer.result("at-comfyui"))["attempts"] == 0

        answer = await peer.ask("cancel", {"job_id": "runs"})
        assert answer["data"]["cancelling"] is True
        result = await peer.result("runs")
        assert (result["state"], result["attempts"], result["outputs"]) == ("cancelled", 1, [])

        answer = await peer.ask("cancel", b"runs")
        assert answer["data"] == {"job_id": "runs", "state": "cancelled", "cancelling": False}
        assert len(peer.of_job("runs", "result")) == 1


async def test_what_ended_before_stays_as_it_ended(
    attached: StartBridge, broker: Mosquitto
) -> None:
    await attached({"colour": graphs.colour()})
    async with Peer(broker.url) as peer:
        await peer.listen()
        # The cancel may come before, during or after: the answer and the result agree.
        for index in range(10):
            peer.request(f"run/colour/j{index}", {"colour": index})
            answer = await peer.ask("cancel", f"j{index}".encode())
            result = await peer.result(f"j{index}")
            if not answer["data"]["cancelling"]:
                assert result["state"] == answer["data"]["state"]
            assert result["state"] in ("succeeded", "cancelled")
            assert bool(result["outputs"]) == (result["state"] == "succeeded")


async def test_a_job_is_cancelled_by_what_is_sent_right_after_it(
    detached: StartBridge, broker: Mosquitto
) -> None:
    await detached({"colour": graphs.colour()})
    async with Peer(broker.url) as peer:
        await peer.listen()
        for index in range(5):
            # The request is still being written down when the cancel is read.
            peer.request(f"run/colour/j{index}", {"colour": index})
            answer = await peer.ask("cancel", f"j{index}".encode())
            assert answer["data"]["state"] == "cancelled"
            assert (await peer.result(f"j{index}"))["state"] == "cancelled"


async def test_what_is_not_ours_is_never_interrupted(
    attached: StartBridge, broker: Mosquitto, comfyui: Server
) -> None:
    await attached({"slow": graphs.slow(30)})
    async with ComfyClient(comfyui.url) as somebody, Peer(broker.url) as peer:
        await peer.listen()
        theirs = new_id()
        await somebody.submit(our_output(slow_image(1.5)), theirs, "somebody")
        await peer.ask("run/slow/ours")
        await peer.no_position("ours")
        await peer.ask("cancel", b"ours")
        assert (await peer.result("ours"))["state"] == "cancelled"
        while (entry := await somebody.history(theirs)) is None:  # noqa: ASYNC110 - below
            await asyncio.sleep(0.05)  # ComfyUI tells of it only the one who submitted it
        assert isinstance(entry.end, Succeeded)


async def test_a_job_that_runs_too_long_is_stopped(
    attached: StartBridge, broker: Mosquitto
) -> None:
    await attached({"slow": graphs.slow(30)})
    async with Peer(broker.url) as peer:
        await peer.listen()
        await peer.ask("run/slow/j1", {"$timeout_s": 0.5})
        result = await peer.result("j1")
        assert result["state"] == "failed"
        assert result["error"]["code"] == "timeout"
        assert result["error"]["details"]["timeout_s"] == 0.5


@pytest.mark.parametrize("by_mqtt", [False, True])
async def test_a_job_that_cannot_start_in_time_expires(
    attached: StartBridge, broker: Mosquitto, *, by_mqtt: bool
) -> None:
    await attached({"slow": graphs.slow(2.5)})
    async with Peer(broker.url) as peer:
        await peer.listen()
        await peer.ask("run/slow/first")
        await peer.job("first", "status", is_running)
        body, options = (
            ({}, {"MessageExpiryInterval": 1}) if by_mqtt else ({"$start_within_s": 1}, {})
        )
        for job_id in ("at-comfyui", "queued"):
            await peer.ask(f"run/slow/{job_id}", body, **options)
        for job_id in ("at-comfyui", "queued"):
            result = await peer.result(job_id)
            assert (result["state"], result["error"]["code"]) == ("expired", "expired")
            assert result["attempts"] == 0
        assert (await peer.result("first"))["state"] == "succeeded"


async def test_memory_that_ran_out_is_freed_and_the_job_tried_once_more(
    attached: StartBridge, broker: Mosquitto
) -> None:
    once = our_output(then(slow_image(0.1), "TestOutOfMemory", times=1))
    for_ever = our_output(then(slow_image(0.1), "TestOutOfMemory"))
    await attached({"once": once, "for-ever": for_ever})
    async with Peer(broker.url) as peer:
        await peer.listen()
        await peer.ask("run/once/j1")
        assert (await peer.result("j1")).items() >= {"state": "succeeded", "attempts": 2}.items()
        await peer.ask("run/for-ever/j2")
        result = await peer.result("j2")
        assert (result["state"], result["attempts"]) == ("failed", 2)
        assert result["error"]["code"] == "out_of_memory"
