from __future__ import annotations

import asyncio
import sys

import pytest

from bridge.programs import running

# Starts a program of its own that would go on, and says so.
PARENT = """
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print("started", flush=True)
time.sleep(60)
"""


async def test_what_a_program_has_started_ends_with_it() -> None:
    async with running(
        sys.executable, "-c", PARENT, group=True, stdout=asyncio.subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"started\n"
    assert process.returncode is not None
    # Both write to it, so that it ends once neither runs.
    async with asyncio.timeout(10):
        assert await process.stdout.read() == b""


async def test_cancelling_a_start_leaves_nothing_running(monkeypatch: pytest.MonkeyPatch) -> None:
    start = asyncio.create_subprocess_exec
    started: asyncio.Queue[asyncio.subprocess.Process] = asyncio.Queue()

    async def slow_start(*command: str, **options: object) -> asyncio.subprocess.Process:
        process = await start(*command, **options)  # type: ignore[arg-type]
        started.put_nowait(process)
        await asyncio.sleep(0.05)  # asyncio has it, and nobody else knows
        return process

    async def run() -> None:
        async with running(sys.executable, "-c", "import time; time.sleep(60)"):
            pytest.fail("it is cancelled before it is known")

    monkeypatch.setattr(asyncio, "create_subprocess_exec", slow_start)
    task = asyncio.create_task(run())
    process = await started.get()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert process.returncode is not None
