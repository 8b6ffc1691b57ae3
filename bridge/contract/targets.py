"""Targets: where an output is to go, as a URL says it. Pure.

    https://host/path        an HTTP PUT; also http
    folder:photos            a folder of the operator's, which has a template for names
    mqtt:home/frame/image    a topic

A target may have placeholders, such as `{job_id}`, which differ from output to output. One of HTTP
that ends in a slash is a folder, as of WebDAV: the file's name is added.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TypeAlias, TypeVar
from urllib.parse import quote, urlsplit

from msgspec import UNSET, Struct

from bridge.contract.errors import BadRequest
from bridge.contract.messages import OutputInfo, or_none
from bridge.text import in_quotes

# What a placeholder may be; what it stands for has no character that separates folders.
PLACEHOLDERS = (
    "client",
    "date",
    "extension",
    "filename",
    "index",
    "job_id",
    "name",
    "set_id",
    "sha256",
    "time",
    "workflow",
)
DEFAULT_NAME = "{job_id}-{index}.{extension}"
# Those that keep the files of two jobs apart, whatever they put out.
_OF_ONE_JOB = ("job_id", "sha256")
_OF_ONE_OUTPUT = ("index", "filename", "name", "sha256")

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")
_URL = re.compile(r"[\x21-\x7e]+")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,200}")
_VALUE = re.compile(r"[\x20-\x7e]{0,4096}")
# These frame the request, or lead it elsewhere: they are the bridge's own.
_OWN_HEADERS = frozenset(
    {
        *("connection", "content-length", "expect", "host", "keep-alive", "te", "trailer"),
        *("transfer-encoding", "upgrade"),
    }
)
_EXTENSIONS = {
    "application/json": "json",
    "image/jpeg": "jpg",
    "image/svg+xml": "svg",
    "text/markdown": "md",
    "text/plain": "txt",
    "video/quicktime": "mov",
    "video/x-matroska": "mkv",
    "audio/mpeg": "mp3",
}
_EXTENSION = re.compile(r"[a-z0-9]{1,8}")

T = TypeVar("T")


class HttpTarget(Struct, frozen=True):
    """A PUT or POST to `url`, which may have placeholders yet; `host` is as it is resolved."""

    url: str
    host: str


class FolderTarget(Struct, frozen=True):
    """A folder of the operator's, by its name."""

    name: str


class TopicTarget(Struct, frozen=True):
    """A topic, which may have placeholders yet."""

    topic: str


Target: TypeAlias = HttpTarget | FolderTarget | TopicTarget


def read(url: str, field: str = "put.url") -> Target:
    """Read a target. Raises BadRequest, which names the field and what is allowed there."""
    scheme, colon, rest = url.partition(":")
    match scheme.lower() if colon else "":
        case "http" | "https":
            return _http(url, field)
        case "folder":
            if _NAME.fullmatch(rest) is None:
                raise BadRequest(
                    f"{field}: {in_quotes(url)}: expected folder:NAME, a folder that the operator "
                    "has named",
                    field=field,
                )
            return FolderTarget(rest)
        case "mqtt":
            if not rest or set(rest) & set("+#\0") or rest.startswith(("$", "/")):
                raise BadRequest(
                    f"{field}: {in_quotes(url)}: expected mqtt:TOPIC, without wildcards",
                    field=field,
                )
            check_template(rest, field)
            return TopicTarget(rest)
    raise BadRequest(
        f"{field}: expected a URL that begins with one of https:, http:, folder:, mqtt:",
        field=field,
        allowed=["https:", "http:", "folder:", "mqtt:"],
    )


def read_http(url: str, field: str) -> HttpTarget:
    """Read a target that can only be HTTP. Raises BadRequest."""
    if url.partition(":")[0].lower() not in ("http", "https"):
        raise BadRequest(f"{field}: expected an http or https URL", field=field)
    return _http(url, field)


def _http(url: str, field: str) -> HttpTarget:
    if _URL.fullmatch(url) is None:
        raise BadRequest(
            f"{field}: expected a URL in ASCII, without spaces: encode others as %XX", field=field
        )
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise BadRequest(f"{field}: {error}", field=field) from None
    # Two readers may see two hosts in what has a backslash, or two signs of a user.
    if not host or port == 0 or "\\" in url or parts.netloc.count("@") > 1 or "{" in parts.netloc:
        raise BadRequest(f"{field}: expected a URL with a host", field=field)
    if parts.username is not None:
        raise BadRequest(
            f"{field}: no user in the URL: put it into `headers`, as Authorization", field=field
        )
    if parts.fragment:
        raise BadRequest(f"{field}: no fragment (#) in the URL", field=field)
    check_template(url, field)
    return HttpTarget(url, host)


