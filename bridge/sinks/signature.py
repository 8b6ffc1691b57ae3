"""Signatures of webhooks, as Standard Webhooks 1.0 says. Pure: key and time are arguments.

Each client has a secret of its own, which is made of the bridge's key: who receives one client's
webhooks cannot sign another's.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping

KEY_BYTES = 32
_PREFIX = "whsec_"


def secret_of(key: bytes, client: str) -> str:
    """Return the secret of a client, as receivers take it: `whsec_` and base64."""
    return _PREFIX + base64.b64encode(_derived(key, client)).decode()


def headers(key: bytes, client: str, message_id: str, at: int, body: bytes) -> Mapping[str, str]:
    """Return the headers that sign a body; `at` is in seconds since the epoch."""
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(at),
        "webhook-signature": signature(_derived(key, client), message_id, at, body),
    }


def signature(secret: bytes, message_id: str, at: int, body: bytes) -> str:
    """Return the signature of a message, by the bytes that a secret stands for."""
    signed = b"%b.%d.%b" % (message_id.encode(), at, body)
    return f"v1,{base64.b64encode(hmac.digest(secret, signed, hashlib.sha256)).decode()}"


def _derived(key: bytes, client: str) -> bytes:
    return hmac.digest(key, b"comfy2mqtt webhook\0" + client.encode(), hashlib.sha256)
