"""Processing of texts before they are sent: names of other values in the names of files.

Dates there (`%date:...%`) are left as they are, since a conversion has no clock.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

from bridge.workflows.conversion.model import MISSING, LiveNode

# Classes whose `filename_prefix` may name values of other nodes.
NAMES_FILES: Final = frozenset(
    {
        "CLIPSave",
        "LoraSave",
        "ModelSave",
        "SaveAnimatedPNG",
        "SaveAnimatedWEBP",
        "SaveAudio",
        "SaveAudioAdvanced",
        "SaveAudioMP3",
        "SaveAudioOpus",
        "SaveGLB",
        "SaveGaussianSplat",
        "SaveImage",
        "SaveImageAdvanced",
        "Save3DAdvanced",
        "SaveLatent",
        "SavePointCloud",
        "SaveSVGNode",
        "SaveVideo",
        "SaveWEBM",
        "VAESave",
    }
)

_NAMED = re.compile(r"%([^%]+)%")
_UNFIT_FOR_FILES = re.compile(r"[/?<>\\:*|\"\x00-\x1f\x7f]")
_ALIAS = "Node name for S&R"


class TextPlaceholders:
    """Puts values of widgets into texts: `%KSampler.seed%` is the seed of the node of that name."""

    def __init__(self, nodes: Iterable[LiveNode]) -> None:
        self._by_alias: dict[str, LiveNode] = {}
        self._by_title: dict[str, LiveNode] = {}
        for node in nodes:
            if node.declared is not None:
                alias = node.properties.get(_ALIAS, node.type)
                self._by_alias.setdefault(str(alias), node)
            self._by_title.setdefault(node.title or "", node)

    def apply(self, text: str) -> str:
        """Return the text with the names that are known replaced."""
        return _NAMED.sub(self._one, text)

    def _one(self, match: re.Match[str]) -> str:
        name, dot, value = match[1].partition(".")
        if not dot or "." in value:
            return match[0]
        node = self._by_alias.get(name) or self._by_title.get(name)
        widget = node.widget(value) if node is not None else None
        if widget is None:
            return match[0]
        return _UNFIT_FOR_FILES.sub("_", _text(widget.value))


def _text(value: Any) -> str:
    """Return a value as JavaScript writes it."""
    if value is None or value is MISSING:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value)
