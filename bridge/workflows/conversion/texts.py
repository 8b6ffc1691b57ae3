"""Processing of texts before they are sent: comments, choices, and names of other values.

A prompt with `{a|b}` gets one of the two at random each time the page sends it. A conversion must
always give the same, so the first is taken. Dates in file names (`%date:...%`) are left as they
are, since a conversion has no clock.
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

_LINE_COMMENT = re.compile(r"[^\n\r\u2028\u2029]*")
_ESCAPED = re.compile(r"\\([{}|])")
_NAMED = re.compile(r"%([^%]+)%")
_UNFIT_FOR_FILES = re.compile(r"[/?<>\\:*|\"\x00-\x1f\x7f]")
_ALIAS = "Node name for S&R"
# Choices within choices; the text below is taken as it is.
_MAX_DEPTH = 30


def dynamic_prompt(text: str) -> str:
    """Return the prompt without comments, and with the first of each `{a|b}`."""
    return _chosen(text, _MAX_DEPTH)


def _chosen(text: str, depth: int) -> str:
    text = _without_comments(text)
    found: list[str] = []
    place = 0
    while place < len(text):
        char = text[place]
        place += 1
        if char == "\\":
            found.append(char + text[place : place + 1])
            place += 1
        elif char == "{":
            first, place = _first_choice(text, place)
            found.append(_chosen(first, depth - 1) if depth > 0 else first)
        else:
            found.append(char)
    return _ESCAPED.sub(r"\1", "".join(found))


def _without_comments(text: str) -> str:
    """Return the text without `/* ... */` and `// ...`; one that is never closed is none."""
    found: list[str] = []
    place = 0
    closes = True
    while True:
        slash = text.find("/", place)
        if slash < 0:
            return "".join((*found, text[place:]))
        kind = text[slash : slash + 2]
        end = slash
        if kind == "//":
            rest = _LINE_COMMENT.match(text, slash)
            end = rest.end() if rest is not None else slash
        elif kind == "/*" and closes:
            close = text.find("*/", slash + 2)
            closes = close >= 0
            end = close + 2 if closes else slash
        if end > slash:
            found.append(text[place:slash])
            place = end
        else:
            found.append(text[place : slash + 1])
            place = slash + 1


def _first_choice(text: str, place: int) -> tuple[str, int]:
    """Return the first choice of the block that starts at `place`, and where the block ends."""
    depth = 0
    start = place
    end: int | None = None
    while place < len(text):
        char = text[place]
        place += 1
        if char == "\\":
            place += 1
        elif char == "{":
            depth += 1
        elif char == "}":
            if depth == 0:
                return text[start : end if end is not None else place - 1], place
            depth -= 1
        elif char == "|" and depth == 0 and end is None:
            end = place - 1
    return text[start : end if end is not None else len(text)], len(text)


class Replacements:
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
