"""The queue over MQTT: order, replacing, keeping, forgetting, and the reports of the wait."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.mosquitto import Mosquitto
from tests.conftest import StartBridge
from tests.end_to_end import graphs
from tests.support.peer import Message, Peer

pytestmark = pytest.mark.comfyui


def running(message: Message) -> bool:
    return bool(message.json["state"] == "running")


async def test_only_the_newest_of_a_word_runs(attached: StartBridge, broker: Mosquitto) -> None:
    await attached({"slow": graphs.slow(0.6)})
    async with Peer(broker.url) as peer:
        await peer.listen()
        for job_id in ("first", "second"):  # one runs, one waits at ComfyUI
            peer.request(f"run/slow/{job_id}")
        await peer.job("first", "status", running)
        await peer.no_position("second")
        for number in range(3):
            peer.request(f"run/slow/s{number}", {"$replace": "sensor"})
        peer.request("run/slow/other", {"$replace": "another"})
        for number in range(2):
            result = await peer.result(f"s{number}")
            assert (result["state"], result["error"]["code"]) == ("cancelled", "replaced")
            assert result["error"]["details"]["by"] == f"s{number + 1}"
        for job_id in ("s2", "other"):
            assert (await peer.result(job_id))["state"] == "succeeded"


async def test_the_wait_is_estimated_by_what_earlier_runs_took(
    attached: StartBridge, broker: Mosquitto
) -> None:
    bridge = await attached({"slow": graphs.slow(0.6)})
    async with Peer(broker.url) as peer:
        await peer.listen()
        answer = await peer.ask("run/slow/j0")
        assert "eta_s" not in answer["data"]
        await peer.result("j0")
        await bridge.stop()  # what it learnt is in the journal then, if not a moment after the end
        await bridge.start()
        etas = [(await peer.ask(f"run/slow/j{number}"))["data"] for number in (1, 2, 3, 4)]
        assert etas[3]["position"] > 0
        assert etas[3]["eta_s"] > 0.6
        status = await peer.job("j1", "status", running)
        assert 0.5 < status.json["eta_s"] < 5
        progress = [message.json for message in peer.of_job("j0", "progress")]
        assert any("eta_s" in each for each in progress)
        dry = (await peer.ask("submit", {"workflow": "slow", "dry_run": True}))["data"]
        assert dry["instances"] == ["default"]
        assert dry["eta_s"] > 0
        for number in (1, 2, 3, 4):
            await peer.result(f"j{number}")


async def test_outputs_are_kept_for_as_long_as_asked_and_forgotten_on_request(
    attached: StartBridge, broker: Mosquitto
) -> None:
    await attached({"colour": graphs.colour(), "slow": graphs.slow(0.4)})

    async def fetched(job_id: str) -> Any:
        return await peer.ask("fetch", {"job_id": job_id, "inline": True})

    async with Peer(broker.url) as peer:
        await peer.listen()
        await peer.ask("run/slow/s1")
        refused = await peer.ask("keep", {"job_id": "s1", "keep_s": 5})
        assert refused["error"]["code"] == "conflict"
        assert (await peer.ask("forget", "s1"))["error"]["code"] == "conflict"
        await peer.result("s1")
        assert (await peer.ask("keep", {"job_id": "s1", "keep_s": 5}))["data"]["outputs"] == 1
        assert (await fetched("s1"))["status"] == "ok"
        assert (await peer.ask("forget", "s1"))["data"] == {"job_id": "s1", "forgotten": True}
        assert (await peer.ask("forget", "s1"))["data"]["forgotten"] is False
        assert (await fetched("s1"))["error"]["code"] == "unknown_job"
        assert "result" not in (await peer.ask("status", "s1"))["data"]
        # Its id stays taken: the same request is not run again.
        again = (await peer.ask("run/slow/s1"))["data"]
        assert (again["duplicate"], again["state"]) == (True, "succeeded")
        for verb in ("keep", "forget"):
            answer = await peer.ask(
                verb, {"job_id": "nobody", "keep_s": 1} if verb == "keep" else "nobody"
            )
            assert answer["error"]["code"] == "unknown_job"
