r"""Regular expressions of JavaScript, as files have them, matched in bounded time. Pure.

A file comes from anywhere, and some expressions keep an ordinary matcher busy for years. Here a
pattern becomes a program whose states are walked side by side, so that the time is at most the
length of the text times that of the program. Known are literals, classes, groups, alternatives,
repetition, `^`, `$` and `\b`; looking ahead or behind and back references are not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from msgspec import Struct

MAX_PATTERN = 500
MAX_PROGRAM = 5_000
MAX_TEXT = 1_000
_MAX_DEPTH = 50

_Test: TypeAlias = Callable[[str], bool]

_LINE_ENDS = frozenset("\n\r\u2028\u2029")
_SPACES = frozenset("\t\n\v\f\r \u00a0\u1680\u2028\u2029\u202f\u205f\u3000\ufeff") | frozenset(
    map(chr, range(0x2000, 0x200B))
)
_CONTROLS: Final = {"t": "\t", "n": "\n", "r": "\r", "f": "\f", "v": "\v", "0": "\0"}
_HEX_DIGITS: Final = {"x": 2, "u": 4}


class InvalidPattern(ValueError):
    """No regular expression at all."""


class UnknownPattern(ValueError):
    """A regular expression that is not known here, or too large."""


class _Char(Struct, frozen=True):
    """Take one character that the test lets through."""

    test: _Test


class _Where(Struct, frozen=True):
    """Continue only at such a place: `^`, `$`, `b` or `B`."""

    kind: str


class _Fork(Struct):
    """Continue at both places."""

    one: int
    two: int


_Step: TypeAlias = _Char | _Where | _Fork
_Program: TypeAlias = list[_Step]


class Pattern:
    """One expression; a match takes at most as many steps as its program has, times MAX_TEXT."""

    def __init__(self, source: str) -> None:
        """Raise InvalidPattern or UnknownPattern for what cannot be used."""
        if len(source) > MAX_PATTERN:
            raise UnknownPattern(f"it is longer than {MAX_PATTERN} characters")
        reader = _PatternReader(source)
        self._program = reader.alternatives(0)
        if not reader.at_end:
            raise InvalidPattern("a ) without its (")

    def found_in(self, text: str) -> bool:
        """True if it matches somewhere in the text, of which the beginning is looked at."""
        text = text[:MAX_TEXT]
        states: set[int] = set()
        for place in range(len(text) + 1):
            states.add(0)
            states = self._closed(states, text, place)
            if len(self._program) in states:
                return True
            if place < len(text):
                states = {
                    state + 1
                    for state in states
                    if isinstance(step := self._program[state], _Char) and step.test(text[place])
                }
        return False

    def _closed(self, states: set[int], text: str, place: int) -> set[int]:
        """Return the states that are reached without taking a character."""
        waiting, found = list(states), set[int]()
        while waiting:
            state = waiting.pop()
            if state in found:
                continue
            found.add(state)
            if state == len(self._program):
                continue
            match self._program[state]:
                case _Fork(one, two):
                    waiting += (state + one, state + two)
                case _Where(kind) if _is_there(kind, text, place):
                    waiting.append(state + 1)
        return found


def _is_there(kind: str, text: str, place: int) -> bool:
    match kind:
        case "^":
            return place == 0
        case "$":
            return place == len(text)
    before = place > 0 and _is_word(text[place - 1])
    behind = place < len(text) and _is_word(text[place])
    return (before != behind) == (kind == "b")


def _is_word(char: str) -> bool:
    return char == "_" or (char.isascii() and char.isalnum())


def _is_digit(char: str) -> bool:
    return char.isascii() and char.isdigit()


def _is_space(char: str) -> bool:
    return char in _SPACES


_CLASSES: Final[dict[str, _Test]] = {"d": _is_digit, "w": _is_word, "s": _is_space}


class _PatternReader:
    """Reads an expression from left to right; each method returns the program of what it read."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._place = 0
        self._size = 0

    @property
    def at_end(self) -> bool:
        """True if all is read."""
        return self._place >= len(self._source)

    def _peek(self, text: str) -> bool:
        return self._source.startswith(text, self._place)

    def _take(self, text: str) -> bool:
        found = self._peek(text)
        self._place += len(text) * found
        return found

    def _next(self) -> str:
        if self.at_end:
            raise InvalidPattern("it ends too early")
        self._place += 1
        return self._source[self._place - 1]

    def alternatives(self, depth: int) -> _Program:
        """Read up to the end, or to the end of a group."""
        if depth > _MAX_DEPTH:
            raise UnknownPattern(f"groups are nested more than {_MAX_DEPTH} deep")
        found = self._sequence(depth)
        while self._take("|"):
            other = self._sequence(depth)
            # Both lead to the end: the first by a jump over the second.
            jump = len(other) + 1
            found = [_Fork(1, len(found) + 2), *found, _Fork(jump, jump), *other]
        return self._sized(found)

    def _sequence(self, depth: int) -> _Program:
        found: _Program = []
        while not (self.at_end or self._peek("|") or self._peek(")")):
            found += self._repeated(depth)
        return self._sized(found)

    def _sized(self, program: _Program) -> _Program:
        if len(program) > MAX_PROGRAM:
            raise UnknownPattern("it stands for too much")
        return program

    def _repeated(self, depth: int) -> _Program:
        begin = self._place
        found = self._atom(depth)
        repeatable = self._source[begin] not in "^$" and self._source[begin : begin + 2] not in (
            "\\b",
            "\\B",
        )
        bounds = self._bounds()
        if bounds is None:
            return found
        if not repeatable:
            raise InvalidPattern("nothing to repeat")
        self._take("?")  # which of several matches is taken makes no difference here
        least, most = bounds
        if len(found) * max(least, most or 0) > MAX_PROGRAM:
            raise UnknownPattern("it repeats too much")
        program = [*found * least]
        if most is None:
            program += [_Fork(1, len(found) + 2), *found, _Fork(-len(found) - 1, -len(found) - 1)]
        else:
            for left in range(most - least, 0, -1):
                program += [_Fork(1, left * (len(found) + 1)), *found]
        return self._sized(program)

    def _bounds(self) -> tuple[int, int | None] | None:
        """Read how often what stands before is repeated; `{` that is no such thing is a literal."""
        for sign, bounds in (("*", (0, None)), ("+", (1, None)), ("?", (0, 1))):
            if self._take(sign):
                return bounds
        if not self._peek("{"):
            return None
        inside, closed, _ = self._source[self._place + 1 :].partition("}")
        least, comma, most = inside.partition(",")
        if not (closed and _is_number(least) and (most == "" or _is_number(most))):
            return None
        self._place += len(inside) + 2
        if not comma:
            return int(least), int(least)
        if most and int(most) < int(least):
            raise InvalidPattern("numbers out of order in {}")
        return int(least), int(most) if most else None

    def _atom(self, depth: int) -> _Program:
        char = self._next()
        if char == "(":
            return self._group(depth)
        if char in "*+?":
            raise InvalidPattern("nothing to repeat")
        if char in "^$":
            return [_Where(char)]
        if char == "\\" and (self._peek("b") or self._peek("B")):
            return [_Where(self._next())]
        return [_Char(self._character(char))]

    def _character(self, char: str) -> _Test:
        """Return which characters one that was read stands for."""
        match char:
            case "[":
                return self._class()
            case ".":
                return lambda each: each not in _LINE_ENDS
            case "\\":
                return _test(self._escaped())
        return _test(char)

    def _group(self, depth: int) -> _Program:
        if self._take("?"):
            if self._peek("<") and not (self._peek("<=") or self._peek("<!")):
                _, closed, rest = self._source[self._place :].partition(">")
                if not closed:
                    raise InvalidPattern("a group's name does not end")
                self._place = len(self._source) - len(rest)
            elif not self._take(":"):
                raise UnknownPattern("looking ahead or behind, with (?=, (?!, (?<= or (?<!")
        found = self.alternatives(depth + 1)
        if not self._take(")"):
            raise InvalidPattern("a ( without its )")
        return found

    def _escaped(self) -> str | _Test:
        """Read what stands behind a backslash: a character, or a class of them."""
        char = self._next()
        test = _CLASSES.get(char.lower())
        if test is not None:
            return test if char.islower() else lambda each: not test(each)
        if char in "123456789k":
            raise UnknownPattern("a reference back, with \\1 or \\k")
        digits = self._source[self._place : self._place + _HEX_DIGITS.get(char, 0)]
        if digits and len(digits) == _HEX_DIGITS.get(char) and _is_hex(digits):
            self._place += len(digits)
            return chr(int(digits, 16))
        return _CONTROLS.get(char, char)

    def _class(self) -> _Test:
        """Read a class of characters, `[` taken already."""
        negated = self._take("^")
        single: set[str] = set()
        ranges: list[tuple[str, str]] = []
        tests: list[_Test] = []
        while not self._take("]"):
            low = self._member()
            if self._peek("-") and not self._peek("-]"):
                self._place += 1
                high = self._member()
                if isinstance(low, str) and isinstance(high, str):
                    if low > high:
                        raise InvalidPattern("a range out of order in []")
                    ranges.append((low, high))
                    continue
                single.add("-")
                self._note(high, single, tests)
            self._note(low, single, tests)

        def test(char: str) -> bool:
            found = (
                char in single
                or any(low <= char <= high for low, high in ranges)
                or any(each(char) for each in tests)
            )
            return found != negated

        return test

    def _member(self) -> str | _Test:
        char = self._next()
        if char != "\\":
            return char
        return "\b" if self._take("b") else self._escaped()

    def _note(self, member: str | _Test, single: set[str], tests: list[_Test]) -> None:
        if isinstance(member, str):
            single.add(member)
        else:
            tests.append(member)


def _test(member: str | _Test) -> _Test:
    return (lambda char: char == member) if isinstance(member, str) else member


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 4  # noqa: PLR2004 - beyond all bounds


def _is_hex(text: str) -> bool:
    return all(each in "0123456789abcdefABCDEF" for each in text)
