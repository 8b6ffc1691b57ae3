from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.custom_nodes.package import load

media: Any = load("media")
errors: Any = load("errors")


def put(store: Any, name: str, size: int) -> None:
    store.put(name, media.Media(bytes(size), "image/png"))


def test_the_least_recently_used_goes_first() -> None:
    store = media.HeldMedia(budget=10)
    put(store, "a", 5)
    put(store, "b", 5)
    store.get("a")
    put(store, "c", 5)
    assert [name for name in "abc" if store.holds(name)] == ["a", "c"]


def test_asking_whether_it_is_held_counts_as_a_use() -> None:
    store = media.HeldMedia(budget=10)
    put(store, "a", 5)
    put(store, "b", 5)
    assert store.holds("a")
    put(store, "c", 5)
    assert not store.holds("b")


def test_what_is_not_held_is_named() -> None:
    with pytest.raises(errors.MediaNotHeld, match="abc"):
        media.HeldMedia(budget=10).get("abc")


def test_media_above_the_whole_budget_is_refused_and_evicts_nothing() -> None:
    store = media.HeldMedia(budget=10)
    put(store, "a", 10)
    with pytest.raises(errors.MediaTooLarge):
        put(store, "b", 11)
    assert store.holds("a")


def test_the_same_media_twice_takes_its_room_once() -> None:
    store = media.HeldMedia(budget=10)
    put(store, "a", 4)
    put(store, "b", 4)
    put(store, "a", 4)
    assert store.holds("a")
    assert store.holds("b")


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 10))))
def test_what_was_put_last_is_held_and_the_budget_is_kept(puts: list[tuple[str, int]]) -> None:
    store = media.HeldMedia(budget=10)
    sizes = {}
    for name, size in puts:
        put(store, name, size)
        sizes[name] = size
        assert len(store.get(name).data) == size
    assert sum(size for name, size in sizes.items() if store.holds(name)) <= 10


@pytest.mark.parametrize("text", ["", "0" * 63, "0" * 65, "A" * 64, "g" * 64, "0" * 64 + "\n"])
def test_other_texts_are_no_sha256(text: str) -> None:
    assert not media.is_sha256(text)


@pytest.mark.parametrize(
    ("text", "hashes"),
    [
        ("", []),
        ("[]", []),
        ("a", ["a"]),
        ("a,b", ["a", "b"]),
        (" a , b ", ["a", "b"]),
        ('["a", "b"]', ["a", "b"]),
        (' ["a"] ', ["a"]),
        ('["a"', ['["a"']),
    ],
)
def test_several_hashes_are_distinguished(text: str, hashes: list[str]) -> None:
    assert media.split_hashes(text) == hashes


@given(st.text())
def test_any_text_is_split_into_texts(text: str) -> None:
    assert all(isinstance(part, str) for part in media.split_hashes(text))


def test_sixty_four_lower_case_hex_digits_are_a_sha256() -> None:
    assert media.is_sha256("0123456789abcdef" * 4)
