from __future__ import annotations

import asyncio
import logging
import os
import time
import uuid
from pathlib import Path
from typing import Any, cast

import pytest
from msgspec import Struct

from bridge.config.tables import ClientRights
from bridge.contract.messages import BeginUpload
from bridge.contract.numbering import Numbered
from bridge.jobs.clock import Clock
from bridge.jobs.database import LeaseLost
from bridge.jobs.journal import Journal
from bridge.jobs.queue import Key
from bridge.jobs.uploads import UploadRules, Uploads
from bridge.media.files import Folder
from bridge.requests.permissions import Permissions
from bridge.service.retention import Retention
from tests.jobs.drafts import KEPT_PICTURE, draft
from tests.jobs.members import OVER_S, Member
from tests.support.patience import PATIENCE_S
from tests.support.postgresql import PostgreSQL


class Keep(Struct):
    """As much of the settings as sweeping reads."""

    keep_results_s: float = 1.0
    remember_ids_s: float = 1.0
    max_outputs: int = 1
    keep_uploads_s: float = 1.0


@pytest.mark.parametrize("folder", ["blobs", "uploads"])
async def test_a_disk_that_lets_nothing_go_does_not_end_the_bridge(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, folder: str
) -> None:
    stuck = tmp_path / folder / "stuck"  # a folder cannot be deleted as a file is
    stuck.mkdir(parents=True)
    os.utime(stuck, (1, 1))
    journal, files = Journal(tmp_path / "journal.db"), Folder(tmp_path / "blobs")
    await journal.open()
    files.open()
    uploads = Uploads(tmp_path / "uploads", journal, files, UploadRules(1, lambda _: 1, 1.0))
    sweeping = Retention(
        cast("Any", Keep()),
        permissions=Permissions({}),
        journal=journal,
        files=files,
        uploads=uploads,
        leads=lambda: True,
        attempts=[tmp_path / "attempts"],
    )
    caplog.set_level(logging.WARNING)
    left = tmp_path / "attempts" / str(uuid.uuid4())
    left.mkdir(parents=True)
    os.utime(left, (1, 1))
    strange = tmp_path / "uploads" / "a.b.c.begun"
    strange.parent.mkdir(exist_ok=True)
    strange.touch()
    os.utime(strange, (1, 1))
    await uploads.begin("alice", "photo", BeginUpload(size=1, sha256="c" * 64))
    running = asyncio.create_task(sweeping.run())
    async with asyncio.timeout(PATIENCE_S):
        while left.exists():  # noqa: ASYNC110 - there is no event
            await asyncio.sleep(0.01)
    assert "cannot delete expired data" in caplog.text
    assert not strange.exists()
    assert not running.done()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await journal.close()


async def test_a_file_that_was_just_written_is_not_swept_though_no_row_needs_it_yet(
    tmp_path: Path,
) -> None:
    journal, files = Journal(tmp_path / "journal.db"), Folder(tmp_path / "blobs")
    await journal.open()
    files.open()
    fresh, old = "a" * 64, "b" * 64
    for sha256 in (fresh, old):
        files.put(sha256, b"bytes")
    (path,) = (each for each in (tmp_path / "blobs").rglob("*") if each.name == old)
    two_hours_ago = time.time() - 7200
    os.utime(path, (two_hours_ago, two_hours_ago))
    sweeping = Retention(
        cast("Any", Keep()),
        permissions=Permissions({}),
        journal=journal,
        files=files,
        uploads=Uploads(tmp_path / "uploads", journal, files, UploadRules(1, lambda _: 1, 1.0)),
        leads=lambda: True,
    )
    await sweeping._sweep_blobs()
    assert {each.name for each in (tmp_path / "blobs").rglob("*") if each.is_file()} == {fresh}
    await journal.close()


