"""Partner nodes, which cost money: a real ComfyUI, and a stub in place of Comfy.org."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer, unused_port

from bridge.mosquitto import Mosquitto
from tests.conftest import StartBridge
from tests.support.comfyui import Server, running_server, supervised
from tests.support.peer import Peer

pytestmark = pytest.mark.comfyui

KEY = "comfyui-0123456789abcdef"
PORT = unused_port()
PAID: dict[str, Any] = {
    "1": {
        "class_type": "GeminiNode",
        "inputs": {"prompt": "a haiku", "model": "gemini-2.5-flash", "seed": 1},
    },
    "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}, "_meta": {"title": "poem"}},
}
FREE: dict[str, Any] = {
    "1": {"class_type": "PrimitiveString", "inputs": {"value": "hello"}},
    "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}},
}


class Stub:
    """Comfy.org as far as one node asks it; keeps what it was asked."""

    def __init__(self) -> None:
        self.keys: list[str | None] = []
        self.prompts: list[Any] = []

    async def answer(self, request: web.Request) -> web.Response:
        """Answer with a poem, or refuse and repeat the key, as a careless server would."""
        key = request.headers.get("X-API-KEY")
        prompt = (await request.json())["contents"][0]["parts"][0]["text"]
        self.keys.append(key)
        self.prompts.append(prompt)
        if prompt == "refuse":
            return web.json_response({"message": f"{key} has no credits"}, status=400)
        parts = [{"text": f"snow on {prompt}"}]
        return web.json_response(
            {"candidates": [{"content": {"role": "model", "parts": parts}}], "modelVersion": "x"}
        )


@pytest.fixture
async def stub() -> AsyncIterator[Stub]:
    stub = Stub()
    app = web.Application()
    app.router.add_post("/proxy/vertexai/gemini/{model}", stub.answer)
    server = TestServer(app, host="127.0.0.1", port=PORT)
    await server.start_server()
    yield stub
    await server.close()


@pytest.fixture(scope="module")
def comfyui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A ComfyUI that takes the stub for Comfy.org."""
    config = supervised()
    args = (*config.args, "--comfy-api-base", f"http://127.0.0.1:{PORT}")
    with running_server(
        msgspec.structs.replace(config, args=args), tmp_path_factory.mktemp("comfyui")
    ) as server:
        yield server


def key_file(folder: Path) -> Path:
    file = folder / "comfy-org.key"
    file.write_text(f"{KEY}\n")
    return file


async def test_who_may_spend_does_and_nothing_shows_the_key(
    attached: StartBridge, broker: Mosquitto, tmp_path: Path, stub: Stub
) -> None:
    metrics = f"127.0.0.1:{unused_port()}"
    bridge = await attached(
        {"paid": PAID, "free": FREE},
        comfyui_api_key_file=str(key_file(tmp_path)),
        clients={"alice": {"partner_nodes": True}},
        metrics_listen=metrics,
    )
    async with Peer(broker.url) as alice, Peer(broker.url, client="bob") as bob:
        await alice.subscribe("#")
        await bob.listen()
        described = await alice.next(
            "comfy2mqtt/workflow/paid", lambda message: "runnable" in message.json
        )
        assert described.json["runnable"] is True
        assert described.json["partner"] == ["GeminiNode"]

        refused = (await bob.ask("run/paid/b1"))["error"]
        assert refused["code"] == "forbidden"
        assert refused["details"]["setting"] == "clients.bob.partner_nodes"
        assert stub.keys == []

        poem = await ended(alice, "paid/a1", {"prompt": "the roof"})
        assert poem["state"] == "succeeded"
        output = await alice.next("comfy2mqtt/client/alice/job/a1/output/0")
        assert output.payload == b"snow on the roof"
        assert (stub.keys, stub.prompts) == ([KEY], ["the roof"])

        failed = await ended(alice, "paid/a2", {"prompt": "refuse"})
        assert failed["state"] == "failed"
        assert "***" in str(failed["error"])
        assert (await ended(alice, "free/a3"))["state"] == "succeeded"
        recipe = await alice.ask("recipe", {"job_id": "a1"})
        assert recipe["data"]["inputs"]["prompt"] == "the roof"
        async with aiohttp.ClientSession() as session:
            figures = await (await session.get(f"http://{metrics}/metrics")).text()
        assert 'comfy2mqtt_partner_prompts_total{client="alice"} 2.0' in figures
        said = b"".join(message.payload for message in alice.messages)
    assert KEY.encode() not in said
    kept = await asyncio.to_thread(everything, bridge.folder / "data")
    assert b"SQLite" in kept
    assert KEY.encode() not in kept
    assert KEY not in bridge.log


async def test_without_a_key_the_definition_says_what_is_missing(
    attached: StartBridge, broker: Mosquitto, stub: Stub
) -> None:
    await attached({"paid": PAID}, clients={"alice": {"partner_nodes": True}})
    async with Peer(broker.url) as alice:
        await alice.listen()
        await alice.subscribe("comfy2mqtt/workflow/+")
        described = await alice.next(
            "comfy2mqtt/workflow/paid", lambda message: "runnable" in message.json
        )
        assert described.json["runnable"] is False
        assert described.json["missing"]["api_key"] == ["GeminiNode"]
        error = (await alice.ask("run/paid"))["error"]
        assert error["code"] == "comfyui_unavailable"
        assert error["details"]["setting"] == "comfyui_api_key_file"
    assert stub.keys == []


def everything(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


async def ended(peer: Peer, job: str, inputs: dict[str, Any] | None = None) -> Any:
    """Run a job, and return its result."""
    assert (await peer.ask(f"run/{job}", inputs or {}))["status"] == "ok"
    topic = f"comfy2mqtt/client/{peer.client}/job/{job.rpartition('/')[2]}/result"
    return (await peer.next(topic)).json
