"""Words that readers of our texts stumbled over, each with a better one: `make check` refuses them.

Texts are the pages, docstrings, comments, and strings with a space in them (messages, help, log
lines; in tests strings are data); code in pages is not text. Nor may a docstring begin with a
question word: "What is known of a machine" hides its subject, "A machine's system and processor"
names it. Names of modules, classes and functions have a list of their own.
Run as a program it prints what it finds, and ends with 1 if that is anything.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Collection, Iterator
from pathlib import Path

import msgspec

ROOT = Path(__file__).parents[2]

# Whole words, whatever their case; what to write instead.
WORDS = {
    "all the same": "nevertheless",
    "anew": "again",
    "as ever": "as usual",
    "at hand": "connected, available",
    "(?:no|the) bridge (?:is )?at work": "online",
    "befalls?": "happens to",
    "bur(?:y|ies|ied|ying)": "delete, remove",
    "by want of|for want of": "because ... is missing",
    "door": "adapter, interface (a real one: front door)",
    "fares": "its state",
    "fates?": "outcome, state",
    "for dead": "(counted) as dead",
    "(?:broker|operator|client|somebody)'s business": "... decides that",
    "comes of it": "its effect, its outcome",
    "(?:goes|going|gone|went) on": "continues",
    "go on (?:at|from|where|with|there)": "continue",
    "(?:goes|go) by (?!itself|themselves)": "use, depend on",
    "(?:goes|go) out": "is sent",
    "hears?": "receives, gets",
    "heard": "received",
    "hold(?:s|ing)? up (?!to)|held up": "block",
    "is held to|are held to": "applies to",
    "lets? go of": "deletes, releases",
    "mend(?:s|ed|ing)?": "repair, fix",
    "news": "update, change, message",
    "of yours": "your own",
    "operator'?s'? orders|(?:send|answer|read|execute) (?:an )?orders?": "command",
    "own affair": "the subject that decides",
    "stays? up": "runs",
    "taken for": "read as, counted as",
    "takes us": "accepts our connection",
    "thrown out": "disconnected",
    "told": "reported, shown",
    "what is said of": "the description of",
    "whom": "the receiver, the client, ...",
    "without a word": "silently",
}
# Parts of the names of modules, classes and functions: what to write instead.
PARTS = {
    "befall befalls happening happenings": "event, transition",
    "bereaved buried bury": "delete, remove, orphaned",
    "door doors": "adapter",
    "condemned doomed fate": "outcome, unusable, deletable",
    "hear heard hears": "receive, listen",
    "lives": "lifecycle",
    "mend mended": "repair",
    "news": "update",
    "orders": "commands",
    "said tell telling tells told": "report, text",
    "whom whose": "receiver, owner",
}
# Names of tests are sentences: these may stand in them.
_OF_SENTENCES = {"lives", "whom", "whose"}
_PART = re.compile("[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])")
_WORD = re.compile(
    "|".join(rf"(?P<w{number}>\b(?:{word})\b)" for number, word in enumerate(WORDS)), re.IGNORECASE
)
_ALLOWED = re.compile("front door", re.IGNORECASE)
# A page's fenced and indented blocks, comments, code in a line, and where links lead.
_NO_TEXT = re.compile(
    r"^```.*?^```|^<!--.*?-->|(?<=\n\n)(?: {4}[^\n]*\n+)+|`[^`\n]*`|\]\([^)]*\)",
    re.DOTALL | re.MULTILINE,
)
_QUESTION = re.compile("(?:What|Who|Whom|Whose|How|Which|Where|When|Whether|Why)\\b")
# Comments at the end of a line are few, and look like the inside of a URL.
_REMARK = re.compile(r"/\*.*?\*/|^ *//[^\n]*", re.DOTALL | re.MULTILINE)
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


def strings(source: str, *, docstrings: bool = False) -> str:
    """Return docstrings, comments and messages of a Python file, each in the line of its own.

    With `docstrings` only these and the comments: strings in tests are data.
    """
    lines = {
        token.start[0]: token.string
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    tree = ast.parse(source)
    for node in _docstrings(tree) if docstrings else ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            for number, line in enumerate(node.value.split("\n")):
                at = node.lineno + number
                lines[at] = f"{lines.get(at, '')} {line}"
    last = max(lines, default=0)
    return "\n".join(lines.get(number, "") for number in range(1, last + 1))


def _docstrings(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr):
            yield node.value


def questions(source: str) -> Iterator[Finding]:
    """Yield the docstrings of a Python file that begin with a question word."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Expr(value=ast.Constant(value=str(text)) as constant):
                if found := _QUESTION.match(text):
                    instead = "begin the docstring with its subject or with a verb"
                    yield Finding(line=constant.lineno, word=found[0], instead=instead)


def names(source: str, module: str, allowed: Collection[str] = ()) -> Iterator[Finding]:
    """Yield the names of a Python file, its own and those it defines, with a part of the list."""
    kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = (node for node in ast.walk(ast.parse(source)) if isinstance(node, kinds))
    for line, name in ((1, module), *((node.lineno, node.name) for node in nodes)):
        found = {part.lower() for part in _PART.findall(name)}.difference(allowed)
        for parts, instead in PARTS.items():
            if found.intersection(parts.split()):
                yield Finding(line=line, word=name, instead=instead)


def texts() -> Iterator[tuple[Path, str]]:
    """Yield every text of the project with the file that it is in."""
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("mosquitto/*.md")]
    for page in sorted(pages):
        text = page.read_text("utf-8")
        if page.name == "CHANGELOG.md":  # what was released stays as it was written
            text = _LATER.split(text)[0]
        yield page, prose(text)
    for file in sources():
        yield file, strings(file.read_text("utf-8"))
    for file in tests():
        yield file, strings(file.read_text("utf-8"), docstrings=True)
    for pattern in ("*.js", "*.css"):
        for file in sorted((ROOT / "bridge").rglob(pattern)):
            yield file, remarks(file.read_text("utf-8"))


def remarks(source: str) -> str:
    """Return the comments of a script or a style sheet, each in the lines where it stands."""
    lines = [""] * (source.count("\n") + 1)
    for found in _REMARK.finditer(source):
        for number, line in enumerate(found[0].split("\n"), source.count("\n", 0, found.start())):
            lines[number] += line
    return "\n".join(lines)


def sources() -> Iterator[Path]:
    """Yield the Python files whose texts users and developers read; tests are not among them."""
    for folder in ("bridge", "custom_nodes", "custom_components"):
        yield from sorted((ROOT / folder).rglob("*.py"))


def tests() -> Iterator[Path]:
    """Yield the Python files of the tests."""
    yield from sorted((ROOT / "tests").rglob("*.py"))


def everywhere() -> Iterator[str]:
    """Yield a line for each word that was found: where, and what to write instead."""
    found = [(file, each) for file, text in texts() for each in findings(text)]
    for file in sources():
        source = file.read_text("utf-8")
        found += [(file, each) for each in (*questions(source), *names(source, file.stem))]
    for file in tests():
        source = file.read_text("utf-8")
        found += [(file, each) for each in questions(source)]
        found += [(file, each) for each in names(source, file.stem, _OF_SENTENCES)]
    for file, each in found:
        yield f"{file.relative_to(ROOT)}:{each.line}: '{each.word}': {each.instead}"


def main() -> int:
    """Print each word that was found; returns the exit status."""
    lines = list(everywhere())
    sys.stderr.writelines(f"{line}\n" for line in lines)
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
