"""The plans of what the journal asks of a large PostgreSQL: few rows are read, by an index."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from typing import Any

import psycopg
import pytest
from psycopg.sql import SQL, Literal

from bridge.jobs.database.pipeline import PendingResult, Pipeline, _numbered
from bridge.jobs.journal import Journal
from tests.jobs.drafts import draft
from tests.jobs.many import BUSY, OUTPUT, OUTPUTS_S, REMEMBERED_S, RESULTS_S, fill
from tests.jobs.test_journal import accept, finish
from tests.support.postgresql import PostgreSQL

pytestmark = pytest.mark.postgresql

ROWS = 20_000
LARGE = ("jobs", "sets", "outputs", "blobs")
# The busy client alone has 2,000 jobs.
MOST_IN_VAIN = 500


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[Any, ...]]:
    """Each query that bridges send, with the last parameters that it had."""
    found: dict[str, tuple[Any, ...]] = {}
    execute = Pipeline.execute

    def noting(self: Pipeline, sql: str, parameters: Sequence[Any] = ()) -> PendingResult:
        if not sql.startswith("CREATE"):
            found[sql] = tuple(parameters)
        return execute(self, sql, parameters)

    monkeypatch.setattr(Pipeline, "execute", noting)
    return found


async def test_no_statement_reads_all_rows_of_a_large_journal(
    postgresql: PostgreSQL, sent: dict[str, tuple[Any, ...]]
) -> None:
    with postgresql.database() as address:
        first = Journal(address)
        await first.open()
        await finish(first, await accept(first, "like this", client=BUSY))
        now = first.clock.now()
        await first.close()
        fill(address, "like this", ROWS, now, jobs_a_set=2, outputs_s=REMEMBERED_S / 2)
        sent.clear()
        journal = Journal(address)
        await _start(journal, now)
        await _use(journal, now)
        asked = dict(sent)
        await _sweep(journal, now)
        await journal.close()
        with psycopg.connect(address, autocommit=True) as connection:
            found = [
                each
                for sql, parameters in sent.items()
                # To find 200 rows to delete in a table of 10,000, reading all is the best way.
                for each in _reads(
                    connection, sql, parameters, LARGE if sql in asked else LARGE[:1]
                )
            ]
    assert len(asked) > 50
    assert not found, "\n\n".join(found)


async def _start(journal: Journal, now: float) -> None:
    """Do what a bridge of a group does until it takes requests."""
    await journal.open()
    await journal.join("a", uuid.uuid4().hex, 600.0)
    await journal.beat(600.0, staying=True)
    await journal.estimates()
    await journal.unfinished()
    await journal.clients()
    for orphans in (False, True):
        await journal.unpublished(now - 60.0, orphans=orphans)
    await journal.unowned(waiting=True)
    await journal.to_cancel()


async def _use(journal: Journal, now: float) -> None:
    """Do what requests, jobs and the sweep do."""
    job = (await journal.accept(draft(client=BUSY, delivery="s:1:x"), now)).record.job
    again = draft("j2", BUSY, delivery="s:1:x", redelivered=True)
    assert (await journal.accept(again, now)).record.job == job
    key = job.key
    await journal.claim(job, lambda _: None)
    await journal.started(job)
    await journal.requeued(job)
    await journal.records([key])
    await journal.claimed_by_others()
    await journal.backlog()
    await finish(journal, key, now=now, keep=now + OUTPUTS_S)
    journal.published(key)
    await journal.resume(BUSY, 1, 50)
    await journal.ack(BUSY, 10**9)
    for wanted in (
        {},
        {"states": ("queued", "running")},
        {"set_id": "a set"},
        {"states": ("running",), "set_id": "a set", "workflow": "w"},
    ):
        await journal.page(BUSY, after=0, limit=50, **wanted)
    await journal.plan(key)
    await journal.output(key, 0)
    await journal.forget(key)


async def _sweep(journal: Journal, now: float) -> None:
    """Delete nothing, and then what is older than 28 days, and what is beyond the budget."""
    for later_s, max_outputs in ((0.0, 10**12), (REMEMBERED_S / 15, ROWS * OUTPUT // 3)):
        await journal.sweep(
            now=now + later_s,
            results_before=now + later_s - RESULTS_S,
            forget_before=now + later_s - REMEMBERED_S,
            max_outputs=max_outputs,
        )


def _reads(
    connection: psycopg.Connection[Any],
    sql: str,
    parameters: tuple[Any, ...],
    large: Sequence[str],
) -> Iterator[str]:
    """Return what a statement reads in vain, planned for its parameters and for any."""
    # As texts, whose types the server finds out: so bridges send them.
    values = SQL(", ").join(
        Literal(str(each) if isinstance(each, int | float) else each) for each in parameters
    )
    execute = SQL("EXECUTE it ({})").format(values) if parameters else SQL("EXECUTE it")
    analyze = SQL("" if sql.lstrip().startswith("INSERT") else "ANALYZE, ")
    for mode in ("force_custom_plan", "force_generic_plan"):
        with connection.transaction(force_rollback=True):
            connection.execute(b"PREPARE it AS " + _numbered(sql))
            connection.execute(f"SET plan_cache_mode = {mode}")
            found = connection.execute(
                SQL("EXPLAIN ({}FORMAT JSON) {}").format(analyze, execute)
            ).fetchone()
        connection.execute("DEALLOCATE it")
        assert found is not None
        for node in _nodes(found[0][0]["Plan"]):
            relation, vain = node.get("Relation Name"), node.get("Rows Removed by Filter", 0)
            if vain > MOST_IN_VAIN or (node["Node Type"] == "Seq Scan" and relation in large):
                yield f"{node['Node Type']} of {relation}, {vain} in vain, {mode}: {sql}"


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for each in plan.get("Plans", ()):
        yield from _nodes(each)
