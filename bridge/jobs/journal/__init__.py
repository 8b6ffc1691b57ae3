"""The journal: what was accepted, and what became of it.

`journal` has the class, made of `writes`, `reads`, `shared` and `sweep` on their `base`; `queries`
has all SQL by name, `rows` what is read, `sequence` the numbers of statuses and results,
`membership` who is in a group of bridges, `schema` the tables, and `backup` copies a journal that
is in use. The database below is `bridge.jobs.database`.
"""

from bridge.jobs.journal.base import ASK_NODES, CHANNEL, Notice
from bridge.jobs.journal.journal import Journal
from bridge.jobs.journal.rows import Acceptance, KeptUpload, Record, Stored, Unpublished
from bridge.jobs.journal.writes import MARK_AFTER_S, AlreadyEnded

__all__ = [
    "ASK_NODES",
    "CHANNEL",
    "MARK_AFTER_S",
    "Acceptance",
    "AlreadyEnded",
    "Journal",
    "KeptUpload",
    "Notice",
    "Record",
    "Stored",
    "Unpublished",
]
