"""Settings from the environment of the ComfyUI process, and the stores made by them.

The bridge sets these variables for a ComfyUI that it starts; for one that somebody else runs
they are that person's to set. The stores live as long as the process; nodes and routes share
them, and ComfyUI makes the nodes without arguments, so they are reached through functions here.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING
from uuid import uuid4

from .errors import SettingInvalid
from .held import HeldOutputs
from .media import HeldMedia

if TYPE_CHECKING:
    from collections.abc import Mapping

SECRET = "COMFY2MQTT_SECRET"  # noqa: S105 - the variable's name
GUARD = "COMFY2MQTT_GUARD"
MEDIA_BYTES = "COMFY2MQTT_MEDIA_BYTES"
OUTPUT_BYTES = "COMFY2MQTT_OUTPUT_BYTES"
UNPACKED_BYTES = "COMFY2MQTT_UNPACKED_BYTES"

GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Settings:
    """`secret` is None where the routes are open to whoever reaches ComfyUI; budgets in bytes.

    `guard` is whether every route of ComfyUI asks for the secret, not ours alone.
    `unpacked_bytes` bounds one film once its pictures and its sound are floats.
    """

    secret: str | None
    guard: bool
    media_bytes: int
    output_bytes: int
    unpacked_bytes: int = 4 * GIB


def read_settings(environ: Mapping[str, str]) -> Settings:
    """The settings in `environ`. Raises SettingInvalid."""
    # No header could have the line's end of the file that it came from.
    secret = environ.get(SECRET, "").strip("\r\n") or None
    return Settings(
        secret=secret,
        guard=_read_guard(environ, secret),
        media_bytes=_read_bytes(environ, MEDIA_BYTES, GIB),
        output_bytes=_read_bytes(environ, OUTPUT_BYTES, 2 * GIB),
        unpacked_bytes=_read_bytes(environ, UNPACKED_BYTES, 4 * GIB),
    )


def _read_guard(environ: Mapping[str, str], secret: str | None) -> bool:
    text = environ.get(GUARD) or "0"
    if text not in ("0", "1"):
        raise SettingInvalid(GUARD, text, "1 or 0")
    if text == "1" and secret is None:
        raise SettingInvalid(GUARD, text, f"0, or a {SECRET} beside it")
    return text == "1"


def _read_bytes(environ: Mapping[str, str], key: str, default: int) -> int:
    text = environ.get(key)
    if text is None:
        return default
    # isdecimal first: int() would take "1_000", " 7 " and signs as well.
    if not (text.isascii() and text.isdecimal() and int(text) > 0):
        raise SettingInvalid(key, text, "a whole number of bytes above 0")
    return int(text)


@cache
def settings() -> Settings:
    """The settings of this process, read once."""
    return read_settings(os.environ)


@cache
def held_outputs() -> HeldOutputs:
    """The outputs that this process holds."""
    return HeldOutputs(settings().output_bytes)


@cache
def held_media() -> HeldMedia:
    """The media that this process holds."""
    return HeldMedia(settings().media_bytes)


@cache
def process_name() -> str:
    """A name of this process that no later one has; pids come round again."""
    return uuid4().hex
