"""The bytes of outputs as they come: published, or fetched part by part, and verified."""

from __future__ import annotations

import asyncio
import base64
from typing import Any, Final

import msgspec
from msgspec import UNSET

from bridge.aio import sha256_of
from bridge.client.session import Session
from bridge.contract.errors import BridgeError
from bridge.contract.messages import Fetch, OutputInfo, Part
from bridge.contract.sets import FetchSet
from bridge.mqtt import Incoming

# The bytes of a part come beside the answer; not long after it, they do not come any more.
_PART_S: Final = 5.0
_ATTEMPTS: Final = 3


class Damaged(BridgeError):
    """An output's bytes are not those that the result lists, also after fetching them again."""

    code = "damaged"


class JobOutput(msgspec.Struct, frozen=True):
    """An output's bytes, verified, with the bridge's description of them."""

    info: OutputInfo
    data: bytes


class ReceivedBytes:
    """An output's bytes as they came, not yet verified."""

    def __init__(self, info: OutputInfo, data: bytes) -> None:
        self.info = info
        self.data = data
        self._sha256: str | None = None

    async def match(self, info: OutputInfo) -> bool:
        """True if these are the bytes that `info` describes."""
        if len(self.data) != info.size:
            return False
        if self._sha256 is None:
            self._sha256 = await sha256_of(self.data)
        return self._sha256 == info.sha256


class Outputs:
    """The outputs of one job, or of a set."""

    def __init__(
        self, session: Session, *, job_id: str | None = None, set_id: str | None = None
    ) -> None:
        """One of the two ids says whose they are."""
        self.received: dict[int, ReceivedBytes] = {}
        self._session = session
        self._job_id = job_id
        self._set_id = set_id
        self._parts: dict[tuple[int, int], asyncio.Future[bytes]] = {}
        self._fetching = asyncio.Lock()

    def on_message(self, levels: tuple[str, ...], message: Incoming) -> ReceivedBytes | None:
        """Note an output, which is returned, or a part. Raises ValueError."""
        match levels:
            case ("output", index):
                received = ReceivedBytes(_info(int(index), message), message.payload)
                self.received[received.info.index] = received
                return received
            case ("part", index, offset):
                expected = self._parts.get((int(index), int(offset)))
                if expected is not None and not expected.done():
                    expected.set_result(message.payload)
        return None

    async def get(self, info: OutputInfo) -> JobOutput:
        """Return the bytes of one output of the result, fetched if need be. Raises Damaged."""
        async with self._fetching:
            for attempt in range(_ATTEMPTS):
                received = self.received.get(info.index)
                if received is not None and await received.match(info):
                    return JobOutput(info, received.data)
                inline = attempt == _ATTEMPTS - 1
                data = await self._fetch(info, inline=inline)
                self.received[info.index] = ReceivedBytes(info, data)
        raise self._damaged(
            f"output {info.index} of {self._owner} does not match its SHA-256", info.index
        )

    @property
    def _owner(self) -> str:
        return f"set {self._set_id!r}" if self._job_id is None else f"job {self._job_id!r}"

    def _damaged(self, text: str, output: int) -> Damaged:
        if self._job_id is None:
            return Damaged(text, set_id=self._set_id, output=output)
        return Damaged(text, job_id=self._job_id, output=output)

    async def _fetch(self, info: OutputInfo, *, inline: bool) -> bytes:
        pieces: list[bytes] = []
        offset: int | None = 0
        while offset is not None:
            part, data = await self._part(info.index, offset, inline=inline)
            pieces.append(data)
            offset = None if part.next is UNSET or not data else part.next
        return b"".join(pieces)

    async def _part(self, index: int, offset: int, *, inline: bool) -> tuple[Part, bytes]:
        for attempt in range(_ATTEMPTS):
            here = inline or attempt == _ATTEMPTS - 1
            request = self._request(index, offset, inline=here)
            arriving: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
            self._parts[index, offset] = arriving
            try:
                part = await self._session.ask("fetch", request, Part)
                if part.base64 is not UNSET:
                    return part, base64.b64decode(part.base64)
                async with asyncio.timeout(_PART_S):
                    data = await arriving
            except TimeoutError:
                continue
            finally:
                del self._parts[index, offset]
            if len(data) == part.count:
                return part, data
        raise self._damaged(
            f"the bytes from {offset} of output {index} of {self._owner} do not come", index
        )

    def _request(self, index: int, offset: int, *, inline: bool) -> Fetch | FetchSet:
        if self._job_id is None:
            set_id = str(self._set_id)
            return FetchSet(set_id=set_id, output=index, offset=offset, inline=inline)
        return Fetch(job_id=self._job_id, output=index, offset=offset, inline=inline)


def _info(index: int, message: Incoming) -> OutputInfo:
    """Read an output's User Properties. Raises ValueError."""
    facts = dict(message.user_properties)

    def number(name: str) -> Any:
        return int(facts[name]) if name in facts else UNSET

    return OutputInfo(
        index=index,
        name=facts.get("name", str(index)),
        kind=facts.get("kind", (message.content_type or "").partition("/")[0]),
        content_type=message.content_type or "application/octet-stream",
        size=int(facts.get("size", len(message.payload))),
        sha256=facts.get("sha256", ""),
        width=number("width"),
        height=number("height"),
        filename=facts.get("filename", UNSET),
        topic=message.topic,
    )
