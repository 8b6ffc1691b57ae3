"""Hooks around jobs that a real ComfyUI runs."""

from __future__ import annotations

import pytest

from bridge.mosquitto import Mosquitto
from tests.conftest import StartBridge
from tests.end_to_end import graphs
from tests.end_to_end.test_operator import BRIDGE
from tests.hooks.ollama import Ollama
from tests.support.comfyui import Server
from tests.support.peer import Peer, no_more

pytestmark = pytest.mark.comfyui


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
