"""Texts of others: their encodings, and how they stand in a line of ours. Pure."""

from __future__ import annotations

import codecs
import difflib
import json
import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from typing import Any


def clip(text: str, longest: int, mark: str = "...") -> str:
    """Return a text in at most `longest` characters; `mark` ends one that was longer."""
    return text if len(text) <= longest else text[: longest - len(mark)] + mark


def matches_any(globs: Iterable[str], name: str) -> bool:
    """True if a name matches one of the globs, as a shell has them; case counts."""
    return any(fnmatchcase(name, each) for each in globs)


def one_line(text: str) -> str:
    """Return a text in one line, its white space as single spaces."""
    return " ".join(text.split())


def sendable(text: str) -> str:
    """Return a text as JSON takes it, with `?` for each half of a surrogate pair.

    Python has one for each byte of a file's name that is not UTF-8.
    """
    return text.encode(errors="replace").decode()


def as_utf8(data: bytes) -> bytes:
    """Return text as UTF-8 without a byte order mark and trailing NULs.

    UTF-16 is known by its byte order mark, or by the `{` that JSON begins with. Bytes that are no
    text in a known encoding are returned as they are, but for NULs at their end.
    """
    if data.startswith(codecs.BOM_UTF8):
        return data.removeprefix(codecs.BOM_UTF8).rstrip(b"\0")
    for mark, begins, encoding in _UTF_16:
        if data.startswith((mark, begins)):
            with suppress(UnicodeDecodeError):
                text = data.removeprefix(mark).decode(encoding).rstrip("\0")
                if not _CONTROLS.search(text):
                    return text.encode()
    return data.rstrip(b"\0")


_UTF_16 = (
    (codecs.BOM_UTF16_LE, b"{\0", "utf-16-le"),
    (codecs.BOM_UTF16_BE, b"\0{", "utf-16-be"),
)
# No text has these; what was no UTF-16 often does.
_CONTROLS = re.compile(r"[\x00-\x08\x0e-\x1f]")


def quoted(value: object) -> str:
    """Return a value of JSON as an error names it: a short one whole, others by their kind."""
    if isinstance(value, str):
        return repr(clip(value, _QUOTED))
    if value is None or isinstance(value, bool | int | float):
        return clip(json.dumps(value), _QUOTED)
    return next((words for kind, words in _OTHERS if isinstance(value, kind)), "something else")


def in_quotes(text: str) -> str:
    """Return a path, a URL or the like as an error quotes it: without a password, and not long."""
    return repr(clip(without_password(text) if "://" in text else text, _LONGEST_NAME))


_QUOTED = 60
_LONGEST_NAME = 200
_OTHERS: tuple[tuple[Any, str], ...] = (
    (list | tuple, "a list"),
    (dict, "an object"),
    (bytes | bytearray | memoryview, "bytes"),
)


def without_colours(text: str) -> str:
    """Return a text without the escape sequences by which programs colour a terminal."""
    return _ESCAPES.sub("", text) if "\x1b" in text or "\x9b" in text else text


# Of ECMA-48: CSI sequences, OSC strings to their end, and the short ones.
_ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?"
    r"|\x1b[ -/]*[0-~]?"
)


