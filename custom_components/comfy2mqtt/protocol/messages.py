"""Requests, answers and results."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any
from urllib.parse import urlsplit

from .decode import Payload, a_list, an_object, decoder, number, optional, read_object, whole

OUTCOMES = ("succeeded", "failed", "cancelled", "expired")
# What a request beside its media takes of a packet, at most.
HEADROOM = 4096
# The largest part of an upload, or of an output that is fetched, in bytes.
PART = 256 * 1024
# In seconds since the epoch.
_YEAR_9999 = 253_370_764_800
_MEDIA_TYPE = re.compile(r"[\w.+-]+/[\w.+-]+", re.ASCII)
_SHA256 = re.compile(r"[0-9a-f]{1,64}")
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
    """Return the payload of a request; fields that are None are left out.

    YAML reads an unquoted date as one: it is sent as the text that it was.
    """
    given = {name: value for name, value in fields.items() if value is not None}
    return json.dumps({**given, "transaction": transaction}, ensure_ascii=False, default=str)


@decoder("an answer")
def read_response(payload: Payload) -> Response:
    """Read an answer. Raises MalformedError."""
    found = read_object(payload)
    data = found.get("data")
    return Response(
        data if isinstance(data, dict) else {},
        optional(_error, found.get("error")),
        optional(str, found.get("transaction")),
    )


def _error(found: Any) -> RefusedError:
    details = an_object(found).get("details")
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
    """The end of a job.

    `is_partial`: only how the job ended is known, and `n` is that of the list. The bridge keeps its
    result no longer, or has no packet that it fits.
    """

    job_id: str
    workflow: str
    n: int
    state: str
    outputs: tuple[Output, ...] = ()
    error: RefusedError | None = None
    inputs: Mapping[str, Any] = field(default_factory=dict)
    is_partial: bool = False

    def first(self, kind: str) -> Output | None:
        """Return the first output of a kind."""
        return next((each for each in self.outputs if each.kind == kind), None)


@decoder("a result")
def read_result(found: Payload | Mapping[str, Any]) -> Result:
    """Read a result, as it was published or as `status` and `list` show it.

    Raises MalformedError.
    """
    if not isinstance(found, Mapping):
        found = read_object(found)
    return Result(
        job_id=str(found["job_id"]),
        workflow=str(found["workflow"]),
        n=whole(found["n"]),
        state=str(found["state"]),
        outputs=tuple(map(_output, found.get("outputs", ()))),
        error=optional(_error, found.get("error")),
        inputs=an_object(found.get("inputs", {})),
    )


def _output(found: Mapping[str, Any]) -> Output:
    return Output(
        index=whole(found["index"]),
        name=str(found["name"]),
        kind=str(found["kind"]),
        content_type=_media_type(found["content_type"]),
        size=whole(found["size"]),
        sha256=_sha256(found["sha256"]),
        width=optional(whole, found.get("width")),
        height=optional(whole, found.get("height")),
    )


def _sha256(found: Any) -> str:
    """Return a digest in hexadecimal: it names a file, and may lead to no other."""
    if _SHA256.fullmatch(found) is None:
        raise ValueError("not a SHA-256")
    return str(found)


def _media_type(found: Any) -> str:
    """Return a media type as a header can have it; what follows it says nothing of the bytes."""
    kind = str(found).partition(";")[0].strip()
    if _MEDIA_TYPE.fullmatch(kind) is None:
        raise ValueError("not a media type")
    return kind


@dataclass(frozen=True)
class Page:
    """A page of a list of jobs, each with its `n`; `after`: where to go on, None at the end."""

    jobs: list[dict[str, Any]]
    after: int | None


@decoder("a list of jobs")
def read_page(data: Mapping[str, Any], after: int) -> Page:
    """Read the answer to a `list` of what follows a number. Raises MalformedError."""
    jobs = [an_object(each) for each in a_list(data["jobs"])]
    numbers = [after, *(whole(each["n"]) for each in jobs)]
    if any(n <= before for before, n in pairwise(numbers)):
        raise ValueError("the numbers do not rise")
    return Page(jobs, numbers[-1] if jobs and data.get("more") else None)


@dataclass(frozen=True)
class Listed:
    """A result in a list; `n` is the list's, which acknowledges it, and may be a higher one.

    `accepted_at` is in seconds since the epoch.
    """

    result: Result
    n: int
    is_acked: bool
    accepted_at: float


@decoder("a job that has ended")
def read_listed(found: Any) -> Listed:
    """Read an entry of a list of jobs that have ended. Raises MalformedError."""
    listed = read_result(found)
    given = found.get("result")
    result = replace(listed, is_partial=True) if given is None else read_result(an_object(given))
    accepted_at = number(found.get("accepted_at", 0))
    if not 0 <= accepted_at < _YEAR_9999:
        raise ValueError("a time before 1970, or that no calendar has")
    return Listed(result, listed.n, bool(found.get("acked")), accepted_at)


@decoder("a job's number")
def read_number(found: Mapping[str, Any]) -> int:
    """Return the number of a job's last message. Raises MalformedError."""
    return whole(found["n"])


