"""Requests that wait for the bridge's answer, found by their Correlation Data. Pure.

Correlation Data is chosen here, never by a client, and begins with a byte that no text begins with,
so that the bridge never takes it for a `transaction`. Over MQTT 3.1.1, which has none, it is in a
request's `transaction`, as hexadecimal digits. An upload's bytes have no place for that: an answer
without a `transaction` is that of the earliest upload of the client. A part goes to the earliest
`fetch` for it.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from typing import Final

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from bridge.adapters.web.frames import JSON
from bridge.contract.errors import BridgeError
from bridge.contract.messages import Transaction, encode
from bridge.contract.reading import UNREADABLE
from bridge.contract.topics import RUN, UPLOAD

_NO_TEXT: Final = b"\xff"
_FETCH: Final = "fetch"


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
    place: tuple[str, str, int, int] | None = None
    """`job` or `set`, its id, output, offset: of a `fetch` whose parts have no Correlation Data."""
    nameless: bool = False
    """True if its answer carries nothing that names it."""


class _Fetched(Struct):
    """The fields of an answer to `fetch` that say whether its bytes come beside it."""

    count: int = 0
    base64: Raw | UnsetType = UNSET


class _PartFields(Struct):
    """The fields of a `fetch` that its parts have in their topics."""

    job_id: str = ""
    set_id: str = ""
    output: int = 0
    offset: int = 0


def named(
    levels: Sequence[str], payload: bytes, content_type: str, correlation: bytes
) -> bytes | None:
    """Return a request's payload with its `transaction`; None if it has no place for one."""
    if content_type != JSON or not payload:
        return None  # the bytes of an upload, or its end
    field = "$transaction" if levels[0] == RUN else "transaction"
    fields = msgspec.json.decode(payload, type=dict[str, Raw])
    return encode({**fields, field: correlation.hex()})


def place_of(levels: Sequence[str], payload: bytes) -> tuple[str, str, int, int] | None:
    """Return whose output a `fetch` asks for, and which part; None: it is none that is valid."""
    try:
        found = msgspec.json.decode(payload, type=_PartFields) if levels[0] == _FETCH else None
    except UNREADABLE:
        return None
    if found is None:
        return None
    whose, owner = ("set", found.set_id) if found.set_id else ("job", found.job_id)
    return whose, owner, found.output, found.offset


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
        self, client: str, verb: str, correlation: bytes | None, payload: bytes
    ) -> tuple[PendingRequest, Reply] | None:
        """Remove the request that this is the answer to; None if it is nobody's here.

        None too for one whose part has not come: it is kept for `match_part`. Raises
        UnreadableReply: the request still waits.
        """
        if correlation is None:
            correlation = self._named(client, verb, payload)
        request = self._of(client, correlation)
        if request is None or correlation is None:
            return None
        try:
            reply = _REPLY.decode(payload.decode())
        except UNREADABLE as error:
            raise UnreadableReply(str(error)) from None
        if request.part is not None and not request.has_part and _has_a_part(reply):
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
        owner, output, offset = place
        try:
            found = PartOf(owner, int(output), int(offset), *content, whose)
        except ValueError:
            return None  # not the bridge's
        if correlation is None:
            correlation = self._fetch_of(client, (whose, owner, found.output, found.offset))
        request = self._of(client, correlation)
        if request is None or request.part is None or correlation is None:
            return None
        request.has_part = True
        if request.reply is not None:
            del self._waiting[correlation]
        return request, found

    def _fetch_of(self, client: str, place: tuple[str, str, int, int]) -> bytes | None:
        """Return the Correlation Data that a part over MQTT 3.1.1 stands for."""
        mine = ((key, each) for key, each in self._waiting.items() if each.client == client)
        return next((key for key, each in mine if each.place == place and not each.has_part), None)

    def _named(self, client: str, verb: str, payload: bytes) -> bytes | None:
        """Return the Correlation Data that an answer over MQTT 3.1.1 stands for."""
        try:
            transaction = _REPLY.decode(payload).transaction
            if transaction is not UNSET:
                return bytes.fromhex(str(transaction))
        except (*UNREADABLE, ValueError):
            return None  # not the bridge's, or another program's
        if verb != UPLOAD:
            return None
        mine = (key for key, each in self._waiting.items() if each.client == client)
        return next((key for key in mine if self._waiting[key].nameless), None)

    def _of(self, client: str, correlation: bytes | None) -> PendingRequest | None:
        request = self._waiting.get(correlation or b"")
        return None if request is None or request.client != client else request


def _has_a_part(reply: Reply) -> bool:
    """Return whether an answer says that bytes are published beside it."""
    if reply.status != "ok" or reply.data is UNSET:
        return False
    try:
        fetched = _FETCHED.decode(reply.data)
    except UNREADABLE:
        return False
    return fetched.count > 0 and fetched.base64 is UNSET


class Turns:
    """Lets requests whose answers nothing distinguishes go one at a time for each key, in order."""

    def __init__(self) -> None:
        self._waiting: dict[Hashable, deque[Callable[[], None]]] = {}

    def take(self, key: Hashable, again: Callable[[], None]) -> bool:
        """Return True if nobody has the turn, which is taken; otherwise `again` is called later."""
        if key in self._waiting:
            self._waiting[key].append(again)
            return False
        self._waiting[key] = deque()
        return True

    def until(self, key: Hashable, answered: Callable[[Reply], None]) -> Callable[[Reply], None]:
        """Return an `answered` that ends the turn, too."""

        def both(reply: Reply) -> None:
            answered(reply)
            self._end(key)

        return both

    def _end(self, key: Hashable) -> None:
        waiting = self._waiting.pop(key)
        # One that fails at once has not taken its turn.
        while waiting and key not in self._waiting:
            waiting.popleft()()
        if waiting:
            self._waiting[key].extend(waiting)
