"""Sinks on the wire: where outputs are to be delivered, and what became of each.

A target is a URL: `http:` or `https:` for a PUT, `folder:<name>` for a folder of the operator's,
`mqtt:<topic>` for a topic. `bridge.contract.targets` reads them.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

from msgspec import UNSET, Meta, Struct, UnsetType

from bridge.contract.errors import Error

# How many targets a request may name, and how many headers each may have.
MAX_PUTS = 16
MAX_HEADERS = 16
# Presigned URLs of temporary accounts carry a token of more than a thousand characters.
MAX_TARGET = 4096

TargetUrl: TypeAlias = Annotated[str, Meta(min_length=1, max_length=MAX_TARGET)]
Headers: TypeAlias = Annotated[dict[str, str], Meta(max_length=MAX_HEADERS)]
Index: TypeAlias = Annotated[int, Meta(ge=0, le=2**31 - 1)]


class Put(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """Deliver outputs to a URL: the one of that index, or all that the URL has room for.

    `headers` go with an HTTP request.
    """

    url: TargetUrl
    output: Index | UnsetType = UNSET
    headers: Headers = {}


class Webhook(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """POST the result to a URL, signed, as Standard Webhooks says."""

    url: TargetUrl


class Delivered(Struct, frozen=True, kw_only=True):
    """The delivery of one output to one sink; without `error` it succeeded.

    `url` is without what is secret: user, password and query.
    """

    output: int
    url: str
    error: Error | UnsetType = UNSET
