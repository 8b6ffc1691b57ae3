"""Sources of a media input's bytes: in the request itself, or named by it.

One object a source, distinguished by its key: `{"base64"}`, `{"upload"}`, `{"job"}`, `{"url"}`,
`{"topic"}`.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from bridge.contract.errors import BadRequest
from bridge.contract.messages import Count, Id, Seconds
from bridge.text import plain_problem, quoted

MAX_URL = 2048


class Inline(Struct, frozen=True):
    """The bytes themselves: a bare payload, or what `Base64` stands for."""

    data: bytes
    content_type: str | None = None


class Base64(Struct, frozen=True, forbid_unknown_fields=True):
    """The bytes themselves, as JSON can carry them."""

    base64: bytes
    content_type: str | None = None


class Upload(Struct, frozen=True, forbid_unknown_fields=True, tag=True):
    """Bytes that this client uploaded before."""

    upload: Id


class JobOutput(Struct, frozen=True, forbid_unknown_fields=True, tag=True):
    """An output of another job of this client, also of one that has not ended."""

    job: Id
    output: Count = 0


class Url(Struct, frozen=True, forbid_unknown_fields=True, tag=True):
    """Bytes from a web server; the backup is asked where the first fails."""

    url: Annotated[str, Meta(min_length=8, max_length=MAX_URL)]
    backup_url: Annotated[str, Meta(min_length=8, max_length=MAX_URL)] | UnsetType = UNSET


class Topic(Struct, frozen=True, forbid_unknown_fields=True, tag=True):
    """The last message of a topic, at most `max_age_s` old; else the next within `wait_s`."""

    topic: Annotated[str, Meta(min_length=1, max_length=1024)]
    max_age_s: Seconds | UnsetType = UNSET
    wait_s: Annotated[float, Meta(ge=0, le=3600)] = 0.0


Later: TypeAlias = JobOutput | Url | Topic
Source: TypeAlias = Inline | Upload | Later

_BY_KEY: dict[str, type[Any]] = {
    "base64": Base64,
    "upload": Upload,
    "job": JobOutput,
    "url": Url,
    "topic": Topic,
}


def read(value: Any) -> Source:
    """Read a media input's value. Raises BadRequest, which says what is allowed."""
    keys = [key for key in _BY_KEY if isinstance(value, dict) and key in value]
    if len(keys) != 1:
        found = "several of them" if keys else quoted(value)
        raise BadRequest(
            f"expected an object with one of {', '.join(_BY_KEY)}, not {found}",
            allowed=list(_BY_KEY),
        )
    try:
        source: Base64 | Source = msgspec.convert(value, _BY_KEY[keys[0]])
    except msgspec.ValidationError as error:
        # msgspec's own words for a base64 string that is none.
        no_base64 = "base64" in str(error).partition(" - at ")[0]
        problem = "`base64` is not valid base64" if no_base64 else plain_problem(str(error))
        raise BadRequest(problem, allowed=list(_BY_KEY)) from None
    if isinstance(source, Base64):
        return Inline(source.base64, source.content_type)
    return source
