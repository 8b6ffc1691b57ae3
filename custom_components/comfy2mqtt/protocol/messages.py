"""Requests, answers and results."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from .definitions import MalformedError, Payload, read_object

OUTCOMES = ("succeeded", "failed", "cancelled", "expired")
# What a request beside its media takes of a packet, at most.
HEADROOM = 4096
# The largest part of an upload, or of an output that is fetched, in bytes.
PART = 256 * 1024
# Of what is allowed a refusal names so much.
_SHOWN = 10


class RefusedError(Exception):
    """The bridge refused a request: a stable code, a sentence, and what is allowed."""

    def __init__(self, code: str, message: str, details: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = dict(details or {})

    @property
    def sentence(self) -> str:
        """The message, with what is allowed or is like it, and the setting that decides that."""
        found = self.message
        for name, words in (("near", "like it"), ("allowed", "allowed")):
            values = self.details.get(name)
            if isinstance(values, list) and values:
                rest = len(values) > _SHOWN or bool(self.details.get("more"))
                shown = ", ".join(map(str, values[:_SHOWN]))
                found += f"; {words}: {shown}{', …' if rest else ''}"
                break
        setting = self.details.get("setting")
        return found if setting is None else f"{found}; the bridge's setting {setting} decides that"


@dataclass(frozen=True)
class Response:
    """The answer to one request; `transaction` is that of the request, as it came back."""

    data: Mapping[str, Any]
    error: RefusedError | None
    transaction: str | None


def request(transaction: str, fields: Mapping[str, Any]) -> str:
    """Return the payload of a request; fields that are None are left out."""
    given = {name: value for name, value in fields.items() if value is not None}
    return json.dumps({**given, "transaction": transaction}, ensure_ascii=False)


def read_response(payload: Payload) -> Response:
    """Read an answer. Raises MalformedError."""
    found = read_object(payload)
    transaction = found.get("transaction")
    data, error = found.get("data"), found.get("error")
    return Response(
        data if isinstance(data, dict) else {},
        None if error is None else _error(error),
        None if transaction is None else str(transaction),
    )


def _error(found: Any) -> RefusedError:
    if not isinstance(found, dict):
        raise MalformedError("an error that is no object")
    details = found.get("details")
    return RefusedError(
        str(found.get("code", "error")),
        str(found.get("message", "")),
        details if isinstance(details, dict) else {},
    )


@dataclass(frozen=True)
class Output:
    """One output of a job; `size` in bytes, `width` and `height` in pixels."""

    index: int
    name: str
    kind: str
    content_type: str
    size: int
    sha256: str
    width: int | None = None
    height: int | None = None


@dataclass(frozen=True)
class Result:
    """The end of a job."""

    job_id: str
    workflow: str
    n: int
    state: str
    outputs: tuple[Output, ...] = ()
    error: RefusedError | None = None
    inputs: Mapping[str, Any] = field(default_factory=dict)

    def first(self, kind: str) -> Output | None:
        """Return the first output of a kind."""
        return next((each for each in self.outputs if each.kind == kind), None)


def read_result(found: Payload | Mapping[str, Any]) -> Result:
    """Read a result, as it was published or as `status` and `list` show it.

    Raises MalformedError.
    """
    if not isinstance(found, Mapping):
        found = read_object(found)
    try:
        error = found.get("error")
        return Result(
            job_id=str(found["job_id"]),
            workflow=str(found["workflow"]),
            n=int(found["n"]),
            state=str(found["state"]),
            outputs=tuple(_output(each) for each in found.get("outputs", ())),
            error=None if error is None else _error(error),
            inputs=dict(found.get("inputs", {})),
        )
    except (KeyError, TypeError, ValueError) as problem:
        raise MalformedError(f"not a result: {problem!r}") from None


@dataclass(frozen=True)
class Listed:
    """A result in a list; `n` is the list's, which acknowledges it, and may be a higher one."""

    result: Result
    n: int
    is_acked: bool


def read_listed(found: Any) -> Listed:
    """Read an entry of a list of jobs that have ended. Raises MalformedError.

    A result that fits no packet is left out there: only how the job has ended is known then.
    """
    given = found.get("result", found) if isinstance(found, Mapping) else None
    if not isinstance(given, Mapping):
        raise MalformedError("an entry of a list, or its result, that is no object")
    return Listed(read_result(given), read_result(found).n, bool(found.get("acked")))


