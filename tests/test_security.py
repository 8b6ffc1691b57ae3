"""The table of threats names tests that exist."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

DOCUMENT = Path("docs/security.md")
ROWS = [
    [cell.strip() for cell in line.split("|")[1:-1]]
    for line in DOCUMENT.read_text()
    .partition("## What is stopped")[2]
    .partition("\n## Floods")[0]
    .splitlines()
    if line.startswith("| ") and not line.startswith(("| threat", "| what could be lost", "|---"))
]


@cache
def names_in(file: Path) -> frozenset[str]:
    found = ast.walk(ast.parse(file.read_text()))
    return frozenset(
        each.name for each in found if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)
    )


@pytest.mark.parametrize("row", ROWS, ids=[row[0][:60] for row in ROWS])
def test_each_threat_has_a_test_that_exists(row: list[str]) -> None:
    _threat, stopped_by, shown_by = row
    assert stopped_by
    named = re.findall(r"`([\w/]+): (test_\w+)`", shown_by)
    assert named
    for file, test in named:
        assert test in names_in(Path("tests") / f"{file}.py"), (file, test)
