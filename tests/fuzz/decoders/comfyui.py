"""Decoders of ComfyUI's messages, and of requests to our nodes there."""

from __future__ import annotations

import json
import struct
from collections.abc import AsyncIterator
from contextlib import suppress
from functools import cache
from typing import Any

from bridge.comfyui import frames as comfyui_frames
from tests.custom_nodes.package import load
from tests.fuzz.target import Target, loop

_FRAME = {"type": "executing", "data": {"node": "1", "prompt_id": "p"}}


def _comfyui(data: bytes) -> None:
    frame = comfyui_frames.decode(data)
    if frame is not None:
        comfyui_frames.prompt_of(frame)
    with suppress(UnicodeDecodeError):
        frame = comfyui_frames.decode(data.decode())
        if isinstance(frame, comfyui_frames.NodeExecuted):
            comfyui_frames.output_headers(frame.output or {})


class _Asked:
    """A request to one of our nodes' routes: its names in the path, and its body."""

    content_type = "image/png"
    content_length = None

    def __init__(self, names: list[str], body: bytes) -> None:
        path = dict(zip(("prompt_id", "node", "index"), (*names, "", "", ""), strict=False))
        self.match_info = {**path, "sha256": names[0]}
        self._body = body

    async def json(self) -> Any:
        return json.loads(self._body.decode())

    @property
    def content(self) -> _Asked:
        return self

    async def iter_any(self) -> AsyncIterator[bytes]:
        yield self._body


@cache
def _routes() -> Any:
    outputs = load("held").HeldOutputs(10_000)
    media, uploads = (
        load("media").HeldMedia(10_000),
        load("uploads").Uploads(lambda: "/nowhere", list),
    )
    named = {"guarded": True, "classes": {}}
    return load("routes").Routes(outputs, media, uploads, None, None, "p", [], {}, **named)


@cache
def _guard() -> Any:
    return load("guard").Guard("secret", "fuzz")


def _route(data: bytes) -> None:
    """The first line is a request's path, the second some headers' values, the rest its body."""
    path, line, body = (*data.split(b"\n", 2), b"", b"")[:3]
    names = path.decode(errors="replace").split("/")
    loop().run_until_complete(_answer_all(_Asked(names, body)))
    values = (*line.decode("latin-1").split("\t"), *5 * [""])
    wanted = ("Host", "Origin", "Sec-Fetch-Site", "Cookie", "X-Comfy2MQTT-Secret")
    headers = {name: value for name, value in zip(wanted, values, strict=False) if value}
    assert not _guard().lets_in("/prompt", headers) or headers["X-Comfy2MQTT-Secret"] == "secret"


async def _answer_all(asked: _Asked) -> None:
    routes = _routes()
    for route in (
        *(routes.put_media, routes.head_media, routes.list_outputs),
        *(routes.get_output, routes.confirm_outputs, routes.remove_uploads),
    ):
        response = await route(asked)
        assert response.status in (200, 201, 204, 400, 404, 410, 413)


TARGETS = {
    "comfyui": Target(
        _comfyui,
        (
            json.dumps(_FRAME).encode(),
            b'{"type": "executed", "data": {"prompt_id": "p", "output": {"comfy2mqtt": []}}}',
            b'{"type": "progress", "data": {"value": 1, "max": 4, "prompt_id": "p", "node": "1"}}',
            b'{"type": "execution_error", "data": {"prompt_id": "p", "x": NaN}}',
            struct.pack(">II", 1, 1) + b"\xff\xd8\xff",
            struct.pack(">II", 4, 30) + b'{"image_type": "image/jpeg"   }' + b"\xff\xd8\xff",
            struct.pack(">II", 0x43324D51, 2) + b"{}xx",
        ),
        {"bridge.comfyui.frames": ("decode", "_text", "strict_json", "_binary", "_prefixed")},
    ),
    "routes": Target(
        _route,
        (
            b"p/1/0\nlocalhost\thttp://localhost\tnone\tcomfy2mqtt-fuzz=x\n" + b'{"names": ["a"]}',
            b"a/b/c\n\n" + b'{"older_than_s": 5, "keep": []}',
            b"0" * 64 + b"\n127.0.0.1:1\t\tsame-origin\nbody",
            b"x\n\t\t\t\tsecret\n" + b"[" * 2000,
            b'x\n[::1\t//[\t\ta="\n{"names": 5}',
        ),
        {},
    ),
}