def _output(found: Mapping[str, Any]) -> Output:
    return Output(
        index=int(found["index"]),
        name=str(found["name"]),
        kind=str(found["kind"]),
        content_type=str(found["content_type"]),
        size=int(found["size"]),
        sha256=str(found["sha256"]),
        width=found.get("width"),
        height=found.get("height"),
    )


@dataclass(frozen=True)
class Part:
    """Bytes of an output, from `offset` on; `next` is where the next part begins."""

    data: bytes
    next: int | None


def read_part(data: Mapping[str, Any]) -> Part:
    """Read the answer to a `fetch` with its bytes inline. Raises MalformedError."""
    try:
        following = data.get("next")
        return Part(
            base64.b64decode(data["base64"], validate=True),
            None if following is None else int(following),
        )
    except (KeyError, TypeError, ValueError, binascii.Error) as error:
        raise MalformedError(f"not a part of an output: {error!r}") from None


def inline(data: bytes, content_type: str) -> dict[str, str]:
    """Return bytes as an input that travels in the request."""
    return {"base64": base64.b64encode(data).decode(), "content_type": content_type}


@dataclass(frozen=True)
class Limits:
    """The bridge's limits in bytes; a packet's limit is None if there is none."""

    max_packet: int | None = None
    max_inline_input: int = PART
    max_upload: int = 64 * 1024 * 1024

    def fits_inline(self, size: int) -> bool:
        """Return True if so many bytes may travel in a request: base64 takes a third more."""
        room = self.max_inline_input
        if self.max_packet is not None:
            room = min(room, (self.max_packet - HEADROOM) * 3 // 4)
        return size <= min(room, PART)

    @property
    def part(self) -> int:
        """The largest size in bytes of one part of an upload."""
        if self.max_packet is None:
            return PART
        return max(1, min(PART, self.max_packet - HEADROOM))


@dataclass(frozen=True)
class Info:
    """The bridge; `contract` is the version of its messages.

    `restrictions` are what its broker does not offer: a sentence by a stable word. `page` is the
    address of its page for browsers.
    """

    name: str
    version: str
    contract: int
    isolation: str = "unknown"
    limits: Limits = Limits()
    restrictions: Mapping[str, str] = field(default_factory=dict)
    page: str | None = None


def read_info(payload: Payload) -> Info:
    """Read `bridge/info`. Raises MalformedError."""
    found = read_object(payload)
    try:
        limits = found.get("limits", {})
        packet = limits.get("max_packet")
        return Info(
            name=str(found["name"]),
            version=str(found["version"]),
            contract=int(found["contract"]),
            isolation=str(found.get("isolation", "unknown")),
            limits=Limits(
                max_packet=None if packet is None else int(packet),
                max_inline_input=int(limits.get("max_inline_input", PART)),
                max_upload=int(limits.get("max_upload", Limits.max_upload)),
            ),
            restrictions=dict(found.get("restrictions", {})),
            page=_address(found.get("page")),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise MalformedError(f"not what a bridge says of itself: {error!r}") from None


def _address(found: Any) -> str | None:
    """Return an address that a browser can open; None if it is none."""
    try:
        is_one = isinstance(found, str) and urlsplit(found).scheme in ("http", "https")
        return found if is_one and urlsplit(found).hostname else None
    except ValueError:
        return None


@dataclass(frozen=True)
class Health:
    """The health of a bridge, as it says it itself.

    `store` is what is wrong with its store of large outputs, `held` why no job starts though nobody
    has paused the queue. `failed_hooks` are the errors of the hooks whose last call failed,
    `holding` those among them for which jobs wait.
    """

    store: str | None = None
    held: str | None = None
    failed_hooks: Mapping[str, str] = field(default_factory=dict)
    holding: frozenset[str] = frozenset()


def read_health(payload: Payload) -> Health:
    """Read `bridge/health`. Raises MalformedError."""
    found = read_object(payload)
    try:
        store, held = found.get("store"), found.get("held")
        is_paused = bool(found.get("paused"))
        failed = {
            str(name): hook for name, hook in found.get("hooks", {}).items() if "error" in hook
        }
        return Health(
            None if store is None else str(store),
            None if held is None or is_paused else str(held),
            {name: str(hook["error"]) for name, hook in failed.items()},
            frozenset(name for name, hook in failed.items() if hook.get("state") == "preparing"),
        )
    except (TypeError, AttributeError) as error:
        raise MalformedError(f"not a bridge's health: {error!r}") from None
