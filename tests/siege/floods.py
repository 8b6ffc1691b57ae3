"""The floods, each by one client: `python -m tests.siege.floods NAME SECONDS`, a process each.

What it may use comes on standard input as JSON: the broker's URL, the base topic, the web adapter's
port, a key, and a job with a large picture. It prints a line when it begins, and what it sent.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import suppress
from typing import Any

import uvloop
import websockets
from msgspec import Struct

from bridge.mqtt import Address, Connection, Subscription
from tests.support.peer import Peer

# A client may send so many requests a second; a flood within its rate stays below.
RATE = 90.0
CLIENT = "mallory"
_STEP_S = 0.02


class Given(Struct, frozen=True):
    """A flood's means: addresses, a key of the web adapter, and a job of its own.

    Below another `base` than the bridge's a flood reaches nobody but the broker.
    """

    broker: str
    base: str
    port: int
    key: str
    job: str


async def paced(per_s: float, until: float) -> AsyncIterator[int]:
    """Yield numbers at a rate, in small bursts, until a time."""
    began, sent = time.monotonic(), 0
    while (now := time.monotonic()) < until:
        while sent < (now - began) * per_s:
            yield sent
            sent += 1
        await asyncio.sleep(_STEP_S)


async def requests(given: Given, until: float) -> str:
    """Requests at ten times the rate, each acknowledged."""
    count = 0
    async with Peer(given.broker, base=given.base, client=CLIENT) as peer:
        async for number in paced(1000.0, until):
            peer.request("list", {"limit": 100})
            count = number
    return f"{count} `list`, QoS 1"


async def names(given: Given, until: float) -> str:
    """Each request in the name of another client."""
    count = 0
    async with Peer(given.broker) as peer:
        async for number in paced(3000.0, until):
            topic = f"{given.base}/client/c{number}/request/status"
            peer.publish(topic, {"job_id": "none"}, qos=0)
            count = number
    return f"{count} names, QoS 0"


async def sizes(given: Given, until: float) -> str:
    """A large picture of its own in another size each time, within the rate."""
    count = 0
    async with Peer(given.broker, base=given.base, client=CLIENT) as peer:
        async for number in paced(RATE, until):
            peer.request("fetch", {"job_id": given.job, "width": 1 + number % 2000})
            count = number
    return f"{count} sizes, within the rate"


async def uploads(given: Given, until: float) -> str:
    """Uploads that are begun and left, under many names."""
    count = 0
    words = {"size": 1000, "sha256": "a" * 64}
    async with Peer(given.broker, base=given.base, client=CLIENT) as peer:
        async for number in paced(500.0, until):
            topic = f"{given.base}/client/u{number // 50}/request/upload/b{number}"
            peer.publish(topic, words, ContentType="application/json")
            count = number
    return f"{count} begun"


async def choices(given: Given, until: float) -> str:
    """Graphs with a class that is not there: ComfyUI is asked again."""
    count = 0
    async with Peer(given.broker, base=given.base, client=CLIENT) as peer:
        async for number in paced(RATE, until):
            prompt = {"1": {"class_type": f"Nowhere{number}", "inputs": {}}}
            peer.request("submit", {"prompt": prompt})
            count = number
    return f"{count} `submit`, within the rate"


async def parts(given: Given, until: float) -> str:
    """Pictures of very many parts, which take long to measure."""
    count = 0
    gif = b"GIF89a" + bytes((8, 0, 8, 0, 0, 0, 0)) + b"\x21\xf9" + b"\x01\x01" * 1_000_000
    picture = {"base64": base64.b64encode(gif).decode()}
    body = json.dumps({"workflow": "echo", "inputs": {"picture": picture}, "dry_run": True})
    async with Peer(given.broker, base=given.base, client=CLIENT) as peer:
        async for number in paced(10.0, until):
            peer.request("submit", body)
            count = number
    return f"{count} pictures of 2 MB"


async def unfinished(given: Given, until: float) -> str:
    """WebSocket messages of nearly full size that never end, with one key."""
    count = 0
    size = 15_900_000
    frame = b"\x82\xff" + size.to_bytes(8, "big") + b"mask" + bytes(size // 2)
    open_ones = []
    async for _ in paced(10.0, until):
        with suppress(OSError, websockets.WebSocketException):
            socket = await websockets.connect(f"ws://127.0.0.1:{given.port}/ws", max_size=None)
            await socket.send(json.dumps({"type": "register", "key": given.key}))
            await socket.recv()
            socket.transport.write(frame)
            open_ones.append(socket)
            count += 1
    for socket in open_ones:
        socket.transport.abort()
    return f"{count} of 8 MB"


async def bare(given: Given, until: float) -> str:
    """TCP connections that say nothing."""
    count = 0
    writers = []
    async for _ in paced(500.0, until):
        with suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", given.port)
            writers.append(writer)
            count += 1
    for writer in writers:
        writer.transport.abort()
    return f"{count} connections"


FLOODS: Mapping[str, Callable[[Given, float], Coroutine[Any, Any, str]]] = {
    "requests": requests,
    "names": names,
    "sizes": sizes,
    "uploads": uploads,
    "choices": choices,
    "parts": parts,
    "unfinished": unfinished,
    "bare": bare,
}
# Those whose victims come by the web.
BY_WEB = frozenset(("unfinished", "bare"))
# Those that a process which does nothing would hold up.
NEEDS_ANSWERS = frozenset(("unfinished",))


async def idle(given: Given) -> None:
    """Take what floods send, over MQTT and on the port, and do nothing with it."""
    accepting = await asyncio.start_server(
        lambda _reader, _writer: None, "127.0.0.1", given.port, backlog=2048
    )
    async with accepting, Connection(Address.parse(given.broker), client_id="idle") as connection:
        await connection.subscribe([Subscription(filter=f"{given.base}/#")])
        _begin()
        async for incoming in connection.messages:
            connection.ack(incoming)


def _begin() -> None:
    """Report to the parent process that the flood begins now."""
    sys.stdout.write("begins\n")
    sys.stdout.flush()


def main() -> None:
    """Run one flood for so many seconds, or the process that takes floods until it is killed.

    Its first line says that it begins: a process takes its time to start.
    """
    name, seconds = sys.argv[1:]
    given = Given(**json.load(sys.stdin))
    if name == "idle":
        uvloop.run(idle(given))
        return
    _begin()
    sent = asyncio.run(FLOODS[name](given, time.monotonic() + float(seconds)))
    sys.stdout.write(sent)


if __name__ == "__main__":
    main()
