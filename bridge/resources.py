"""Folders that the project ships beside its package: custom nodes, workflows, broker settings.

In a checkout they lie beside the package, in a wheel within it.
"""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def folder(name: str) -> Path:
    """Return the path of `custom_nodes`, `workflows` or `mosquitto`."""
    within = _PACKAGE / "_shipped" / name
    return within if within.is_dir() else _PACKAGE.parent / name
