"""The statements of docs/upgrading.md, on a real PostgreSQL."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from bridge.jobs.journal import Journal
from bridge.jobs.journal.schema import ADDED
from tests.support.postgresql import PostgreSQL

pytestmark = pytest.mark.postgresql

PAGE = (Path(__file__).parents[2] / "docs" / "upgrading.md").read_text()
BUILDS = re.findall(r"^ {4}(CREATE INDEX .*)$", PAGE, re.MULTILINE)
(DROPS,) = re.findall(r"`(DROP INDEX \w+)`", PAGE)
# What a bridge of this version adds to the tables of one before.
NEW = [found[1] for each in ADDED if (found := re.match(r"CREATE INDEX \D+ EXISTS (\w+)", each))]

Database = psycopg.Connection[Any]


@pytest.fixture
def address(postgresql: PostgreSQL) -> Iterator[str]:
    with postgresql.database() as address:
        yield address


@pytest.fixture
def database(address: str) -> Iterator[Database]:
    with psycopg.connect(address, autocommit=True) as database:
        yield database


async def start(address: str) -> None:
    """Do what the start of a bridge does with the tables."""
    journal = Journal(address)
    await journal.open()
    await journal.close()


def run(database: Database, statement: str) -> None:
    database.execute(statement.encode())


def indexes(database: Database) -> dict[str, tuple[str, bool]]:
    """Return each index by its name: what it is, and whether it is used."""
    rows = database.execute(b"""
        SELECT indexname, indexdef, indisvalid FROM pg_indexes
        JOIN pg_index ON indexrelid = format('%I.%I', schemaname, indexname)::regclass
        WHERE schemaname = current_schema()""")
    return {name: (definition, valid) for name, definition, valid in rows}


def numbers(database: Database) -> set[int]:
    """Return the numbers that the server gave the indexes when it built them."""
    rows = database.execute(b"SELECT oid::bigint FROM pg_class WHERE relkind = 'i'")
    return {number for (number,) in rows}


async def test_indexes_that_are_built_before_an_upgrade_are_those_that_it_would_build(
    address: str, database: Database
) -> None:
    await start(address)
    built = indexes(database)
    for name in NEW:
        run(database, f"DROP INDEX {name}")
    assert set(built) - set(indexes(database)) == set(NEW) != set()
    for statement in BUILDS:
        run(database, statement)
    assert indexes(database) == built
    before = numbers(database)
    await start(address)
    assert numbers(database) == before


async def test_an_index_whose_build_was_interrupted_is_dropped_and_built_again(
    address: str, database: Database
) -> None:
    await start(address)
    built, name = indexes(database), DROPS.split()[-1]
    (build,) = (each for each in BUILDS if f" {name} " in each)
    run(database, DROPS)
    with psycopg.connect(address) as writer:
        writer.execute(b"LOCK TABLE jobs IN ROW EXCLUSIVE MODE")  # as a bridge that writes
        run(database, "SET lock_timeout = 1")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            run(database, build)
    assert not indexes(database)[name][1]
    run(database, DROPS)
    run(database, "RESET lock_timeout")
    run(database, build)
    assert indexes(database) == built