@pytest.mark.parametrize("by", [8 * 86_400.0, 30 * 86_400.0, 1.8e9])
async def test_a_wall_clock_that_is_set_deletes_nothing_forgets_no_id_and_is_reported(
    tmp_path: Path, by: float
) -> None:
    wall = 100.0 if by > 1e9 else 1.8e9
    clock = Clock(lambda: wall, time.monotonic, "boot")
    journal, files = Journal(tmp_path / "journal.db", clock), Folder(tmp_path / "blobs")
    await journal.open()
    files.open()
    files.put("a" * 64, b"a row will need it")
    uploads = Uploads(tmp_path / "uploads", journal, files, UploadRules(1000, lambda _: 1000, 60.0))
    await uploads.begin("alice", "photo", BeginUpload(size=10, sha256="c" * 64))
    draft_of = draft("j1")
    await journal.accept(draft_of, clock.now())
    result = Numbered(b"", b"")
    await journal.finish(draft_of.key, state="succeeded", result=result, now=clock.now())
    jumps: list[float] = []
    sweeping = Retention(
        cast("Any", Keep(keep_results_s=7 * 86_400.0, remember_ids_s=30 * 86_400.0)),
        permissions=Permissions({}),
        journal=journal,
        files=files,
        uploads=uploads,
        leads=lambda: True,
        jumped=jumps.append,
    )
    wall += by
    old = time.time() - by
    for path in (*(tmp_path / "blobs").iterdir(), *(tmp_path / "uploads").iterdir()):
        os.utime(path, (old, old))  # as they look once the clock was set
    await sweeping.sweep()
    assert jumps == [pytest.approx(by)]
    assert (await journal.get(draft_of.key)).result is not None
    assert not (await journal.accept(draft_of, clock.now())).new
    assert list((tmp_path / "blobs").iterdir())
    assert list((tmp_path / "uploads").iterdir())
    await journal.close()


@pytest.mark.postgresql
async def test_a_clients_outputs_stay_bounded_whoever_takes_the_requests(
    tmp_path: Path, postgresql: PostgreSQL
) -> None:
    size = KEPT_PICTURE.size

    def sweeper(member: Member, *, leads: bool) -> Retention:
        files = Folder(tmp_path / member.name)
        files.open()
        rules = UploadRules(1, lambda _: 1, 1.0)
        return Retention(
            cast("Any", Keep(1e9, 1e9, 100 * size, 1e9)),
            permissions=Permissions({"alice": ClientRights(max_outputs=2 * size)}),
            journal=member.journal,
            files=files,
            uploads=Uploads(tmp_path / "uploads", member.journal, files, rules),
            leads=lambda: leads,
        )

    async def kept(member: Member) -> list[str]:
        keys = [Key("alice", f"j{number}") for number in range(4)]
        return [each.job_id for each in keys if await member.journal.output(each, 0) is not None]

    async def run(member: Member, number: int) -> None:
        job = await member.accept(f"j{number}")
        assert await member.journal.claim(job)
        await member.journal.finish(
            job.key,
            state="succeeded",
            result=Numbered(b"", b""),
            now=2000.0 + number,
            outputs=[KEPT_PICTURE],
            keep_until=1e12,
        )

    with postgresql.database() as address:
        one, two = Member(address, "one"), Member(address, "two")
        for each in (one, two):
            await each.journal.open()
            await each.join()
        assert (await one.beat()).intake
        for number in range(3):
            await run(one, number)
        await sweeper(two, leads=False).sweep()
        assert await kept(two) == ["j0", "j1", "j2"]
        await sweeper(one, leads=True).sweep()
        assert await kept(two) == ["j1", "j2"]

        # The first one dies; what it wrote counts for the second one.
        await one.beat(OVER_S)
        assert (await two.beat(OVER_S)).intake
        await run(two, 3)
        with pytest.raises(LeaseLost):  # it woke, and believes that it leads
            await sweeper(one, leads=True).sweep()
        assert await kept(two) == ["j1", "j2", "j3"]
        await sweeper(two, leads=True).sweep()
        assert await kept(two) == ["j2", "j3"]
        for each in (one, two):
            await each.journal.close()
