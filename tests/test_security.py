"""The tables of docs/security.md name tests that exist, and no promise is without a row."""

from __future__ import annotations

import re
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest

DOCUMENT = Path("docs/security.md")
TEXT = DOCUMENT.read_text()


def rows_of(text: str) -> list[list[str]]:
    """Return the cells of all rows of tables that name tests."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    return [row for row in cells if row[-1] != "shown by"]


def tables_of(text: str) -> list[str]:
    """Return the headings of all tables: cells between bars."""
    lines = text.splitlines()
    return [line for line, below in pairwise(lines) if re.fullmatch(r"\|[-:|]+\|", below)]


ISOLATION = rows_of(TEXT.partition("## Isolation")[2].partition("\n## ")[0])
ROWS = rows_of(TEXT.partition("## Threats and defences")[2].partition("\n## Floods")[0])
GUARANTEES = rows_of(TEXT.partition("## The guarantees")[2].partition("\n## ")[0])


@cache
def names_in(file: Path) -> frozenset[str]:
    return frozenset(re.findall(r"^ *(?:async )?def (\w+)", file.read_text(), re.MULTILINE))


@pytest.mark.parametrize("row", ISOLATION + ROWS + GUARANTEES, ids=lambda row: row[0][:60])
def test_each_threat_and_guarantee_has_a_test_that_exists(row: list[str]) -> None:
    _threat, stopped_by, shown_by = row
    assert stopped_by
    named = re.findall(r"`([\w/]+): (test_\w+)`", shown_by)
    assert named
    for file, test in named:
        assert test in names_in(Path("tests") / f"{file}.py"), (file, test)


def test_each_guarantee_of_the_contract_is_in_the_table() -> None:
    contract = Path("docs/contract.md").read_text()
    listed = contract.partition("## Guarantees")[2].partition("\n## ")[0]
    numbers = re.findall(r"^(\d+)\. \*\*", listed, re.MULTILINE)
    assert len(numbers) >= 6
    assert {row[0].partition(":")[0] for row in GUARANTEES} == set(numbers)
    # What is in bold, and each sentence that says what happens, has a row of its own.
    for number in numbers:
        text = listed.partition(f"\n{number}. ")[2].partition(f"\n{int(number) + 1}. ")[0]
        about = [row for row in GUARANTEES if row[0].startswith(f"{number}:")]
        assert len(about) >= len(re.findall(r"\*\*", text)) // 2


def test_no_table_but_those_of_measurements_is_without_tests() -> None:
    without = [each for each in tables_of(TEXT) if not each.endswith("| shown by |")]
    assert all(each.startswith("| flood, by one client |") for each in without), without
    assert len(tables_of(TEXT)) >= 5
