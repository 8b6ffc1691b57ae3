"""A visitor of the web adapter: a WebSocket client that is not ours, and plain HTTP."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from msgspec import Struct
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.support.patience import PATIENCE_S


class Frame(Struct, frozen=True):
    """A message to a visitor; `data` are the bytes of a binary frame."""

    header: dict[str, Any]
    data: bytes | None = None

    @property
    def type(self) -> str:
        return str(self.header["type"])

    def __getitem__(self, name: str) -> Any:
        return self.header[name]


def packed(header: dict[str, Any], data: bytes = b"") -> bytes:
    """Return a binary frame's payload."""
    encoded = json.dumps(header).encode()
    return struct.pack("!I", len(encoded)) + encoded + data


class Visitor:
    """Use as `async with Visitor(url, key) as visitor`; with a key it registers."""

    def __init__(
        self,
        url: str,
        key: str | None = None,
        *,
        after: int | None = None,
        reachable: bool = True,
        **options: Any,
    ) -> None:
        """`reachable`: having registered, wait until the adapter has its broker."""
        self.frames: list[Frame] = []
        self.registered: Frame | None = None
        self.code: int | None = None
        self.reason = ""
        self._url = url
        self._key = key
        self._after = after
        self._reachable = reachable
        self._options = options
        self._taken: set[int] = set()
        self._arrived = asyncio.Event()
        self._numbers = iter(range(1, 1_000_000))
        self.socket: ClientConnection
        self._reading: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self.socket = await connect(
            self._url, compression=None, max_size=None, proxy=None, **self._options
        )
        self._reading = asyncio.create_task(self._read())
        if self._key is not None:
            await self.say({"type": "register", "key": self._key, **self._resume_fields()})
            self.registered = await self.next("registered")
            if self._reachable:
                known = await self.next("bridge", lambda each: each["state"] != "unreachable")
                self._taken.discard(self.frames.index(known))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.socket.close()
        if self._reading is not None:
            await self._reading

    def _resume_fields(self) -> dict[str, int]:
        return {} if self._after is None else {"after": self._after}

    async def say(self, body: dict[str, Any], data: bytes | None = None) -> None:
        """Send a text frame, or with `data` a binary one."""
        await self.socket.send(json.dumps(body) if data is None else packed(body, data))

    async def ask(self, verb: str, data: bytes | None = None, **fields: Any) -> Frame:
        """Send a request and return its answer."""
        number = next(self._numbers)
        await self.say({"type": verb, "transaction": number, **fields}, data)
        return await self.next("response", lambda frame: frame.header.get("transaction") == number)

    async def result(self, job_id: str) -> Frame:
        """Wait for a job's result."""
        return await self.next("result", lambda frame: bool(frame["job_id"] == job_id))

    async def next(
        self,
        kind: str,
        where: Callable[[Frame], bool] = lambda _: True,
        timeout_s: float = PATIENCE_S,
    ) -> Frame:
        """Wait for the next frame of a type that no wait has returned before."""
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    self._arrived.clear()
                    for index, frame in enumerate(self.frames):
                        if index not in self._taken and frame.type == kind and where(frame):
                            self._taken.add(index)
                            return frame
                    assert self.code is None, f"closed: {self.code} {self.reason}"
                    await self._arrived.wait()
        except TimeoutError:
            came = [str(frame.header)[:300] for frame in self.frames]
            raise AssertionError("\n".join((f"no {kind}; what came:", *came))) from None

    def all(self, kind: str) -> list[Frame]:
        """Return every frame of a type so far."""
        return [frame for frame in self.frames if frame.type == kind]

    async def closed(self) -> int | None:
        """Wait until the other side has closed it, and return the code."""
        async with asyncio.timeout(PATIENCE_S):
            assert self._reading is not None
            await asyncio.shield(self._reading)
        return self.code

    async def _read(self) -> None:
        try:
            while True:
                self._receive(await self.socket.recv())
        except ConnectionClosed as error:
            self.code = None if error.rcvd is None else error.rcvd.code
            self.reason = "" if error.rcvd is None else error.rcvd.reason
            if self.code is None:
                self.code = 1006
        finally:
            self._arrived.set()

    def _receive(self, message: str | bytes) -> None:
        if isinstance(message, str):
            self.frames.append(Frame(json.loads(message)))
        else:
            (length,) = struct.unpack_from("!I", message)
            self.frames.append(Frame(json.loads(message[4 : 4 + length]), message[4 + length :]))
        self._arrived.set()
