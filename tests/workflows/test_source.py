"""The names and titles of workflows, by their files' names."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.contract.topics import is_id
from bridge.workflows.library import name_of
from bridge.workflows.source import title_of


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("demo.json", "demo"),
        ("my first+#.json", "my_first__"),
        ("wide ä.png", "wide-744b0347"),
        ("雪景.json", "workflow-7cb7d11a"),
        (f"{'x' * 100}.json", "x" * 64),
        (f"{'x' * 100}ä.json", f"{'x' * 55}-2db9fa6f"),
        (".json", "_json"),
    ],
)
def test_a_name_fits_into_a_topic(file: str, name: str) -> None:
    assert name_of(file) == name
    assert is_id(name)


@given(st.text(min_size=1).map(lambda stem: f"{stem}.json"))
def test_any_file_has_a_name_that_fits_into_a_topic_and_a_title(file: str) -> None:
    assert is_id(name_of(file))
    title_of(file).encode()


@pytest.mark.parametrize(
    ("file", "title"),
    [
        ("my_first-try.json", "my first try"),
        ("SD 1.5 - portrait.json", "SD 1.5 - portrait"),
        ("雪景.json", "雪景"),
        (unicodedata.normalize("NFD", "Stück.json"), "Stück"),
    ],
)
def test_a_title_is_the_files_name_as_it_is_written(file: str, title: str) -> None:
    assert title_of(file) == title
