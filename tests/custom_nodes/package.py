"""The node package's modules without the nodes.

Importing the package itself asks for ComfyUI's modules. Those that need none of them are
imported here below an empty package in its place.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

from tests.custom_nodes.comfyui import ROOT

if TYPE_CHECKING:
    from pathlib import Path

_NAME = "comfy2mqtt_nodes"


def load(module: str) -> ModuleType:
    """One module of the package, by its dotted name within it."""
    folder = ROOT / "custom_nodes" / "comfy2mqtt"
    parts = module.split(".")
    for depth in range(len(parts)):
        _hollow(".".join([_NAME, *parts[:depth]]), folder.joinpath(*parts[:depth]))
    return import_module(f"{_NAME}.{module}")


def _hollow(name: str, folder: Path) -> None:
    if name not in sys.modules:
        package = ModuleType(name)
        package.__path__ = [str(folder)]
        sys.modules[name] = package
