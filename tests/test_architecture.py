"""docs/architecture.md shows the code as it is."""

from __future__ import annotations

import re

import pytest

from bridge.contract.channels import channels
from tests.support import diagrams


@pytest.mark.parametrize("name", diagrams.DIAGRAMS)
def test_a_diagram_shows_the_code_as_it_is(name: str) -> None:
    page = diagrams.PAGE.read_text("utf-8")
    assert diagrams.drawn(name, page) == diagrams.DIAGRAMS[name](), "make documents draws it again"


def test_the_topics_of_one_jobs_messages_are_in_the_contract() -> None:
    known = {re.sub(r"\{\w+\}", "x", channel.address).split("/", 3)[-1] for channel in channels()}
    page = diagrams.drawn("one job", diagrams.PAGE.read_text("utf-8"))
    shown = re.findall(r"(?:request|response|job)/[\w/<>-]+", page)
    assert len(shown) > 8
    for topic in shown:
        assert re.sub(r"<\w+>|(?<=output/)0|demo|j1", "x", topic) in known, topic


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
