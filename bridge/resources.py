"""Folders that the project ships beside its package: custom nodes, workflows, broker settings.

In a checkout they lie beside the package, in a wheel within it. Its extras are not shipped.
"""

from __future__ import annotations

import sys
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def folder(name: str) -> Path:
    """Return the path of `custom_nodes`, `workflows` or `mosquitto`."""
    within = _PACKAGE / "_shipped" / name
    return within if within.is_dir() else _PACKAGE.parent / name


def where_workflows_are(used: Path) -> str:
    """Return a few words on the folder that workflows are read from, for people."""
    own = Path("workflows").absolute()
    if used == folder("workflows") != own:
        return (
            f"those that come with comfy2mqtt; for your own make the folder {own}, and start again"
        )
    return f"in {used.absolute()}"


def how_to_add(extra: str) -> str:
    """Return the command that adds an extra to the environment of this process.

    There the package itself is installed already: it is looked up nowhere. The quotes are those
    that Windows' shells know too.
    """
    python = f'"{sys.executable}"' if " " in sys.executable else sys.executable
    return f'{python} -m pip install "comfy2mqtt[{extra}]"'