def check_template(text: str, field: str) -> None:
    """Raise BadRequest for a placeholder that there is none of."""
    for name in _PLACEHOLDER.findall(text):
        if name not in PLACEHOLDERS:
            raise BadRequest(
                f"{field}: no placeholder {{{name}}}",
                field=field,
                allowed=[f"{{{each}}}" for each in PLACEHOLDERS],
            )
    if set("{}") & set(_PLACEHOLDER.sub("", text)):
        raise BadRequest(f"{field}: a brace that is no placeholder's: write %7B, %7D", field=field)


def check_file(template: str, field: str) -> None:
    """Raise BadRequest unless a template names files within a folder, whatever it is given."""
    check_template(template, field)
    if "\\" in template or "\0" in template:
        raise BadRequest(f"{field}: {in_quotes(template)}: folders are separated by /", field=field)
    parts = template.split("/")
    if any(part in ("", ".", "..") for part in parts):
        raise BadRequest(
            f"{field}: {in_quotes(template)}: expected a path within the folder, without "
            ".. and without a slash at its beginning or end",
            field=field,
        )


def check_headers(headers: Mapping[str, str], field: str = "put.headers") -> None:
    """Raise BadRequest for a header that a request may not have, or that cannot be sent."""
    for name, value in headers.items():
        if _HEADER.fullmatch(name) is None or name.lower() in _OWN_HEADERS:
            raise BadRequest(f"{field}: {name!r} cannot be set", field=field)
        if _VALUE.fullmatch(value) is None:
            raise BadRequest(
                f"{field}: {name!r}: expected one line of ASCII, 4096 characters at most",
                field=field,
            )


def differs_per_job(target: Target) -> bool:
    """True if two jobs of a set do not overwrite each other's outputs there."""
    if isinstance(target, FolderTarget):
        return True  # the operator's template is the operator's affair
    return _is_folder(target) or not _placeholders(target).isdisjoint(_OF_ONE_JOB)


def chosen(target: Target, output: int | None, outputs: Sequence[T]) -> Sequence[T]:
    """Return which of a job's outputs go to a target.

    That of the index `output`; else all where the target tells them apart, and the first where not.
    """
    if output is not None:
        return outputs[output : output + 1]
    if isinstance(target, FolderTarget) or _is_folder(target):
        return outputs
    apart = not _placeholders(target).isdisjoint(_OF_ONE_OUTPUT)
    return outputs if apart else outputs[:1]


def _placeholders(target: HttpTarget | TopicTarget) -> set[str]:
    text = target.topic if isinstance(target, TopicTarget) else target.url
    return set(_PLACEHOLDER.findall(text))


def _is_folder(target: Target) -> bool:
    return isinstance(target, HttpTarget) and urlsplit(target.url).path.endswith("/")


def facts(
    info: OutputInfo,
    at: tuple[str, str],
    *,
    client: str,
    job_id: str,
    workflow: str,
    set_id: str | None,
) -> dict[str, str]:
    """Return what the placeholders stand for; `at` is a date and a time of day.

    Nothing of it can lead out of a folder: what is not a letter, a digit or one of `._-` is `_`.
    """
    found = {
        "client": client,
        "date": at[0],
        "extension": extension_of(info),
        "filename": info.filename if info.filename is not UNSET else f"{info.name}-{info.index}",
        "index": str(info.index),
        "job_id": job_id,
        "name": info.name,
        "set_id": set_id or job_id,
        "sha256": info.sha256,
        "time": at[1],
        "workflow": workflow,
    }
    return {name: _safe(value) for name, value in found.items()}


def _safe(value: str) -> str:
    """Return a text that is the name of a file, or a part of one."""
    text = _UNSAFE.sub("_", value)[:128]
    return "_" * len(text) if set(text) <= {"."} else text


def extension_of(info: OutputInfo) -> str:
    """Return an output's extension, without a dot: its type's, else its file's own."""
    main = info.content_type.partition(";")[0].strip().lower()
    short = main.rpartition("/")[2].removeprefix("x-")
    if main in _EXTENSIONS or _EXTENSION.fullmatch(short):
        return _EXTENSIONS.get(main, short)
    _, dot, named = (or_none(info.filename) or "").lower().rpartition(".")
    return named if dot and _EXTENSION.fullmatch(named) else "bin"


def filled(template: str, values: Mapping[str, str]) -> str:
    """Return a template with each placeholder replaced."""
    return _PLACEHOLDER.sub(lambda found: values[found[1]], template)


def url_for(target: HttpTarget, values: Mapping[str, str]) -> str:
    """Return the URL of one output."""
    path, mark, query = target.url.partition("?")
    name = DEFAULT_NAME if _is_folder(target) else ""
    quoted = {placeholder: quote(value, safe="") for placeholder, value in values.items()}
    return filled(f"{path}{name}{mark}{query}", quoted)


def shown(url: str) -> str:
    """Return a URL as it may be shown: without what is after `?`, often a key."""
    return url.partition("?")[0]
