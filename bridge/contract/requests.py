"""Reading requests: from a payload's bytes to one typed request, or a clear error.

`submit` and the other verbs take JSON objects. `run` is the simple form: what it takes is decided
by the payload alone, so that a button, a shell line and a camera can all use it.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from bridge.contract.errors import BadRequest, TooLarge
from bridge.contract.messages import (
    MAX_META,
    MAX_META_NESTING,
    MAX_TRANSACTION,
    Ack,
    BeginUpload,
    Cancel,
    Fetch,
    Forget,
    Keep,
    List,
    Recipe,
    Request,
    Status,
    Submit,
    Transaction,
    Workflows,
)
from bridge.contract.reading import DEEPEST, UNREADABLE, decoded, is_deeper, text_of, unfit
from bridge.contract.sets import (
    CancelSet,
    FetchSet,
    ForgetSet,
    KeepSet,
    PauseSet,
    ResumeSet,
    SetRequest,
    StatusSet,
)
from bridge.contract.sources import Inline
from bridge.contract.topics import RUN, UPLOAD
from bridge.text import as_utf8, did_you_mean

# A verb is a Struct and a row here.
VERBS: dict[str, type[Request | SetRequest]] = {
    "submit": Submit,
    "cancel": Cancel,
    "status": Status,
    "list": List,
    "ack": Ack,
    "fetch": Fetch,
    "keep": Keep,
    "forget": Forget,
    "recipe": Recipe,
    "pause": PauseSet,
    "resume": ResumeSet,
    "workflows": Workflows,
}
# What a verb takes that names a set instead of a job.
SET_VERBS: dict[str, type[SetRequest]] = {
    "cancel": CancelSet,
    "status": StatusSet,
    "keep": KeepSet,
    "forget": ForgetSet,
    "fetch": FetchSet,
}
_DECODERS = {verb: msgspec.json.Decoder(kind) for verb, kind in VERBS.items()}
_SET_DECODERS = {verb: msgspec.json.Decoder(kind) for verb, kind in SET_VERBS.items()}
# Verbs that need only a job id take it as plain text too: `mosquitto_pub -m my-job`.
_BY_JOB_ID = ("cancel", "status", "forget", "recipe")

# The fields that make a set, of which a request has one.
SET_WAYS = ("each", "grid", "repeat")
_NOT_IN_SETS = {
    "job_id": "a set is named by `set_id`, and its jobs after it",
    "replace": "the jobs of a set would replace each other",
    "dry_run": "it shows one job",
}
_OF_SETS = {"set_id": "names a set", "collect": "is for sets"}
_SUBMIT_FIELDS = frozenset(Submit.__struct_fields__) - {"inputs"}


class Text(Struct, frozen=True):
    """The main text input, as a bare payload."""

    text: str


class Run(Struct, frozen=True):
    """A request on `run`: `submit`'s fields, and what the payload itself stands for."""

    submit: Submit
    main: Text | Inline | None = None


class _TransactionOnly(Struct):
    transaction: Transaction | UnsetType = UNSET


class _SetName(Struct):
    set_id: Raw | UnsetType = UNSET


def decode(verb: str, payload: bytes) -> Request | SetRequest:
    """Decode the payload of a request other than `run`.

    Raises BadRequest, its details naming the field and what is allowed there.
    """
    decoder = _DECODERS.get(verb)
    if decoder is None:
        allowed = sorted([*VERBS, RUN, UPLOAD])
        raise BadRequest(f"unknown verb {verb!r}{did_you_mean(verb, allowed)}", allowed=allowed)
    payload = as_utf8(payload)
    if verb in _BY_JOB_ID and payload[:1] not in (b"", b"{"):
        payload = msgspec.json.encode({"job_id": text_of(payload).strip()})
    if verb in SET_VERBS and _names_set(payload):
        about_set: SetRequest = decoded(_SET_DECODERS[verb], payload, SET_VERBS[verb])
        return about_set
    request: Request | SetRequest = decoded(decoder, payload or b"{}", VERBS[verb])
    if isinstance(request, Submit):
        _check_submit(request)
    return request


