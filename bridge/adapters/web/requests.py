"""Requests that wait for the bridge's answer, found by their Correlation Data. Pure.

Correlation Data is chosen here, never by a client, and begins with a byte that no text begins with,
so that the bridge never takes it for a `transaction`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Final

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from bridge.contract.errors import BridgeError
from bridge.contract.messages import Transaction

_NO_TEXT: Final = b"\xff"


class UnreadableReply(ValueError):
    """An answer is not what the contract says."""


class Reply(Struct, frozen=True):
    """An answer as the bridge gave it, or an error of our own."""

    status: str
    data: Raw | UnsetType = UNSET
    error: Raw | UnsetType = UNSET
    transaction: Transaction | UnsetType = UNSET

    @classmethod
    def refusal(cls, error: BridgeError) -> Reply:
        """Return the answer that carries an error."""
        return cls("error", error=Raw(msgspec.json.encode(error.wire())))


class PartOf(Struct, frozen=True):
    """Bytes of an output, which come beside an answer and before it.

    `owner` is the id of the job, or of the set, `whose` output it is.
    """

    owner: str
    output: int
    offset: int
    content_type: str | None
    data: bytes
    whose: str = "job"


class PendingRequest(Struct, eq=False):
    """A request that waits. `answered` is called once, `part` for each part before that."""

    client: str
    deadline: float
    answered: Callable[[Reply], None]
    part: Callable[[PartOf], None] | None = None
    has_part: bool = False
    reply: Reply | None = None
    """The answer, where the broker sent it before the part that it tells of."""


class _Fetched(Struct):
    """The fields of an answer to `fetch` that say whether its bytes come beside it."""

    count: int = 0
    base64: Raw | UnsetType = UNSET


_REPLY: Final = msgspec.json.Decoder(Reply)
_FETCHED: Final = msgspec.json.Decoder(_Fetched)


class Requests:
    """The requests that wait for an answer; `mark`: random bytes of this process."""

    def __init__(self, mark: bytes) -> None:
        self._mark = _NO_TEXT + mark
        self._numbers = itertools.count()
        self._waiting: dict[bytes, PendingRequest] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def correlation(self) -> bytes:
        """Return Correlation Data that no other request has."""
        return self._mark + next(self._numbers).to_bytes(8, "big")

    def add(self, correlation: bytes, request: PendingRequest) -> None:
        """Add a request; its deadline must not be before that of the last one."""
        self._waiting[correlation] = request

    def remove(self, correlation: bytes) -> PendingRequest | None:
        """Remove a request, None if it waits no more."""
        return self._waiting.pop(correlation, None)

    def remove_all(self) -> list[PendingRequest]:
        """Remove all requests."""
        found = list(self._waiting.values())
        self._waiting.clear()
        return found

    @property
    def next_deadline(self) -> float | None:
        """The earliest deadline, None if no request waits."""
        return next((each.deadline for each in self._waiting.values()), None)

    def remove_expired(self, now: float) -> list[PendingRequest]:
        """Remove the requests whose deadline has come."""
        found = [key for key, each in self._waiting.items() if each.deadline <= now]
        return [self._waiting.pop(key) for key in found]

    def match_reply(
        self, client: str, correlation: bytes | None, payload: bytes
    ) -> tuple[PendingRequest, Reply] | None:
        """Remove the request that this is the answer to; None if it is nobody's here.

        None too for one whose part has not come: it is kept for `match_part`. Raises
        UnreadableReply: the request still waits.
        """
        request = self._of(client, correlation)
        if request is None or correlation is None:
            return None
        try:
            reply = _REPLY.decode(payload.decode())
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            raise UnreadableReply(str(error)) from None
        if request.part is not None and not request.has_part and _tells_of_a_part(reply):
            request.reply = reply  # the broker does not keep the order
            return None
        del self._waiting[correlation]
        return request, reply

    def match_part(
        self,
        client: str,
        correlation: bytes | None,
        place: tuple[str, str, str],
        content: tuple[str | None, bytes],
        whose: str = "job",
    ) -> tuple[PendingRequest, PartOf] | None:
        """Return the request that a part is for, and the part; None if it is nobody's here.

        `place`: the id of the job or set, output and offset, as they stand in the topic. `content`:
        type and bytes. `whose`: `job` or `set`. With a `reply` the request is answered: it is
        removed.
        """
        request = self._of(client, correlation)
        if request is None or request.part is None or correlation is None:
            return None
        owner, output, offset = place
        try:
            found = PartOf(owner, int(output), int(offset), *content, whose)
        except ValueError:
            return None  # not the bridge's
        request.has_part = True
        if request.reply is not None:
            del self._waiting[correlation]
        return request, found

    def _of(self, client: str, correlation: bytes | None) -> PendingRequest | None:
        request = self._waiting.get(correlation or b"")
        return None if request is None or request.client != client else request


def _tells_of_a_part(reply: Reply) -> bool:
    """Return whether an answer says that bytes are published beside it."""
    if reply.status != "ok" or reply.data is UNSET:
        return False
    try:
        fetched = _FETCHED.decode(reply.data)
    except msgspec.MsgspecError:
        return False
    return fetched.count > 0 and fetched.base64 is UNSET