@decoder("a job's status")
def read_ended(found: Mapping[str, Any]) -> Result | None:
    """Return the result in a job's status; None if it has not ended. Raises MalformedError."""
    if not isinstance(found["state"], str):
        raise TypeError("a state that is no word")
    return read_listed(found).result if found["state"] in OUTCOMES else None


@dataclass(frozen=True)
class Part:
    """Bytes of an output; `next` is where the next part begins, None after the last one."""

    data: bytes
    content_type: str | None
    next: int | None


@decoder("a part of an output")
def read_part(data: Mapping[str, Any], offset: int) -> Part:
    """Read the answer to a `fetch` of what begins at an offset, inline. Raises MalformedError."""
    found = base64.b64decode(data["base64"], validate=True)
    if len(found) > PART:
        raise ValueError("more bytes than were asked for")
    following = optional(whole, data.get("next"))
    if following is not None and (not found or following != offset + len(found)):
        raise ValueError("the next part does not begin where this one ends")
    return Part(found, optional(_media_type, data.get("content_type")), following)


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


@decoder("what a bridge says of itself")
def read_info(payload: Payload) -> Info:
    """Read `bridge/info`. Raises MalformedError."""
    found = read_object(payload)
    limits = found.get("limits", {})
    return Info(
        name=str(found["name"]),
        version=str(found["version"]),
        contract=whole(found["contract"]),
        isolation=str(found.get("isolation", "unknown")),
        limits=Limits(
            max_packet=optional(whole, limits.get("max_packet")),
            max_inline_input=whole(limits.get("max_inline_input", PART)),
            max_upload=whole(limits.get("max_upload", Limits.max_upload)),
        ),
        restrictions={
            word: str(sentence) for word, sentence in found.get("restrictions", {}).items()
        },
        page=_address(found.get("page")),
    )


def _address(found: Any) -> str | None:
    """Return an address that a browser can open; None if it is none."""
    try:
        parts = urlsplit(found if isinstance(found, str) else "")
        # A port that is none is found out when it is asked for.
        is_one = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        return None
    return found if is_one else None


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


@decoder("a bridge's health")
def read_health(payload: Payload) -> Health:
    """Read `bridge/health`. Raises MalformedError."""
    found = read_object(payload)
    held = None if found.get("paused") else found.get("held")
    failed = {name: hook for name, hook in found.get("hooks", {}).items() if "error" in hook}
    return Health(
        optional(str, found.get("store")),
        optional(str, held),
        {name: str(hook["error"]) for name, hook in failed.items()},
        frozenset(name for name, hook in failed.items() if hook.get("state") == "preparing"),
    )