def decode_run(
    workflow: str,
    job_id: str | None,
    payload: bytes,
    content_type: str | None = None,
    user_properties: list[tuple[str, str]] | None = None,
) -> Run:
    """Decode the payload of a `run` request.

    Empty: the defaults. A JSON object: inputs by name, with `submit`'s fields under names that
    begin with `$`, and the main text input as `$text`. A JSON number or string, or any other text:
    the main text input. Bytes that are no text, or that a Content Type calls an image, audio or
    video: the main media input, with the User Properties `input.<name>` and `$<field>` beside it.
    What begins with `{` must be valid JSON. A byte order mark, UTF-16 and NULs at the end of a text
    are read as what they stand for.
    """
    fields: dict[str, Any] = {"workflow": workflow}
    if job_id is not None:
        fields["job_id"] = job_id
    plain = as_utf8(payload)
    main = _main(payload, plain, content_type)
    given: dict[str, Any] = {}
    if main is None and plain.strip():
        given = decoded(_OBJECT, plain, Submit)
        main = _named_text(given)
    elif isinstance(main, Inline):
        given = {
            name.removeprefix("input."): value
            for name, value in user_properties or []
            if name.startswith(("input.", "$"))
        }
    inputs = {name: value for name, value in given.items() if not name.startswith("$")}
    for name, value in given.items():
        if name.startswith("$"):
            _set_field(fields, name, value)
    try:
        # A User Property is always a string, whatever it stands for.
        strict = not isinstance(main, Inline)
        submit = msgspec.convert({**fields, "inputs": inputs}, Submit, strict=strict)
    except msgspec.ValidationError as error:
        raise unfit(error, Submit) from None
    _check_submit(submit)
    return Run(submit, main)


def decode_begin_upload(payload: bytes, content_type: str | None = None) -> BeginUpload | None:
    """Read how an upload in parts begins; None for a payload that is the upload itself.

    A payload that begins with `{` announces an upload, unless its Content Type says that it is
    something else than JSON. Raises BadRequest.
    """
    if as_utf8(payload)[:1] != b"{" or not _may_be_json(content_type):
        if not payload:
            raise BadRequest("an upload must not be empty")
        return None
    begin: BeginUpload = decoded(_BEGIN_UPLOAD, payload, BeginUpload)
    return begin


def transaction_of(payload: bytes, correlation_data: bytes | None) -> Transaction | UnsetType:
    """Return the transaction of a request that could not be read, as far as it can be found.

    Also of one whose other fields are wrong, so that its error finds the way back.
    """
    payload = as_utf8(payload)
    if payload.lstrip()[:1] == b"{":
        try:
            found = msgspec.json.decode(payload, type=_TransactionOnly).transaction
        except UNREADABLE:
            found = UNSET
        if found is not UNSET:
            return found
    return correlated(correlation_data)


def correlated(correlation_data: bytes | None) -> str | UnsetType:
    """Return MQTT's Correlation Data as a transaction, if it is text."""
    if not correlation_data:
        return UNSET
    try:
        text = correlation_data.decode()
    except UnicodeDecodeError:
        return UNSET
    return text if len(text) <= MAX_TRANSACTION else UNSET


_OBJECT: msgspec.json.Decoder[dict[str, Any]] = msgspec.json.Decoder(dict[str, Any])
_JSON: msgspec.json.Decoder[Any] = msgspec.json.Decoder()
# Fields whose values are any JSON, as it was decoded.
_OF_ANY_JSON = ("inputs", "prompt", "each", "grid")
# Fields that are objects or lists of them, wherever they stand.
_NOT_TEXT = ("output", "put", "webhook", "collect")
_NAMED = msgspec.json.Decoder(_SetName)
_BEGIN_UPLOAD = msgspec.json.Decoder(BeginUpload)
_SCALAR: msgspec.json.Decoder[str | int | float] = msgspec.json.Decoder(str | int | float)
_MEDIA_TYPES = ("image/", "audio/", "video/", "application/octet-stream")


def _names_set(payload: bytes) -> bool:
    try:
        return _NAMED.decode(payload).set_id is not UNSET
    except UNREADABLE:
        return False


def _may_be_json(content_type: str | None) -> bool:
    return content_type is None or main_type(content_type) == "application/json"


def main_type(content_type: str) -> str:
    """Return a Content Type without its parameters, in lower case (RFC 9110, 8.3.1)."""
    return content_type.partition(";")[0].strip().lower()


