"""The releases of a repository are read from its tags."""

from __future__ import annotations

import pytest

from bridge.comfyui.releases import Release, chosen, listed, numbers

A, B, C, D = (letter * 40 for letter in "abcd")
TAGS = f"""{A}\trefs/tags/v0.9.9
{B}\trefs/tags/v0.10.0
{C}\trefs/tags/v0.10.0^{{}}
{D}\trefs/tags/v0.11.0-rc1
{D}\trefs/tags/latest
{D}\trefs/heads/v0.99.0
{D}\trefs/tags/v0.3
no line of git's
"""


def test_releases_stand_in_the_order_of_their_numbers() -> None:
    assert listed(TAGS) == [
        Release("0.3", "v0.3", D),
        Release("0.9.9", "v0.9.9", A),
        Release("0.10.0", "v0.10.0", C),  # the commit, not the tag's own object
    ]
    assert listed("") == []


def test_the_peeled_line_counts_in_whatever_order() -> None:
    assert listed("\n".join(reversed(TAGS.splitlines()))) == listed(TAGS)


@pytest.mark.parametrize(
    ("wanted", "version"),
    [(None, "0.10.0"), ("0.9.9", "0.9.9"), ("v0.9.9", "0.9.9"), ("0.9", None), ("latest", None)],
)
def test_a_release_is_named_by_its_version_or_its_tag(
    wanted: str | None, version: str | None
) -> None:
    found = chosen(listed(TAGS), wanted)
    assert (found and found.version) == version
    assert chosen([], wanted) is None


def test_versions_are_numbers() -> None:
    assert numbers("0.10.0") > numbers("0.9.9")
