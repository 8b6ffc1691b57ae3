"""The short form of `make fuzz`: valid messages, damaged."""

from __future__ import annotations

import importlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import TARGETS

# What breaks decoders more often than chance does.
TOKENS = [
    *(
        b"\x00",
        b"\xff",
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
        b"\r\n",
        b'"',
        b"\\u0000",
        b"\\ud800",
    ),
    *(b"{", b"}", b"[", b"]", b",", b":", b"null", b"true", b"NaN", b"Infinity", b"-0", b"1e999"),
    *(b"[" * 2000, b'{"a":' * 2000, b"9" * 500, b" " * 2000, b"0" * 64, b"18446744073709551616"),
    *(b"../", b"..", b"/", b"+", b"#", b"$", b"%00", b"%s", b"\xe2\x80\xae", b"\xcc\x80" * 50),
    *(b"\x7f\xff\xff\xff", b"\x80\x00\x00\x00", b"\xff\xff\xff\xff", b"\x00\x00\x00\x00"),
]


@st.composite
def damaged(draw: st.DrawFn, seeds: tuple[bytes, ...]) -> bytes:
    """A seed with a few bytes changed, left out, doubled or put in, or spliced with another."""
    data = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(0, 5))):
        start = draw(st.integers(0, len(data)))
        end = draw(st.integers(start, min(len(data), start + 20)))
        match draw(st.sampled_from(["change", "drop", "double", "insert", "splice"])):
            case "change":
                put = draw(st.binary(min_size=end - start, max_size=end - start))
                data = data[:start] + put + data[end:]
            case "drop":
                data = data[:start] + data[end:]
            case "double":
                data = data[:end] + data[start:]
            case "insert":
                data = data[:start] + draw(st.sampled_from(TOKENS)) + data[start:]
            case "splice":
                other = draw(st.sampled_from(seeds))
                data = data[:start] + other[draw(st.integers(0, len(other))) :]
    return data


@pytest.mark.parametrize("name", TARGETS)
def test_a_damaged_message_raises_only_what_is_documented(name: str) -> None:
    target = TARGETS[name]

    @settings(deadline=None, database=None)
    @given(damaged(target.seeds))
    def check(data: bytes) -> None:
        target.run(data)

    for seed in target.seeds:
        target.run(seed)
    check()


@pytest.mark.parametrize("name", TARGETS)
def test_the_decoders_whose_branches_are_counted_are_there(name: str) -> None:
    for module, functions in TARGETS[name].decoders.items():
        found = importlib.import_module(module)
        for function in functions:
            place = found
            for part in function.split("."):
                place = getattr(place, part)
            assert callable(place)
