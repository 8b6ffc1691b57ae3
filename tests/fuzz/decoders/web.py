"""Decoders of browsers' headers, links, and messages on a socket."""

from __future__ import annotations

import json
import struct
from contextlib import suppress
from ipaddress import ip_network
from typing import Any

from bridge.adapters.web import frames as socket_frames
from bridge.adapters.web import http_headers
from bridge.contract import links
from bridge.contract.errors import Expired, Forbidden
from bridge.contract.topics import Topics
from tests.fuzz.target import Target

_LINK = links.sign(b"k" * links.KEY_BYTES, links.Link("a", "j", 0, 5)).encode()
_LINES = b'bytes=0-5\nW/"tag", *\nhost:8188'


def _headers(data: bytes) -> None:
    """Headers as a browser or a proxy writes them, one a line, and the token of a link."""
    text = data.decode("latin-1")
    first, second, third, *_ = (*text.split("\n"), "", "", "")
    with suppress(ValueError):
        span = http_headers.byte_range(first, 1000)
        assert span is None or 0 <= span[0] < span[1] <= 1000
    http_headers.etag_matches('"tag"', second)
    address = http_headers.client_address(
        peer="127.0.0.1",
        scheme="http",
        host=third,
        forwarded=(first, second, third),
        trusted=[ip_network("127.0.0.0/8")],
    )
    http_headers.origin_allowed(second, address, ["https://page.example"])
    with suppress(Expired, Forbidden):
        links.read(b"k" * links.KEY_BYTES, text, 0.0)


def _socket(data: bytes) -> None:
    for frame in (data, data.decode(errors="replace")):
        with suppress(socket_frames.MalformedFrame):
            socket_frames.read_register(frame)
        with suppress(socket_frames.MalformedFrame):
            said = socket_frames.read(frame)
            if isinstance(said, socket_frames.BridgeRequest):
                assert Topics().parse_request(Topics().request("a", *said.levels)) is not None


def _packed(header: dict[str, Any]) -> bytes:
    encoded = json.dumps(header).encode()
    return struct.pack(">I", len(encoded)) + encoded + b"data"


TARGETS = {
    "headers": Target(
        _headers,
        (
            _LINES,
            _LINK,
            b"bytes=-5\nhttp://host:8188\nhost:8188",
            b"bytes=9-2\nhttps://page.example\n[::1]:80",
            b"10.0.0.1, 127.0.0.1\nhttps\nexample.org",
            b"bytes=2000-\nnull\n[",
        ),
        {
            "bridge.adapters.web.http_headers": (
                *("byte_range", "etag_matches", "client_address", "origin_allowed"),
                *("is_in", "_last", "_origin"),
            ),
            "bridge.contract.links": ("read",),
        },
    ),
    "sockets": Target(
        _socket,
        (
            b'{"type": "register", "key": "k", "after": 5}',
            b'{"type": "run", "workflow": "demo", "job_id": "j", "inputs": {"a": 1}}',
            b'{"type": "run", "workflow": "demo", "text": "x", "transaction": 5}',
            b'{"type": "submit", "workflow": "demo"}',
            b'{"type": "link", "job_id": "j", "output": 1}',
            b'{"type": "ping", "transaction": "t"}',
            b'{"type": "upload", "upload": "u", "fin": true}',
            b'{"type": "upload", "upload": "u", "size": 5, "sha256": "0"}',
            b'{"type": "run", "workflow": "demo", "inputs": {"$a": 1}}',
            _packed({"type": "upload", "upload": "u"}),
            _packed({"type": "upload", "upload": "u", "offset": 5, "content_type": "image/png"}),
            _packed({"type": "upload", "upload": "u", "content_type": "application/json"}),
            _packed({"type": "upload", "upload": "u", "offset": -5}),
            _packed({"type": "submit"}),
        ),
        {
            "bridge.adapters.web.frames": (
                *("read_register", "read", "_request", "_run", "_upload", "_link", "_object"),
                *("_split", "_id", "_text", "_count", "_transaction"),
            )
        },
    ),
}
