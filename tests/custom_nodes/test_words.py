from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.custom_nodes.package import load

words: Any = load("painter.words")


@pytest.mark.parametrize(
    ("prompt", "places", "light"),
    [
        ("Sunset over the SEA", {"sea"}, "sunset"),
        ("snowy mountains by a lake", {"mountains", "lake"}, "winter"),
        ("a neon city at night", {"city"}, "neon"),
        ("golden hour in the dunes", {"desert"}, "sunset"),
    ],
)
def test_the_words_decide_place_and_light(prompt: str, places: set[str], light: str) -> None:
    commission = words.read_prompt(prompt)
    assert commission.places == places
    assert commission.light == light


@pytest.mark.parametrize(
    ("prompt", "detail", "place"),
    [
        ("a lighthouse in a storm", "lighthouse", "sea"),
        ("a red barn", "barn", "hills"),
        ("a sailing boat", "boat", "sea"),
        ("two cats", "cat", "hills"),
        ("a cat in a forest", "cat", "forest"),
    ],
)
def test_what_the_examples_ask_for_is_painted(prompt: str, detail: str, place: str) -> None:
    commission = words.read_prompt(prompt)
    assert detail in commission.details
    assert commission.places == {place}


def test_colours_keep_their_order() -> None:
    commission = words.read_prompt("teal and gold waves")
    assert commission.colours == (words.COLOURS["teal"], words.COLOURS["gold"])


def test_spacing_case_and_marks_do_not_matter() -> None:
    assert words.read_prompt("A lake,  at dawn!") == words.read_prompt("a LAKE at dawn")


@given(st.text())
def test_any_text_is_a_commission_and_always_the_same(prompt: str) -> None:
    commission = words.read_prompt(prompt)
    assert commission.places
    assert commission == words.read_prompt(prompt)
    assert 0 <= commission.fingerprint < 2**64