def _main(payload: bytes, plain: bytes, content_type: str | None) -> Text | Inline | None:
    """Return a payload's main input; None for inputs by name. `plain` is it as UTF-8, if a text."""
    if payload and content_type and main_type(content_type).startswith(_MEDIA_TYPES):
        return Inline(payload, content_type)
    try:
        text = plain.decode()
    except UnicodeDecodeError:
        if plain.lstrip()[:1] == b"{":
            raise BadRequest("the payload begins with { but is not UTF-8") from None
        return Inline(payload, content_type)
    stripped = text.strip()
    if not stripped or stripped.startswith("{"):
        return None
    try:
        scalar = _SCALAR.decode(stripped)
    except (msgspec.MsgspecError, RecursionError):
        return Text(text)
    # A number stays as it was typed: 007 is text, and 7 becomes "7".
    return Text(scalar if isinstance(scalar, str) else stripped)


def _named_text(given: dict[str, Any]) -> Text | None:
    """Take the main text input out of an object, if it is given beside others."""
    text = given.pop("$text", None)
    if text is not None and not isinstance(text, str):
        raise BadRequest("$text: expected text", field="$text")
    return None if text is None else Text(text)


def _set_field(fields: dict[str, Any], name: str, value: Any) -> None:
    field = name.removeprefix("$")
    if field not in _SUBMIT_FIELDS or field in ("workflow", "prompt"):
        named = {*_SUBMIT_FIELDS, "text"} - {"workflow", "prompt"}
        allowed = sorted(f"${name}" for name in named)
        meant = did_you_mean(name, allowed)
        raise BadRequest(f"unknown field {name!r}{meant}", field=name, allowed=allowed)
    if field == "job_id" and fields.get("job_id", value) != value:
        raise BadRequest("the topic and $job_id name different jobs", field=name)
    if field in _NOT_TEXT and isinstance(value, str):
        # A User Property is always a string: what is none comes as JSON.
        value = decoded(_JSON, value.encode(), Submit)
    fields[field] = Raw(msgspec.json.encode(value)) if field == "meta" else value


def _check_submit(submit: Submit) -> None:
    if (submit.workflow is UNSET) == (submit.prompt is UNSET):
        raise BadRequest("a request names either `workflow` or `prompt`", field="workflow")
    for field in _OF_ANY_JSON:
        if is_deeper(getattr(submit, field), DEEPEST):
            raise BadRequest(f"{field}: nested more than {DEEPEST} deep", field=field)
    _check_set(submit)
    if submit.meta is not UNSET:
        _check_meta(bytes(submit.meta))


def _check_meta(meta: bytes) -> None:
    """Refuse a `meta` that spoils each message of its job, where it is echoed as it is.

    msgspec skips it unread.
    """
    if len(meta) > MAX_META:
        raise TooLarge(
            f"meta is larger than {MAX_META} bytes",
            field="meta",
            size=len(meta),
            limit=MAX_META,
        )
    if is_deeper(decoded(_JSON, meta, Submit), MAX_META_NESTING):
        raise BadRequest(f"meta is nested more than {MAX_META_NESTING} deep", field="meta")


def _check_set(submit: Submit) -> None:
    """Raise BadRequest for fields that do not go together, in a set or without one."""
    ways = [name for name in SET_WAYS if getattr(submit, name) is not UNSET]
    if not ways:
        for field, problem in _OF_SETS.items():
            if getattr(submit, field) is not UNSET:
                raise BadRequest(
                    f"`{field}` {problem}: give one of {', '.join(SET_WAYS)} too",
                    field=field,
                    allowed=list(SET_WAYS),
                )
        return
    if submit.collect is not UNSET and submit.output.deliver == "none":
        raise BadRequest(
            "`collect` needs the outputs of the jobs, of which output.deliver none keeps none",
            field="collect",
        )
    if len(ways) > 1:
        raise BadRequest(
            f"a set takes one of {', '.join(SET_WAYS)}, not {' and '.join(ways)}",
            field=ways[1],
            allowed=list(SET_WAYS),
        )
    for name, instead in _NOT_IN_SETS.items():
        if getattr(submit, name) not in (UNSET, False):
            raise BadRequest(f"`{name}` does not go with `{ways[0]}`: {instead}", field=name)
