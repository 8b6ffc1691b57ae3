"""Words that readers of our texts stumbled over, each with a better one: `make check` refuses them.

Texts are the pages, docstrings, and strings with a space in them (messages, help, log lines); code
in pages is not text. Run as a program it prints what it finds, and ends with 1 if that is anything.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec

ROOT = Path(__file__).parents[2]

# Whole words, whatever their case; what to write instead.
WORDS = {
    "anew": "again",
    "as ever": "as usual",
    "at hand": "connected, available",
    "befalls?": "happens to",
    "by want of|for want of": "because ... is missing",
    "door": "adapter, interface (a real one: front door)",
    "fares": "its state",
    "(?:goes|going|gone|went) on": "continues",
    "go on (?:at|from|where|with|there)": "continue",
    "hears?": "receives, gets",
    "heard": "received",
    "is held to|are held to": "applies to",
    "lets? go of": "deletes, releases",
    "mend(?:s|ed|ing)?": "repair, fix",
    "of yours": "your own",
    "taken for dead": "counted as dead",
    "thrown out": "disconnected",
    "told": "reported, shown",
    "what is said of": "the description of",
}
_WORD = re.compile(
    "|".join(rf"(?P<w{number}>\b(?:{word})\b)" for number, word in enumerate(WORDS)), re.IGNORECASE
)
_ALLOWED = re.compile("front door", re.IGNORECASE)
# A page's fenced and indented blocks, comments, code in a line, and where links lead.
_NO_TEXT = re.compile(
    r"^```.*?^```|^<!--.*?-->|(?<=\n\n)(?: {4}[^\n]*\n+)+|`[^`\n]*`|\]\([^)]*\)",
    re.DOTALL | re.MULTILINE,
)
_LATER = re.compile(r"^## (?!Unreleased)", re.MULTILINE)


class Finding(msgspec.Struct, frozen=True):
    """A word, in which line of a text it stands, and what to write instead."""

    line: int
    word: str
    instead: str


def findings(text: str) -> Iterator[Finding]:
    """Yield the words of the list that stand in a text."""
    readable = _ALLOWED.sub("", text)
    for found in _WORD.finditer(readable):
        number = int((found.lastgroup or "w0")[1:])
        line = readable.count("\n", 0, found.start()) + 1
        yield Finding(line=line, word=found[0], instead=list(WORDS.values())[number])


def prose(page: str) -> str:
    """Return a page's text without its code, each line where it was."""
    return _NO_TEXT.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), page)


def strings(source: str) -> str:
    """Return the docstrings and messages of a Python file, each in the line where it begins."""
    lines: dict[int, str] = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            for number, line in enumerate(node.value.split("\n")):
                at = node.lineno + number
                lines[at] = f"{lines.get(at, '')} {line}"
    last = max(lines, default=0)
    return "\n".join(lines.get(number, "") for number in range(1, last + 1))


def texts() -> Iterator[tuple[Path, str]]:
    """Yield every text of the project with the file that it is in."""
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("mosquitto/*.md")]
    for page in sorted(pages):
        text = page.read_text("utf-8")
        if page.name == "CHANGELOG.md":  # what was released stays as it was written
            text = _LATER.split(text)[0]
        yield page, prose(text)
    for folder in ("bridge", "custom_nodes", "custom_components"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            yield file, strings(file.read_text("utf-8"))


def main() -> int:
    """Print each word that was found, and what to write instead; returns how the program ends."""
    count = 0
    for file, text in texts():
        for found in findings(text):
            count += 1
            where = f"{file.relative_to(ROOT)}:{found.line}"
            sys.stderr.write(f"{where}: '{found.word}': write {found.instead!r}\n")
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main())
