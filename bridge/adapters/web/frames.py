"""The frames on a socket, in both directions, read and built. Pure.

Text frames are JSON objects with a `type`; binary frames are four bytes, the length of the header
(big-endian), the header, a JSON object, and bytes. docs/websocket.md has them all.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from bridge.contract.errors import BadRequest, BridgeError, Error
from bridge.contract.messages import Count, Id, SetId, Transaction, encode
from bridge.contract.reading import UNREADABLE, decoded
from bridge.contract.requests import VERBS, main_type
from bridge.contract.topics import FIN, RUN, UPLOAD, is_id

JSON: Final = "application/json"
LINK: Final = "link"
PING: Final = "ping"
_BYTES: Final = "application/octet-stream"
_TYPES: Final = sorted([*VERBS, RUN, UPLOAD, LINK, PING])
_HEADER: Final = struct.Struct("!I")
_LONGEST_HEADER: Final = 16 * 1024


class MalformedFrame(ValueError):
    """A frame that cannot be read: its sender does not speak this protocol."""


class Register(Struct, frozen=True, kw_only=True):
    """The first message: a key, and the last `n` that the client has seen."""

    type: Annotated[str, Meta(pattern=r"\Aregister\Z")]
    key: Annotated[str, Meta(max_length=200)]
    after: Count | UnsetType = UNSET


class BridgeRequest(Struct, frozen=True, kw_only=True):
    """A request for the bridge: its topic's levels below `request/`, and its payload."""

    levels: tuple[str, ...]
    payload: bytes
    content_type: str = JSON
    transaction: Transaction | UnsetType = UNSET

    @property
    def verb(self) -> str:
        """The request's verb."""
        return self.levels[0]


class LinkRequest(Struct, frozen=True, kw_only=True):
    """A request for a link to an output of a job, or of a set, which is answered here."""

    job_id: Id | UnsetType = UNSET
    set_id: SetId | UnsetType = UNSET
    output: Count = 0
    transaction: Transaction | UnsetType = UNSET


class PingRequest(Struct, frozen=True, kw_only=True):
    """A request that is answered here and does nothing."""

    transaction: Transaction | UnsetType = UNSET


class RefusedRequest(Struct, frozen=True, kw_only=True):
    """A request that is refused here, and the error to answer."""

    verb: str
    error: Error
    transaction: Transaction | UnsetType = UNSET


ClientFrame = BridgeRequest | LinkRequest | PingRequest | RefusedRequest

_OBJECT: Final = msgspec.json.Decoder(dict[str, Raw])
_TEXT: Final = msgspec.json.Decoder(str)
_REGISTER: Final = msgspec.json.Decoder(Register)
_LINK: Final = msgspec.json.Decoder(LinkRequest)
_OFFSET: Final = msgspec.json.Decoder(Annotated[int, Meta(ge=0, lt=10**15)])
_TRANSACTION: Final[msgspec.json.Decoder[Transaction]] = msgspec.json.Decoder(Transaction)


def read_register(frame: str | bytes) -> Register:
    """Read a connection's first frame. Raises MalformedFrame."""
    if isinstance(frame, bytes):
        raise MalformedFrame("the first message must be a text frame")
    try:
        return _REGISTER.decode(frame)
    except UNREADABLE:
        raise MalformedFrame('the first message must be {"type": "register", "key": ...}') from None


def read(frame: str | bytes) -> ClientFrame:
    """Read a frame of a registered client. Raises MalformedFrame."""
    if isinstance(frame, str):
        fields, data = _object(frame), None
    else:
        fields, data = _split(frame)
    verb = _text(fields.pop("type", None)) or ""
    transaction: Transaction | UnsetType = UNSET
    try:
        if "transaction" in fields:
            transaction = _transaction(fields["transaction"])
        return _request(verb, fields, data, transaction)
    except BridgeError as error:
        return RefusedRequest(verb=verb, error=error.wire(), transaction=transaction)


def _request(
    verb: str, fields: dict[str, Raw], data: bytes | None, transaction: Transaction | UnsetType
) -> ClientFrame:
    if data is not None and verb != UPLOAD:
        raise BadRequest("binary frames are for uploads", field="type", allowed=[UPLOAD])
    if verb == UPLOAD:
        return _upload(fields, data, transaction)
    if verb == RUN:
        return _run(fields, transaction)
    if verb in VERBS:
        return BridgeRequest(levels=(verb,), payload=encode(fields), transaction=transaction)
    if verb == LINK:
        return _link(fields)
    if verb == PING:
        return PingRequest(transaction=transaction)
    raise BadRequest(f"unknown type {verb!r}", field="type", allowed=_TYPES)


