"""A prompt that ends the ComfyUI that all use is refused after the second time; others go on."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from bridge.mosquitto import Mosquitto
from tests.conftest import StartBridge
from tests.end_to_end import graphs
from tests.end_to_end.test_operator import Operator
from tests.end_to_end.test_supervision import faulty, with_faults
from tests.support.peer import Peer

pytestmark = pytest.mark.comfyui


@pytest.mark.timeout(300)
async def test_a_prompt_that_ended_its_comfyui_twice_is_refused_from_then_on(
    bridges: StartBridge, broker: Mosquitto, tmp_path: Path
) -> None:
    workflows = {
        "abort": faulty("TestKill", signal=int(signal.SIGABRT)),
        "worker": faulty("TestExit"),
        "renamed": faulty("TestKill", signal=int(signal.SIGABRT)),
        "fine": graphs.slow(0.1),
    }
    await bridges(workflows=workflows, **with_faults(tmp_path))
    async with (
        Peer(broker.url, client="alice") as alice,
        Peer(broker.url, client="bob") as bob,
        Peer(broker.url, client="admin") as admin,
    ):
        operator = Operator(admin)
        await operator.listen()
        for peer in (alice, bob):
            await peer.listen()
        for name in ("abort", "worker"):
            alice.request(f"run/{name}/{name}")
            bob.request(f"run/fine/behind-{name}")
            result = await alice.result(name, timeout_s=120)
            assert (result["state"], result["attempts"]) == ("failed", 2)
            assert result["error"]["code"] == "quarantined"
            assert (await bob.result(f"behind-{name}", timeout_s=120))["state"] == "succeeded"

        # Whoever sends it, and under whatever name: it is known by its content.
        for name in ("abort", "renamed"):
            assert await refused(bob, {"workflow": name}) == "quarantined"
        assert (await bob.ask("submit", {"workflow": "fine"}))["status"] == "ok"
        # The job that met it keeps its outcome, asked for again.
        assert (await alice.ask("submit", {"workflow": "abort", "job_id": "abort"}))["data"][
            "duplicate"
        ]
        assert await operator.done("queue/release") == {"released": 2}
        # Taken again; ComfyUI's own crash loop is another test's.
        assert (await alice.ask("submit", {"workflow": "abort"}))["status"] == "ok"


async def refused(peer: Peer, request: dict[str, Any]) -> str:
    answer = await peer.ask("submit", request)
    assert answer["status"] == "error", answer
    return str(answer["error"]["code"])
