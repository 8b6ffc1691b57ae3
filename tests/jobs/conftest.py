"""The journal of the tests, on both databases."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from bridge.jobs.journal import Journal
from tests.support.journals import with_tables


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path | str]:
    """The journal's database: all that it promises, it promises on both."""
    if request.param == "sqlite":
        yield tmp_path / "journal.db"
        return
    with request.getfixturevalue("postgresql").database() as address:
        yield address


@pytest.fixture
async def journal(where: Path | str) -> AsyncIterator[Journal]:
    journal = Journal(with_tables(where) if isinstance(where, Path) else where)
    await journal.open()
    yield journal
    await journal.close()
