"""Settings that are tables: `[[comfyui]]` and the like, each a Struct.

In the environment and in flags a table is JSON.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct

Name = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_-]{1,64}\Z")]


class Table(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every table is: fixed once it is read, and without fields that mean nothing."""


class ComfyUI(Table, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One ComfyUI of several: with `url` one that runs already, with `path` one to start.

    `environment` are more variables for one that is started, such as CUDA_VISIBLE_DEVICES.
    """

    name: Name
    url: str | None = None
    secret: str | None = None
    path: Path | None = None
    python: Path | None = None
    args: tuple[str, ...] = ()
    environment: dict[str, str] = {}
