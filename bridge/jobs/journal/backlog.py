"""Reads the work that has not ended, of all bridges that share the journal."""

from __future__ import annotations

from bridge.jobs.backlog import Backlog, backlog
from bridge.jobs.database import Transaction
from bridge.jobs.journal import queries, rows


def read(db: Transaction, *, shared: bool) -> Backlog:
    """Return the backlog; `shared`: there is a table of members, of which those that live count."""
    counts = list(db.execute(queries.BACKLOG))
    run_s = dict(db.execute(queries.ESTIMATES))
    members = db.execute(queries.HOW_MANY_MEMBERS).fetchone()[0] if shared else 1
    return backlog(
        [
            (workflow, rows.read_needs(needs), state, count)
            for workflow, needs, state, count in counts
        ],
        run_s,
        members,
    )
