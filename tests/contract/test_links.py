from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.contract import links
from bridge.contract.errors import Expired, Forbidden
from bridge.contract.links import Link

KEY = bytes(range(32))
LINK = Link("alice", "job-1", 3, 1000)
IDS = st.text(string.ascii_letters + string.digits + "_-", min_size=1, max_size=64)


@given(client=IDS, job=IDS, output=st.integers(0, 2**31), expires=st.integers(1, 2**40))
def test_what_was_signed_is_read_again(client: str, job: str, output: int, expires: int) -> None:
    link = Link(client, job, output, expires, of_set=output % 2 == 1)
    token = links.sign(KEY, link)
    assert set(token) <= set(string.ascii_letters + string.digits + "-_.")
    assert links.read(KEY, token, expires - 1) == link


def test_one_that_is_too_old_has_expired() -> None:
    with pytest.raises(Expired):
        links.read(KEY, links.sign(KEY, LINK), 1000)


def test_one_that_another_key_signed_is_refused() -> None:
    with pytest.raises(Forbidden):
        links.read(bytes(32), links.sign(KEY, LINK), 0)


@pytest.mark.parametrize("place", range(0, 60, 3))
def test_no_character_can_be_changed(place: int) -> None:
    token = links.sign(KEY, LINK)
    place = min(place, len(token) - 2)  # of the last one some bits mean nothing
    changed = token[:place] + ("A" if token[place] != "A" else "B") + token[place + 1 :]
    with pytest.raises(Forbidden):
        links.read(KEY, changed, 0)


@given(token=st.text() | st.text(string.ascii_letters + "-_.=").map(lambda text: f"{text}.{text}"))
def test_garbage_is_refused(token: str) -> None:
    with pytest.raises(Forbidden):
        links.read(KEY, token, 0)


def test_what_is_signed_but_no_name_is_refused() -> None:
    with pytest.raises(Forbidden):
        links.read(KEY, links.sign(KEY, Link("a/b", "#", 0, 10)), 0)


def test_an_address_is_below_the_public_one() -> None:
    address = links.address("https://example.org/pictures/", KEY, LINK)
    assert address == f"https://example.org/pictures/o/{links.sign(KEY, LINK)}"
