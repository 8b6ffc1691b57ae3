"""Links: addresses that give one output to whoever has them, until they expire.

A token says which output, and until when, and is signed with a key that the bridge, which puts
links into results, and the web adapter that serves them share. Pure: key and time are arguments.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from typing import Final

import msgspec
from msgspec import Struct

from bridge.contract.errors import Expired, Forbidden
from bridge.contract.topics import is_id

PREFIX: Final = "/o/"
KEY_BYTES: Final = 32
# Half of the hash: 128 bits, which nobody guesses, in 22 characters.
_SIGNATURE_BYTES: Final = 16
_LONGEST: Final = 512


class Link(Struct, frozen=True, array_like=True):
    """An output of a client's job, or of a set; `expires` in seconds since the epoch.

    With `of_set` it is what the set of the id `job_id` has collected.
    """

    client: str
    job_id: str
    output: int
    expires: int
    of_set: bool = False


_DECODER: Final = msgspec.msgpack.Decoder(Link)


def sign(key: bytes, link: Link) -> str:
    """Return the token of a link: letters, digits, `-`, `_` and one dot."""
    content = msgspec.msgpack.encode(link)
    return f"{_text(content)}.{_text(_signature(key, content))}"


def read(key: bytes, token: str, now: float) -> Link:
    """Return a token's contents.

    Raises Forbidden for one that was not signed with this key, Expired for one that is too old.
    """
    encoded, _, signature = token.partition(".")
    try:
        content, given = _bytes(encoded), _bytes(signature)
        if len(token) > _LONGEST or not hmac.compare_digest(given, _signature(key, content)):
            raise Forbidden("this link was not made here")
        link = _DECODER.decode(content)
    except (binascii.Error, UnicodeEncodeError, msgspec.MsgspecError):
        raise Forbidden("this link is no link") from None
    if not (is_id(link.client) and is_id(link.job_id)):
        raise Forbidden("this link is no link")
    if link.expires <= now:
        raise Expired("this link has expired")
    return link


def address(public_url: str, key: bytes, link: Link) -> str:
    """Return a link's whole address, below the web adapter's."""
    return f"{public_url.rstrip('/')}{PREFIX}{sign(key, link)}"


def _signature(key: bytes, content: bytes) -> bytes:
    return hmac.digest(key, b"comfy2mqtt link\0" + content, hashlib.sha256)[:_SIGNATURE_BYTES]


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    encoded = text.encode("ascii")
    return base64.b64decode(encoded + b"=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
