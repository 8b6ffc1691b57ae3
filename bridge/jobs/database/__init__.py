"""The journal's database: SQLite for one bridge, PostgreSQL for several.

One implementation of the journal's logic serves both: functions that are given a `Transaction`.
What differs lies in `sqlite.py` and `postgresql.py`, the dialect of the schema included.
"""

from bridge.jobs.database.database import Database, need_driver, probe
from bridge.jobs.database.engine import (
    FULL_DISK,
    SENT,
    SURE,
    Cursor,
    DatabaseError,
    LeaseLost,
    Statements,
    Stepped,
    Steps,
    Touched,
    Transaction,
    TransientError,
    Work,
    complete,
)

__all__ = [
    "FULL_DISK",
    "SENT",
    "SURE",
    "Cursor",
    "Database",
    "DatabaseError",
    "LeaseLost",
    "Statements",
    "Stepped",
    "Steps",
    "Touched",
    "Transaction",
    "TransientError",
    "Work",
    "complete",
    "need_driver",
    "probe",
]
