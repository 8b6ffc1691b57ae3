"""Hooks' requests to other programs, on small servers that speak as those do."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from bridge.hooks import calls, presets
from bridge.hooks.calls import CallFailed
from tests.hooks.ollama import Ollama
from tests.support.patience import PATIENCE_S


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look again at once, whether a program has done what it was asked for."""
    monkeypatch.setattr(presets, "_POLL_S", 0.01)


@asynccontextmanager
async def serving(
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
) -> AsyncIterator[str]:
    """A server that answers everything with one handler; its address."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    try:
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


async def test_ollama_unloads_all_its_models_each_asked_for_once() -> None:
    async with Ollama("llama3.2:1b", "nomic-embed-text:latest") as ollama:
        await presets.unload_ollama(ollama.url)
        assert ollama.loaded == set()
        assert sorted(ollama.unloaded) == ["llama3.2:1b", "nomic-embed-text:latest"]
        await presets.unload_ollama(ollama.url)
        assert len(ollama.unloaded) == 2


async def test_a_model_that_is_in_use_is_waited_for() -> None:
    async with Ollama("llama3.2:1b") as ollama:
        ollama.in_use = True
        unloading = asyncio.create_task(presets.unload_ollama(ollama.url))
        while ollama.listed < 3:  # noqa: ASYNC110 - a server that nobody is to know of
            await asyncio.sleep(0)
        assert not unloading.done()
        ollama.in_use = False
        await unloading
        assert ollama.unloaded == ["llama3.2:1b"]


async def test_llama_cpp_unloads_what_its_router_has_loaded() -> None:
    status = {"a": "loaded", "b": "unloaded", "c": "loading"}

    async def answer(request: web.Request) -> web.Response:
        if (request.method, request.path) == ("POST", "/models/unload"):
            status[(await request.json())["model"]] = "unloaded"
            return web.json_response({"success": True})
        assert (request.method, request.path) == ("GET", "/models")
        data = [{"id": name, "status": {"value": value}} for name, value in status.items()]
        return web.json_response({"object": "list", "data": data})

    async with serving(answer) as url:
        await presets.unload_llama_cpp(url)
    assert set(status.values()) == {"unloaded"}


async def test_llama_cpp_with_one_model_says_what_to_do() -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": "only.gguf", "object": "model"}]})

    async with serving(answer) as url:
        with pytest.raises(CallFailed, match="as a router"):
            await presets.unload_llama_cpp(url)


async def test_vllm_is_put_to_sleep_and_woken() -> None:
    asked: list[str] = []
    looks = iter([False, True])

    async def answer(request: web.Request) -> web.Response:
        if request.path == "/is_sleeping":
            return web.json_response({"is_sleeping": next(looks)})
        asked.append(f"{request.method} {request.path_qs}")
        return web.Response()

    async with serving(answer) as url:
        await presets.put_vllm_to_sleep(url)
        await presets.wake_vllm(url)
    assert asked == ["POST /sleep?level=1", "POST /wake_up"]
    assert next(looks, None) is None


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b'{"models": 7}', b"[1]", b'{"models": [{"name": "\xff"}]}']
)
async def test_an_answer_that_is_not_ollamas_is_an_error(body: bytes) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=body)

    async with serving(answer) as url:
        with pytest.raises(CallFailed, match="not Ollama's answer"):
            await presets.unload_ollama(url)


async def test_http_errors_are_one_line_without_password_and_query() -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=503, text="no\nroom " + "x" * 9999)

    async with serving(answer) as url:
        with pytest.raises(CallFailed) as raised:
            await calls.ask("PUT", url.replace("://", "://user:s3cret@") + "/a?token=t0ken")
    told = str(raised.value)
    assert told.startswith(f"PUT {url}/a: answered 503: no room x")
    assert len(told) < 300
    assert not {"s3cret", "t0ken"} & set(told.replace("@", " ").split())
    assert "s3cret" not in told


async def test_a_server_that_is_not_there_is_one_line() -> None:
    with pytest.raises(CallFailed, match=r"POST http://127.0.0.1:9/: .*127.0.0.1"):
        await calls.ask("POST", "http://127.0.0.1:9/")


async def test_an_answer_without_an_end_is_not_kept() -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x" * 65536)

    async with serving(answer) as url:
        with pytest.raises(CallFailed, match="larger than"):
            await calls.ask("GET", url)


async def test_what_is_sent_is_what_the_settings_say() -> None:
    seen: list[Any] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append((request.method, request.headers["A"], await request.json()))
        return web.Response(body=b"fine")

    async with serving(answer) as url:
        found = await calls.ask("PUT", url, json={"a": [1]}, headers={"A": "b"})
    assert (seen, found) == ([("PUT", "b", {"a": [1]})], b"fine")


async def test_a_command_has_to_end_well() -> None:
    await calls.run(["true"])
    with pytest.raises(CallFailed, match=r"^sh ended with 3: why not$"):
        await calls.run(["sh", "-c", "echo first >&2; echo why not >&2; exit 3"])
    with pytest.raises(CallFailed, match=r"^false ended with 1$"):
        await calls.run(["false"])
    with pytest.raises(CallFailed, match="no-such-program-here"):
        await calls.run(["no-such-program-here"])
    with pytest.raises(CallFailed, match="null"):
        await calls.run(["a\0b"])


async def test_a_command_that_takes_too_long_is_ended_with_what_it_started(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    script = f"sleep 600 & echo $! >{pids}.part; mv {pids}.part {pids}; wait"
    running = asyncio.create_task(calls.run(["sh", "-c", script]))
    while not (text := read(pids)):  # noqa: ASYNC110 - a file
        await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    # Gone, or dead and not looked at yet by its new parent.
    stat = Path(f"/proc/{text.strip()}/stat")
    async with asyncio.timeout(PATIENCE_S):
        while (state := read(stat)) and " Z " not in state:  # noqa: ASYNC110 - a file
            await asyncio.sleep(0)


def read(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""


async def test_a_machine_is_woken_until_it_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as card:
        card.bind(("127.0.0.1", 0))
        card.setblocking(False)  # noqa: FBT003 - socket's own
        monkeypatch.setattr(calls, "_WAKE_PORT", card.getsockname()[1])
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        url = f"http://127.0.0.1:{port}"
        waking = asyncio.create_task(calls.wake("00:11:22-aa:BB:ff", "127.0.0.1", url))
        packet = await asyncio.get_running_loop().sock_recv(card, 1024)
        assert packet == b"\xff" * 6 + bytes.fromhex("001122aabbff") * 16
        assert not waking.done()
        server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", port)
        async with server:
            await waking


async def test_one_that_answers_already_is_left_asleep_or_awake() -> None:
    async def answer(_: web.Request) -> web.Response:
        raise AssertionError

    async with serving(answer) as url:
        await calls.wake("00:11:22:33:44:55", "256.0.0.1", url)


async def test_a_packet_that_cannot_be_sent_is_an_error() -> None:
    with pytest.raises(CallFailed, match="cannot send to 256"):
        await calls.wake("00:11:22:33:44:55", "256.0.0.1", "http://127.0.0.1:9")
