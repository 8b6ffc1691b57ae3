"""A start on a full disk, and without its database."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import resource
import sys
from pathlib import Path

import msgspec
import pytest

from bridge.config import Config
from bridge.jobs.database import DatabaseError, TransientError
from bridge.jobs.journal import Journal
from bridge.resources import how_to_add
from bridge.service import instances, serve
from bridge.service.starting import waited_out
from tests.support.patience import PATIENCE_S

CHILD = """
import asyncio, logging, signal, sys
from pathlib import Path
from bridge.jobs.journal import Journal
from bridge.service.starting import waited_out

async def main():
    journal = Journal(Path(sys.argv[1]) / "data" / "journal.db")
    assert await waited_out(journal.open, asyncio.Event(), first_pause_s=0.05)
    print("opened", flush=True)
    await journal.close()

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
logging.basicConfig(stream=sys.stdout, format="%(message)s")
asyncio.run(main())
"""


@pytest.mark.slow
async def test_a_start_on_a_full_disk_waits_until_there_is_room(tmp_path: Path) -> None:
    """No file of the process may grow: to it that is a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", CHILD, str(tmp_path)),
        stdout=asyncio.subprocess.PIPE,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1, hard)),
    )
    assert child.stdout is not None
    try:
        async with asyncio.timeout(PATIENCE_S):
            line = await child.stdout.readline()
            assert b"cannot start yet" in line
            assert b"journal" in line
            resource.prlimit(child.pid, resource.RLIMIT_FSIZE, (soft, hard))
            while line != b"opened\n":
                line = await child.stdout.readline()
                assert line
            assert await child.wait() == 0
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()


async def test_a_start_without_its_database_waits_and_can_be_stopped(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stopping = asyncio.Event()
    journal = Journal("postgresql://user:secret@127.0.0.1:1/bridge")
    with caplog.at_level(logging.ERROR):
        waiting = asyncio.create_task(waited_out(journal.open, stopping, first_pause_s=0.01))
        async with asyncio.timeout(PATIENCE_S):
            while "cannot start yet" not in caplog.text:  # noqa: ASYNC110 - a line of the log
                await asyncio.sleep(0.01)
        stopping.set()
        assert not await waiting
    assert "secret" not in caplog.text


@pytest.mark.parametrize(
    "error", [DatabaseError("another process uses it"), PermissionError(errno.EACCES, "no")]
)
async def test_what_does_not_pass_by_itself_ends_the_start(error: Exception) -> None:
    async def step() -> None:
        raise error

    with pytest.raises(type(error)):
        await waited_out(step, asyncio.Event())


async def test_each_step_is_tried_again_until_it_succeeds() -> None:
    errors: list[Exception] = [
        TransientError("full"),
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
    ]

    async def step() -> None:
        if errors:
            raise errors.pop()

    assert await waited_out(step, asyncio.Event(), first_pause_s=0.0)
    assert errors == []


@pytest.mark.parametrize(
    ("settings", "module", "told"),
    [
        (
            {"journal": "postgresql://h/db"},
            "psycopg",
            f"a journal in PostgreSQL needs psycopg: {how_to_add('postgresql')}",
        ),
        (
            {"blobs": "s3://bucket/outputs"},
            "obstore",
            f"blobs in a bucket need obstore: {how_to_add('s3')}",
        ),
    ],
)
async def test_an_extra_that_is_missing_is_reported_before_a_comfyui_is_installed(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], module: str, told: str
) -> None:
    async def install(*_: object) -> None:
        raise AssertionError("a ComfyUI would have been installed")

    monkeypatch.setattr(instances, "configs", install)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(DatabaseError) as caught:
        await serve(msgspec.structs.replace(Config(), **settings))
    assert str(caught.value) == told
