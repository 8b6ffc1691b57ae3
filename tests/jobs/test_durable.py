"""A disk that is full, or away, is waited for."""

from __future__ import annotations

import asyncio
import logging

import pytest

from bridge.jobs import durable
from bridge.jobs.database import DatabaseError
from bridge.jobs.durable import until_on_disk
from tests.support.patience import PATIENCE_S


async def test_the_log_of_a_full_disk_says_why(caplog: pytest.LogCaptureFixture) -> None:
    times = 0

    async def write() -> int:
        nonlocal times
        times += 1
        if times == 1:
            raise DatabaseError("journal.db: database or disk is full")
        return 1

    with caplog.at_level(logging.ERROR):
        await until_on_disk(write)
    assert "disk is full" in caplog.text
    assert "Future" not in caplog.text


async def test_a_store_that_hangs_is_as_one_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durable, "SLOW_S", 0.0)
    failed = asyncio.Event()

    async def write() -> int:
        async with asyncio.timeout(PATIENCE_S):
            await failed.wait()
        return 1

    assert await until_on_disk(write, failed.set) == 1
