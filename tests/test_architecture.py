"""What docs/architecture.md shows is what the code is."""

from __future__ import annotations

import re

import pytest

from tests.support import diagrams


@pytest.mark.parametrize("name", ["rooms", "states", "comfyui"])
def test_a_diagram_shows_the_code_as_it_is(name: str) -> None:
    page = diagrams.PAGE.read_text("utf-8")
    assert diagrams.drawn(name, page) == diagrams.diagrams()[name], "make documents draws it anew"


def test_every_file_that_the_page_names_is_there() -> None:
    page = diagrams.PAGE.read_text("utf-8")
    named = set(re.findall(r"`((?:[\w-]+/)+(?:[\w-]+\.\w+)?)`", page))
    missing = [
        name
        for name in sorted(named)
        if not any(
            (diagrams.ROOT / base / name).exists() for base in ("", "bridge", "bridge/adapters")
        )
    ]
    assert named
    assert not missing
