"""Hooks and the lock of a GPU, around jobs that a real ComfyUI runs."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.mosquitto import Mosquitto
from tests.conftest import StartBridge
from tests.end_to_end import graphs
from tests.end_to_end.test_operator import BRIDGE, Operator
from tests.hooks.ollama import Ollama
from tests.support.comfyui import Server
from tests.support.peer import Peer, no_more

pytestmark = pytest.mark.comfyui

GPU = f"{BRIDGE}/gpu/card"


async def holder(peer: Peer, name: str | None, **fields: Any) -> None:
    """Wait until this one has the GPU."""
    await peer.next(
        GPU,
        lambda message: (
            message.json.get("holder") == name and message.json.items() >= fields.items()
        ),
    )


async def test_ollama_has_left_the_gpu_before_a_job_runs_and_others_of_the_pool_go_on(
    bridges: StartBridge, comfyui: Server, broker: Mosquitto
) -> None:
    async with Ollama("llama3.2:1b") as ollama, Peer(broker.url) as peer:
        ollama.in_use = True
        mac = "a8:a1:59:12:34:56"
        asleep = {"preset": "wake-on-lan", "mac": mac, "broadcast": "127.0.0.1"}
        far = "http://127.0.0.1:9"
        await bridges(
            workflows={"colour": graphs.colour()},
            comfyui=[
                {"name": "near", "url": comfyui.url, "secret": comfyui.secret},
                {"name": "asleep", "url": far},
            ],
            hook=[
                {"name": "llm", "preset": "ollama", "url": ollama.url, "comfyui": ["near"]},
                {"name": "wake", "url": far, "comfyui": ["asleep"], "on_error": "wait", **asleep},
            ],
        )
        await peer.listen()
        await peer.subscribe(f"{BRIDGE}/health")
        with no_more(peer, f"{peer.base}/client/alice/job/j1/result"):
            await peer.ask("run/colour/j1")
            await peer.next(
                f"{BRIDGE}/health",
                lambda message: message.json["hooks"]["llm"]["state"] == "preparing",
            )
        assert ollama.loaded
        ollama.in_use = False
        result = await peer.result("j1")
        assert (result["state"], result["instance"]) == ("succeeded", "near")
        assert ollama.unloaded == ["llama3.2:1b"]
        assert not ollama.loaded
        # The tests' ComfyUI runs on the processor, and nobody says that it had a card.
        await peer.next(
            f"{BRIDGE}/health",
            lambda message: (
                message.json["gpus"]
                == {
                    "near": {"source": "comfyui", "device": "cpu"},
                    "asleep": {"source": "unknown"},
                }
            ),
        )


@pytest.mark.parametrize("finish", [True, False])
async def test_what_runs_ends_or_goes_back_before_another_program_has_the_gpu(
    attached: StartBridge, broker: Mosquitto, *, finish: bool
) -> None:
    await attached({"slow": graphs.slow(2.0)}, comfyui_gpu="card")
    async with Peer(broker.url) as peer:
        operator = Operator(peer)
        await operator.listen()
        await peer.subscribe(GPU)
        await peer.ask("run/slow/j1")
        await peer.job("j1", "status", lambda message: message.json["state"] == "running")
        asked = {"holder": "games", "priority": 5, "finish": finish}
        answer = await operator.done("gpu/request", asked)
        assert (answer["done"], answer["lease"]["holder"]) == (False, "bridge")
        await holder(peer, "games")
        await operator.state("yielded")
        if finish:
            # Nothing runs while games have the GPU: it had ended.
            first = await peer.result("j1")
            assert (first["state"], first["attempts"]) == ("succeeded", 1)
        else:
            taken = "which waits for GPU 'card', which 'games' gets next"
            await peer.job("j1", "status", lambda message: taken in message.json.get("reason", ""))
        await peer.ask("run/slow/j2")
        status = (await peer.ask("status", "j2"))["data"]
        assert status["reason"] == "ComfyUI default waits for GPU 'card', which 'games' has"
        assert (await operator.done("gpu/release", b"games"))["done"]
        await holder(peer, "bridge")
        if not finish:
            first = await peer.result("j1")
            assert (first["state"], first["attempts"]) == ("succeeded", 2)
        assert (await peer.result("j2"))["state"] == "succeeded"
