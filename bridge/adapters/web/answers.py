"""What is answered by HTTP: status, headers, and a body that may come in parts."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from email.utils import formatdate
from http import HTTPStatus
from typing import Final

from msgspec import Struct

NO_STORE: Final = ("Cache-Control", "no-store")
# For everything that is no page of ours: whatever it is, it runs nothing.
INERT: Final = "default-src 'none'; sandbox"
_ALWAYS: Final = (
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
)

Headers = tuple[tuple[str, str], ...]


class Answer(Struct, frozen=True):
    """One answer; `length` is that of the whole body, `body` is None for none of it (HEAD)."""

    status: int
    headers: Headers = ()
    length: int = 0
    body: AsyncGenerator[bytes, None] | None = None

    def head(self) -> bytes:
        """Return status line and headers. No header can begin another one: breaks are left out."""
        status = HTTPStatus(self.status)
        given = dict(self.headers)
        if "Content-Security-Policy" not in given:
            given["Content-Security-Policy"] = INERT
        if status is not HTTPStatus.NOT_MODIFIED:
            given["Content-Length"] = str(self.length)
        fields = [("Date", formatdate(usegmt=True)), ("Connection", "close"), *_ALWAYS]
        lines = [f"{name}: {_one_line(value)}" for name, value in [*fields, *given.items()]]
        first = f"HTTP/1.1 {status.value} {status.phrase}"
        return "\r\n".join([first, *lines, "", ""]).encode("latin-1", "replace")


def whole(
    status: int,
    body: bytes,
    content_type: str = "text/plain; charset=utf-8",
    headers: Headers = (NO_STORE,),
) -> Answer:
    """Answer with bytes that are at hand."""
    return Answer(status, (("Content-Type", content_type), *headers), len(body), _once(body))


def said(status: HTTPStatus, text: str = "", headers: Headers = ()) -> Answer:
    """Answer with a line of text; without one, the status in words."""
    return whole(status, f"{text or status.phrase}\n".encode(), headers=(NO_STORE, *headers))


async def _once(body: bytes) -> AsyncGenerator[bytes, None]:
    yield body


def _one_line(value: str) -> str:
    return value.replace("\r", " ").replace("\n", " ")