def _run(fields: dict[str, Raw], transaction: Transaction | UnsetType) -> BridgeRequest:
    """Read `run`: inputs by name, and `submit`'s fields under names that begin with `$`."""
    levels = [RUN, _id(fields, "workflow")]
    if "job_id" in fields:
        levels.append(_id(fields, "job_id"))
    try:
        inputs = _OBJECT.decode(fields.pop("inputs", Raw(b"{}")))
    except UNREADABLE:
        raise BadRequest("inputs: expected an object", field="inputs") from None
    named = [name for name in inputs if name.startswith("$")]
    if named:
        raise BadRequest(f"no input is called {named[0]!r}", field="inputs")
    payload = encode({**inputs, **{f"${name}": value for name, value in fields.items()}})
    return BridgeRequest(levels=tuple(levels), payload=payload, transaction=transaction)


def _upload(
    fields: dict[str, Raw], data: bytes | None, transaction: Transaction | UnsetType
) -> BridgeRequest:
    levels = [UPLOAD, _id(fields, "upload")]
    if data is None:
        if bytes(fields.pop(FIN, b"")) == b"true":
            return BridgeRequest(levels=(*levels, FIN), payload=b"", transaction=transaction)
        return BridgeRequest(levels=tuple(levels), payload=encode(fields), transaction=transaction)
    if "offset" in fields:
        levels.append(str(_count(fields.pop("offset"))))
    content_type = _text(fields.pop("content_type", None)) or _BYTES
    if main_type(content_type) == JSON:
        content_type = _BYTES  # it is an upload, not the announcement of one
    return BridgeRequest(
        levels=tuple(levels), payload=data, content_type=content_type, transaction=transaction
    )


def _link(fields: dict[str, Raw]) -> LinkRequest:
    found: LinkRequest = decoded(_LINK, encode(fields), LinkRequest)
    if (found.job_id is UNSET) == (found.set_id is UNSET):
        raise BadRequest("give one of job_id and set_id", field="job_id")
    return found


def _object(text: str | bytes) -> dict[str, Raw]:
    try:
        return _OBJECT.decode(text)
    except UNREADABLE:
        raise MalformedFrame("expected a JSON object") from None


def _split(frame: bytes) -> tuple[dict[str, Raw], bytes]:
    """Split a binary frame into header and bytes."""
    if len(frame) < _HEADER.size:
        raise MalformedFrame("a binary frame begins with the length of its header")
    (length,) = _HEADER.unpack_from(frame)
    end = _HEADER.size + length
    if length > _LONGEST_HEADER or end > len(frame):
        raise MalformedFrame(f"a binary frame of {len(frame)} bytes with a header of {length}")
    try:
        header = frame[_HEADER.size : end].decode()
    except UnicodeDecodeError:
        raise MalformedFrame("the header is not UTF-8") from None
    return _object(header), frame[end:]


def _id(fields: dict[str, Raw], name: str) -> str:
    value = _text(fields.pop(name, None))
    if value is None:
        raise BadRequest(f"{name}: required", field=name)
    if not is_id(value):
        raise BadRequest(f"{name}: expected 1 to 64 of A-Z a-z 0-9 _ -", field=name)
    return value


def _text(raw: Raw | None) -> str | None:
    if raw is None:
        return None
    try:
        return _TEXT.decode(raw)
    except msgspec.MsgspecError:
        return None


def _count(raw: Raw) -> int:
    try:
        offset: int = _OFFSET.decode(raw)
    except msgspec.MsgspecError:
        raise BadRequest("offset: expected a number of bytes", field="offset") from None
    return offset


def _transaction(raw: Raw) -> Transaction:
    try:
        return _TRANSACTION.decode(raw)
    except msgspec.MsgspecError:
        raise BadRequest(
            "transaction: expected a number, or text up to 256 characters", field="transaction"
        ) from None


# Frames to clients.


def text(kind: str, body: Any = None) -> bytes:
    """Return a text frame: `type`, and the fields of a message or mapping."""
    encoded = b"{}" if body is None else encode(body)
    return spliced(kind, encoded)


def spliced(kind: str, body: bytes) -> bytes:
    """Return a text frame: `type`, and the fields of a JSON object as it was encoded."""
    head = b'{"type":' + encode(kind)
    rest = body.strip()[1:]
    separator = b"" if rest.lstrip() == b"}" else b","
    return framed(head + separator + rest, binary=False)


def binary(header: Mapping[str, Any], data: bytes) -> bytes:
    """Return a binary frame."""
    encoded = encode(header)
    return framed(b"".join((_HEADER.pack(len(encoded)), encoded, data)), binary=True)


def framed(payload: bytes, *, binary: bool) -> bytes:
    """Return an unmasked frame, whole (RFC 6455, 5.2): the same bytes for every connection."""
    opcode = 0x82 if binary else 0x81
    size = len(payload)
    if size < 126:  # noqa: PLR2004 - the three forms of a length
        head = struct.pack("!BB", opcode, size)
    elif size < 1 << 16:
        head = struct.pack("!BBH", opcode, 126, size)
    else:
        head = struct.pack("!BBQ", opcode, 127, size)
    return head + payload
