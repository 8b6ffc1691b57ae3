"""Regular expressions of files: JavaScript's, in bounded time."""

from __future__ import annotations

import re
import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.workflows.conversion.patterns import (
    MAX_PATTERN,
    InvalidPattern,
    Pattern,
    UnknownPattern,
)

# What means the same to JavaScript and to Python, so that the latter can be asked.
_ATOMS = st.sampled_from(
    ["a", "b", "c", "_", ".", "[ab]", "[^a]", "[a-c_]", r"\w", r"\d", r"\b", "^", "(?:a|bc)", "(c)"]
)


@st.composite
def _sources(draw: st.DrawFn) -> str:
    parts = []
    for atom in draw(st.lists(_ATOMS, max_size=6)):
        repeat = draw(st.sampled_from(["", "", "*", "+", "?", "{2}", "{1,}", "{0,2}", "*?"]))
        parts.append(atom if atom in ("^", r"\b") else atom + repeat)
    cut = draw(st.integers(0, len(parts)))
    return "".join(parts[:cut]) + draw(st.sampled_from(["", "|"])) + "".join(parts[cut:])


@given(_sources(), st.text("abc_1 -", max_size=12))
def test_it_finds_what_another_matcher_finds(source: str, text: str) -> None:
    assert Pattern(source).found_in(text) == (re.search(source, text, re.ASCII) is not None), source


@pytest.mark.parametrize(
    ("source", "text", "found"),
    [
        ("seed|随机种", "noise_seed", True),
        ("seed|随机种", "随机种", True),
        (r"(_|\b)neg(ative|_|\b)", "negative", True),
        (r"(_|\b)neg(ative|_|\b)", "negligee", False),
        ("^Preview", "Save, Preview", False),
        ("Image$", "Save Image", True),
        ("a$", "a\n", False),
        ("", "anything", True),
        (r"\u0041\x42\t", "AB\t", True),
        (r"[\d\-x]+$", "1-x", True),
        (r"[\w-]$", "-", True),
        (r"\S\D\W", "a- ", True),
        ("(?<name>a)b", "ab", True),
        ("{a}", "{a}", True),
        ("a{2,", "a{2,", True),
        ("[]", "a", False),
        ("[^]", "\n", True),
        (".", "\u2028", False),
        (r"\$\.", "$.", True),
        (r"[\b]", "\b", True),
    ],
)
def test_it_reads_as_javascript_does(source: str, text: str, *, found: bool) -> None:
    assert Pattern(source).found_in(text) is found


@pytest.mark.parametrize("source", ["*", "a**", "(", "a)", "[a", "[b-a]", "\\", "^*", "a{2,1}"])
def test_what_is_none_is_refused(source: str) -> None:
    with pytest.raises(InvalidPattern):
        Pattern(source)


@pytest.mark.parametrize(
    "source",
    [
        "(?=a)",
        "(?!a)",
        "(?<=a)b",
        r"(a)\1",
        "a" * (MAX_PATTERN + 1),
        "(" * 60 + ")" * 60,
        "a{9999}",
    ],
)
def test_what_is_not_known_says_so(source: str) -> None:
    with pytest.raises(UnknownPattern):
        Pattern(source)


def test_a_pattern_that_keeps_others_busy_for_years_is_soon_done_with() -> None:
    begin = time.process_time()
    assert not Pattern("(a*)*(a|a)*b").found_in("a" * 1000)
    # 20 ms where it was measured; the bound leaves room for a busy machine.
    assert time.process_time() - begin < 2


@given(st.text(max_size=30), st.text(max_size=10))
def test_any_text_is_a_pattern_or_refused(source: str, text: str) -> None:
    with suppress(InvalidPattern, UnknownPattern):
        Pattern(source).found_in(text)
