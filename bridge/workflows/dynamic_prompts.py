r"""Prompts with choices and comments, as ComfyUI's page works them off before it sends them.

`{a|b}` is one of the two, also within one another; `//` to the end of the line and `/* */` are left
out; `\{`, `\}` and `\|` stand for themselves. Besides, `{2$$a|b|c}` is two of them with a comma
between, `{1-3$$ and $$a|b|c}` up to three with another text between, as the widely used extensions
of the page have it. Pure: what is drawn comes from outside.
"""

from __future__ import annotations

import re
from collections.abc import Callable

# Given a number of choices, returns the place of one, from 0.
Pick = Callable[[int], int]

_LINE_COMMENT = re.compile(r"[^\n\r\u2028\u2029]*")
_ESCAPED = re.compile(r"\\([{}|])")
# Bounded, so that no prompt grows by much when it is drawn.
_SEVERAL = re.compile(r"\s*(\d{1,2})(?:-(\d{1,2}))?\$\$(?:([^|]{0,20}?)\$\$)?", re.DOTALL)
# Choices within choices; the text below is taken as it is.
_MAX_DEPTH = 30


def draw(text: str, pick: Pick) -> str:
    """Return the prompt without comments, and with one of each `{a|b}`."""
    return _drawn(text, pick, _MAX_DEPTH)


def draw_first(text: str) -> str:
    """Return the prompt with the first of each choice, which is always the same."""
    return draw(text, lambda _: 0)


def is_dynamic(text: str) -> bool:
    """True if there is anything to draw or to leave out."""
    return draw_first(text) != text


def _drawn(text: str, pick: Pick, depth: int) -> str:
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
            options, place = _options(text, place)
            found.append(_chosen(options, pick, depth))
        else:
            found.append(char)
    return _ESCAPED.sub(r"\1", "".join(found))


def _chosen(options: list[str], pick: Pick, depth: int) -> str:
    several = _SEVERAL.match(options[0])
    if several is None:
        chosen, between = [options[pick(len(options))]], ""
    else:
        rest = [options[0][several.end() :], *options[1:]]
        least = int(several[1])
        most = max(least, int(several[2] or least))
        number = min(least + pick(most - least + 1), len(rest))
        chosen = [rest.pop(pick(len(rest))) for _ in range(number)]
        between = ", " if several[3] is None else several[3]
    return between.join(_drawn(each, pick, depth - 1) if depth > 0 else each for each in chosen)


def _options(text: str, place: int) -> tuple[list[str], int]:
    """Return the choices of the block that starts at `place`, and where the block ends."""
    options: list[str] = []
    depth, start = 0, place
    while place < len(text):
        char = text[place]
        place += 1
        if char == "\\":
            place += 1
        elif char == "{":
            depth += 1
        elif char == "}":
            if depth == 0:
                return [*options, text[start : place - 1]], place
            depth -= 1
        elif char == "|" and depth == 0:
            options.append(text[start : place - 1])
            start = place
    return [*options, text[start:]], len(text)


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