def printable(text: str) -> str:
    """Return a text that cannot steer a terminal: what is not printable is a space."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def bare_filename(path: str) -> str | None:
    """Return the name of a file in a path, of POSIX or Windows; None where there is none.

    What is not printable, such as a mark that turns the direction of writing, is a space.
    """
    name = printable(re.split(r"[/\\]", path)[-1]).strip()
    return None if name in ("", ".", "..") else name


def without_folders(text: str) -> str:
    """Return a text in which files of a machine are named without the folders that they lie in.

    Absolute paths, of POSIX and of Windows, of two parts and more; also with spaces, in quotes.
    """
    return _PATH.sub(_last_part, _QUOTED_PATH.sub(_last_part, text))


_FEWEST = 2
_ROOT = r"(?:/|~[\w.-]*/|[A-Za-z]:[\\/]|\\\\)"
_QUOTED_PATH = re.compile(rf"(?<=[\"'`]){_ROOT}[^\"'`\n]+(?=[\"'`])")
# A URL is left as it is, and what is within a word or a longer path.
_PATH = re.compile(
    rf"(?<!\w)\w{{1,20}}://\S+|(?<![\w:/\\.~-]){_ROOT}[^\s\"'`/\\]+(?:[/\\][^\s\"'`/\\]*)+"
)


def _last_part(found: re.Match[str]) -> str:
    parts = [part for part in re.split(r"[/\\]", found[0]) if part]
    is_url = "://" in found[0] and not found[0].startswith("file:")
    return found[0] if is_url or len(parts) < _FEWEST else f".../{parts[-1]}"


def without_password(url: str) -> str:
    """Return a URL as it may be shown, also one that is none: without user, password and query.

    What is in the place of the port is hidden unless it is a number: it may be a password.
    """
    scheme, mark, rest = url.partition("://") if "://" in url else ("", "", url)
    account, at, after = rest.rpartition("@")
    if ":" not in account and "@" not in re.split(r"[/?#]", rest, maxsplit=1)[0]:
        at = ""  # one of a path or query, as nothing before it can be a password
    # What follows an account, though, may still be the rest of a query.
    where = re.split(r"[?#&]" if at else r"[?#]", after if at else rest, maxsplit=1)[0]
    address, slash, path = where.partition("/")
    host = _HOST.match(address)
    port = address[0 if host is None else host.end() :]
    if port and _NUMBER.fullmatch(port) is None:
        address, slash, path = f"{address.removesuffix(port)}:***", "", ""
    return f"{scheme}{mark}{'***@' if at else ''}{address}{slash}{path}"


_HOST = re.compile(r"\[[0-9A-Fa-f:.]*\]?|[^:]*")
_NUMBER = re.compile(r":\d{0,5}")


def problem_of(error: BaseException | str) -> str:
    """Return an error, or its text, in one line: its URLs without user, password and query.

    Libraries name the whole URL, by whose query somebody else could write where it leads.
    """
    said = " ".join(map(_without_secrets, str(error).split()))
    return clip(said, _LONGEST_PROBLEM) or type(error).__name__


_LONGEST_PROBLEM = 300


def _without_secrets(word: str) -> str:
    if "://" not in word:
        return word
    url = word.rstrip("'\")>]")
    return without_password(url) + word[len(url) :]


def hider(secrets: Iterable[str]) -> Callable[[str], str]:
    """Return a function that puts `***` in the place of secrets in a text.

    A short one, or a word of our own lines such as `comfy2mqtt`, is hidden only where a password
    stands: elsewhere the gaps would spell it, in lines that nobody could read.
    """
    given = {each for each in secrets if each}
    # A quote or a backslash has another before it in JSON, and a backslash in Python's `repr`.
    found = sorted(
        given | {json.dumps(each, ensure_ascii=False)[1:-1] for each in given},
        key=len,
        reverse=True,
    )
    rare = "|".join(re.escape(each) for each in found if not _is_usual(each))
    usual = "|".join(re.escape(each) for each in found if _is_usual(each))
    # In this order; each keeps the group before the secret.
    patterns = [re.compile(f"()(?:{rare})")] if rare else []
    if usual:
        patterns.append(re.compile(rf"(:)(?:{usual})(?=@)"))
        patterns.append(re.compile(rf"({_BEFORE_SECRETS})(?:{usual})(?!\w)"))

    def hide(text: str) -> str:
        for each in patterns:
            text = each.sub(r"\1***", text)
        return text

    return hide


def _is_usual(secret: str) -> bool:
    return len(secret) < _SHORTEST_RARE or secret.casefold() in _OUR_WORDS


_SHORTEST_RARE = 6
_OUR_WORDS = frozenset(
    {
        *("bridge", "broker", "client", "comfy2mqtt", "comfyui", "default", "homeassistant"),
        *("localhost", "message", "mosquitto", "password", "postgres", "postgresql", "public"),
        *("running", "secret", "server", "service", "warning", "workflow", "workflows"),
    }
)
# What names a secret, and what stands between: up to `\": \"`, of JSON within JSON.
_BEFORE_SECRETS = r"(?i:pass(?:word|wd|phrase)?|pwd|secret|token|key|bearer)\W{1,6}"


def split_account(address: str) -> tuple[str, str]:
    """Return a PostgreSQL address' `user:password`, or nothing, and what follows, as libpq does.

    The account ends at the first @ that no / comes before, so that it may have ? and #.
    """
    rest = address.partition("://")[2]
    account, at, after = rest.partition("@")
    return (account, after) if at and "/" not in account else ("", rest)


def closest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that a misspelt one was most likely meant to be, if any is like it."""
    if len(word) > _LONGEST_WORD:
        return None
    by_folded = {each.casefold(): each for each in known}
    found = difflib.get_close_matches(word.casefold(), by_folded, n=1, cutoff=0.6)
    return by_folded[found[0]] if found else None


