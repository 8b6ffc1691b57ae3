"""Rows of the journal that cannot be read: each costs its job alone, never the bridge."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bridge.comfyui import events
from bridge.comfyui.session import QueueSnapshot
from bridge.contract.errors import UnknownJob
from bridge.contract.messages import encode
from bridge.jobs.job import Envelope
from bridge.jobs.journal import Journal
from bridge.jobs.queue import Key
from tests.jobs.dispatching import QuickComfyUI, RunningDispatcher, running_dispatcher
from tests.jobs.drafts import draft
from tests.jobs.test_journal_sets import accepted as accepted_set


class WithPrompts(QuickComfyUI):
    """It has every prompt from before, and runs it."""

    async def known(self) -> QueueSnapshot:
        return QueueSnapshot((), (), ())

    def adopt(self, prompt_id: str) -> AsyncIterator[events.Event]:
        return self.execute(prompt_id, {}, preview=False, extra_data={})

    async def cancel(self, _prompt_id: str) -> bool:
        return True


# As an earlier version accepted it: it may be as deep as Python's reader stops, or deeper.
DEEP = b'{"meta":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
DAMAGED = (DEEP, b"{", b'{"deliver": "by pigeon"}', b"\xff", 7)


_NAMES = {"jobs": "job_id", "sets": "set_id", "meta": "name"}


def damage(folder: Path, column: str, value: object, name: str, table: str = "jobs") -> None:
    with sqlite3.connect(folder / "journal.db") as database:
        statement = f"UPDATE {table} SET {column} = ? WHERE {_NAMES[table]} = ?"  # noqa: S608
        assert database.execute(statement, (value, name)).rowcount == 1
    database.close()


async def accepted(folder: Path, *job_ids: str) -> None:
    journal = Journal(folder / "journal.db")
    await journal.open()
    for job_id in job_ids:
        await journal.accept(draft(job_id), 1.0)
    await journal.close()


def lines_about(job_id: str, caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        each.message
        for each in caplog.records
        if f"row of {job_id} of client alice" in each.message
    ]


async def recovered(dispatcher: RunningDispatcher, job_id: str) -> None:
    """Let the dispatcher recover: the job has failed, and the others have run."""
    await dispatcher.recover()
    result = await dispatcher.recorder.outcome(job_id)
    assert (result["state"], result["error"]["code"]) == ("failed", "bridge_error")
    assert (await dispatcher.recorder.outcome("sound"))["state"] == "succeeded"
    assert await dispatcher.journal.unfinished() == []


@pytest.mark.parametrize("value", DAMAGED)
@pytest.mark.parametrize("column", ["envelope", "needs", "plan"])
async def test_a_job_whose_row_is_damaged_fails_and_the_others_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, column: str, value: object
) -> None:
    job_id = uuid.uuid4().hex
    await accepted(tmp_path, job_id, "sound")
    damage(tmp_path, column, value, job_id)
    async with running_dispatcher(tmp_path, comfyui=WithPrompts()) as dispatcher:
        await recovered(dispatcher, job_id)
    if column != "plan":
        assert len(lines_about(job_id, caplog)) == 1
    async with running_dispatcher(tmp_path, comfyui=WithPrompts()) as dispatcher:
        await dispatcher.recover()
        assert await dispatcher.journal.unfinished() == []


@pytest.mark.parametrize("state", ["waiting", "running"])
async def test_a_job_that_waits_or_ran_fails_if_its_row_is_damaged(
    tmp_path: Path, state: str
) -> None:
    await accepted(tmp_path, "j1", "sound")
    damage(tmp_path, "state", state, "j1")
    damage(tmp_path, "envelope", DEEP, "j1")
    async with running_dispatcher(tmp_path, comfyui=WithPrompts()) as dispatcher:
        await recovered(dispatcher, "j1")


async def test_all_that_is_read_of_damaged_rows_has_the_sound_ones_too(tmp_path: Path) -> None:
    await accepted(tmp_path, "j1", "sound")
    async with running_dispatcher(tmp_path, comfyui=WithPrompts()) as dispatcher:
        await dispatcher.recover()
        for job_id in ("j1", "sound"):
            await dispatcher.recorder.outcome(job_id)
        damage(tmp_path, "envelope", DEEP, "j1")
        damage(tmp_path, "needs", b"{", "j1")
        journal, key = dispatcher.journal, Key("alice", "j1")
        found = await journal.unpublished(0.0)
        assert [each.key.job_id for each in found] == ["j1", "sound"]
        assert b'"j1"' in found[0].result
        assert len(await journal.page("alice", after=0, limit=9)) == 2
        assert len(await journal.last_ended("alice")) == 1
        assert len(await journal.records([key, Key("alice", "sound")])) == 2
        assert (await journal.get(key)).job.state == "succeeded"
        with pytest.raises(UnknownJob):
            await journal.get(Key("alice", "j2"))


async def test_a_backlog_counts_a_job_whose_needs_are_damaged(tmp_path: Path) -> None:
    await accepted(tmp_path, "j1", "sound")
    damage(tmp_path, "needs", encode({"no": "needs"}), "j1")
    journal = Journal(tmp_path / "journal.db")
    await journal.open()
    assert sum(each.queued for each in (await journal.backlog()).kinds) == 2
    await journal.close()


async def test_a_set_whose_row_is_damaged_goes_on_without_what_it_cannot_echo(
    tmp_path: Path,
) -> None:
    journal = Journal(tmp_path / "journal.db")
    await journal.open()
    await accepted_set(journal)
    await accepted_set(journal, Key("alice", "sound"))
    damage(tmp_path, "envelope", DEEP, "s1", table="sets")
    found = {record.key.job_id: record.envelope for record, _ in await journal.sets.unfinished()}
    assert found == {"s1": Envelope(), "sound": Envelope(transaction="t")}
    await journal.close()


async def test_a_note_of_the_time_that_is_damaged_is_written_anew(tmp_path: Path) -> None:
    await accepted(tmp_path, "j1")
    damage(tmp_path, "value", "{", "clock", table="meta")
    await accepted(tmp_path, "j2")
    with sqlite3.connect(tmp_path / "journal.db") as database:
        ((noted,),) = database.execute("SELECT value FROM meta WHERE name = 'clock'")
    database.close()
    assert noted != "{"
