"""An empty journal as a file: copied in a tenth of the time that making its tables takes."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from functools import cache
from itertools import chain
from pathlib import Path

from bridge.jobs.journal.schema import ADDED, SCHEMA


@cache
def empty_journal() -> bytes:
    """Return the file's bytes."""
    with closing(sqlite3.connect(":memory:")) as db:
        for statement in chain(*SCHEMA, ADDED):
            db.execute(statement)
        db.execute(f"PRAGMA user_version = {len(SCHEMA)}")
        return db.serialize()


def with_tables(path: Path) -> Path:
    """Put an empty journal where there is none yet."""
    if not path.exists():
        path.write_bytes(empty_journal())
    return path