# Comparing words takes a time that grows with both, and anybody may send a long one.
_LONGEST_WORD = 100


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `; did you mean 'x'?` for a misspelt word, nothing if no known one is like it."""
    found = closest(word, known)
    return "" if found is None else f"; did you mean {found!r}?"


def nearest(word: str, known: Sequence[str], most: int) -> list[str]:
    """Return the known words that were most likely meant, `most` at most, in the order of `known`.

    Those that contain each part of the word, whatever its case; else those that are like it.
    """
    parts = _PART.findall(word.casefold()[:_LONGEST_WORD])
    found = [each for each in known if all(part in each.casefold() for part in parts)]
    if parts and found:
        return found[:most]
    if len(word) > _LONGEST_WORD or len(known) > _MOST_COMPARED:
        return []
    by_folded = {each.casefold(): each for each in known}
    return [by_folded[each] for each in difflib.get_close_matches(word.casefold(), by_folded, most)]


_PART = re.compile(r"\w+")
# Of more, comparing takes longer than others may wait for it.
_MOST_COMPARED = 1000


def json_problem(error: Exception) -> str:
    """Return what msgspec finds wrong in a JSON, for people."""
    problem = str(error).removeprefix("JSON is malformed: ")
    is_short = problem == "Input data was truncated"
    return "it ends too early: a bracket or a quote is missing" if is_short else problem


def plain_problem(problem: str) -> str:
    """Return msgspec's sentence about a wrong value in words that name no type of Python's.

    The place within the value, where it names one, comes first: `[0].path: expected text`.
    """
    problem, _, where = problem.partition(" - at `$")
    problem = _UNKNOWN.sub(r"unknown field '\1'", _MISSING.sub(r"'\1' is missing", problem))
    problem = _EXPECTED.sub(lambda found: _expected(found["kinds"]), problem)
    problem = re.sub(
        r"^Invalid enum value ('.*'|-?\d+)", r"\1 is none of the allowed values", problem
    )
    problem = re.sub(r" of length >= 1$", " of at least 1 character", problem)
    problem = re.sub(r" of length >= (\d+)$", r" of at least \1 characters", problem)
    problem = re.sub(r" of length <= (\d+)$", r" of at most \1 characters", problem)
    for sign, words in _BOUNDS.items():
        problem = re.sub(rf" {sign} (-?[0-9]+)(?:\.0\b)?", rf" {words} \1", problem)
    place = where.rstrip("`").replace("[...]", "").removeprefix(".")
    return f"{place}: " * bool(place) + problem[:1].lower() + problem[1:]


def _expected(kinds: str) -> str:
    words = [_KINDS.get(kind.strip(), kind.strip()) for kind in kinds.split("|")]
    return "Expected " + " or ".join(each for each in words if each)


_UNKNOWN = re.compile(r"Object contains unknown field `([^`]*)`")
_MISSING = re.compile(r"Object missing required field `([^`]*)`")
# What was found is beside it, as the user wrote it: its type in the decoder says nothing more.
_EXPECTED = re.compile(r"Expected `(?P<kinds>[A-Za-z| ]+)`(?:, got `[a-z]+`)?")
_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "Path": "a path",
    "bool": "true or false",
    "array": "a list",
    "object": "an object",
    "null": "",
}
_BOUNDS = {">=": "of at least", "<=": "of at most", ">": "above", "<": "below"}
