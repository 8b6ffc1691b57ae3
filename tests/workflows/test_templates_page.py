"""docs/templates.md is what the templates and the code say."""

from __future__ import annotations

import pytest

from tests.vectors import templates_page

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def rows() -> list[templates_page.Row]:
    return templates_page.rows()


def test_the_page_is_drawn_from_the_code(rows: list[templates_page.Row]) -> None:
    assert templates_page.PAGE.read_text(encoding="utf-8") == templates_page.text(rows)


def test_conversions_are_the_official_pages(rows: list[templates_page.Row]) -> None:
    compared = [row for row in rows if row.equal is not None]
    assert len(compared) > 500
    assert {row.name for row in compared if not row.equal} == templates_page.OTHERWISE.keys()


def test_every_template_is_described_or_says_what_it_needs(
    rows: list[templates_page.Row],
) -> None:
    refused = [row for row in rows if row.workflow is None]
    # Seven take an output that their classes have in a newer ComfyUI only.
    assert len(refused) == 7
    assert all("newer" in row.problem for row in refused)
    for row in rows:
        if row.workflow is not None and row.runnable:
            assert row.workflow.outputs, row.name
            assert row.workflow.places, row.name
