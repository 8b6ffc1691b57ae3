"""Garbage at a real server: bytes that are no request, and frames at random."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import re
import socket
import struct
from typing import Any

import pytest

from bridge.contract.requests import VERBS
from tests.adapters.web.conftest import Standing
from tests.support.patience import PATIENCE_S
from tests.support.visitor import Visitor, packed

REQUESTS = [
    b"",
    b"\0" * 1000,
    b"\x16\x03\x01\x02\0",
    b"GET\r\n\r\n",
    b"GET / HTTP/0.9\r\n\r\n",
    b"GET /\xff HTTP/1.1\r\n\r\n",
    b"GET " + b"/" * 20_000 + b" HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 1000 + b"\r\n",
    b"GET / HTTP/1.1\r\nX: " + b"y" * 20_000 + b"\r\n\r\n",
    b"GET / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello",
    b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"GET /o/%00 HTTP/1.1\r\n\r\n",
    b"GET /o/x?width=\xe2 HTTP/1.1\r\n\r\n",
    b"GET /d/x.png?" + b"a=b&" * 100 + b" HTTP/1.1\r\n\r\n",
    b"GET /ws HTTP/1.1\r\n\r\n",
    b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    (
        b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: \xff\r\n\r\n"
    ),
    b"GET / HTTP/1.1\r\nHost: x\r\nExpect: \xff\r\n\r\n",
    b"GET /ws HTTP/1.1\r\nHost: x\r\nHost: y\r\nOrigin: a\r\nOrigin: b\r\n\r\n",
    b'HEAD /nothing HTTP/1.1\r\nIf-None-Match: "\r\nRange: bytes=9-1\r\n\r\n',
]


@pytest.mark.parametrize("request_", REQUESTS, ids=range(len(REQUESTS)))
async def test_a_request_that_is_none_ends_alone(
    alone: Standing, request_: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        reader, writer = await asyncio.open_connection("127.0.0.1", alone.port)
        writer.write(request_)
        writer.write_eof()
        async with asyncio.timeout(PATIENCE_S):
            try:
                answer = await reader.read()
            except ConnectionResetError:
                answer = b""
        writer.close()
        # Python 3.11 closes the connection once the client has ended its half; from 3.12 on aiohttp
        # still answers, in the version that it read, or HTTP/1.0 where it could read none.
        assert answer == b"" or re.match(rb"HTTP/(0\.9|1\.[01]) (?!200|5)", answer)
        async with alone.visitor() as alice:
            assert (await alice.ask("ping"))["status"] == "ok"
    assert caplog.records == []


_UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


async def test_a_socket_whose_client_is_gone_at_once_is_no_error(
    alone: Standing, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", alone.port)) as one:
                one.sendall(_UPGRADE)
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        async with alone.visitor() as alice:
            assert (await alice.ask("ping"))["status"] == "ok"
    assert caplog.records == []


@pytest.mark.parametrize("seed", range(3))
async def test_frames_at_random_are_answered_or_end_their_own_connection(
    alone: Standing, seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    chance = random.Random(seed)
    with caplog.at_level(logging.ERROR):
        async with alone.visitor() as witness:
            for _ in range(20):
                await _frames(alone, chance)
            assert (await witness.ask("ping"))["status"] == "ok"
    assert caplog.records == []


async def _frames(alone: Standing, chance: random.Random) -> None:
    async with Visitor(alone.socket, alone.key(), reachable=False) as visitor:
        for _ in range(10):
            body: dict[str, Any] = {
                "type": chance.choice([*VERBS, "run", "upload", "link", "ping", "?"])
            }
            for name in chance.sample(
                ["workflow", "job_id", "upload", "offset", "inputs", "fin"], 3
            ):
                body[name] = chance.choice(["demo", "#", -1, 2**70, None, True, {"$x": []}, [[]]])
            text = json.dumps(body)
            fit: list[str | bytes] = [text, packed(body, b"x")]
            unfit: list[str | bytes] = [text[:-1], chance.randbytes(9)]
            said = chance.choice([*fit, *unfit])
            await visitor.socket.send(said)
            if said in unfit:
                assert await visitor.closed() == 4400
                return
