from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from bridge.comfyui.errors import StartFailed
from bridge.comfyui.process import Exit, Log, Process, launched
from tests.support.comfyui import wait_for_end
from tests.support.patience import PATIENCE_S

# Two processes below the program, the second one in a session of its own and its parent gone;
# both ids are printed, then the program waits for ever.
FAMILY = """
import os, signal, sys, time
child = os.fork()
if child == 0:
    if os.fork() == 0:
        os.setsid()
        os.write(1, b"strays %d\\n" % os.getpid())
        while True: time.sleep(60)
    os._exit(0)
os.waitpid(child, 0)
os.write(1, b"ready %d\\n" % os.getpid())
while True: time.sleep(60)
"""


def program(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code)


class Watched(Log):
    """A log that tells when a line with a word is there."""

    def __init__(self, path: Path, **sizes: int) -> None:
        super().__init__(path, **sizes)
        self._loop = asyncio.get_running_loop()
        self._grown = asyncio.Event()

    def _remember(self, chunk: bytes) -> None:
        super()._remember(chunk)
        self._loop.call_soon_threadsafe(self._grown.set)

    async def number(self, word: str) -> int:
        """Wait for a line `word NUMBER`."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                for line in self.tail():
                    if line.startswith(word):
                        return int(line.split()[1])
                self._grown.clear()
                await self._grown.wait()


def started(
    code: str, folder: Path, log: Watched, *, grace_s: float = 5.0
) -> AbstractAsyncContextManager[Process]:
    return launched(
        program(code), cwd=folder, environment=dict(os.environ), log=log, grace_s=grace_s
    )


@pytest.fixture
async def log(tmp_path: Path) -> Watched:
    return Watched(tmp_path / "log")


async def test_an_exit_code_is_passed_on(tmp_path: Path, log: Watched) -> None:
    async with started("raise SystemExit(7)", tmp_path, log) as process:
        assert await process.wait() == Exit(code=7, signal=None)
        assert process.exit == Exit(code=7, signal=None)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
async def test_a_signal_is_passed_on(tmp_path: Path, log: Watched, number: signal.Signals) -> None:
    code = f"import os; os.kill(os.getpid(), {int(number)})"
    async with started(code, tmp_path, log) as process:
        how = await process.wait()
    assert how == Exit(code=None, signal=number)
    assert str(how) == f"was killed by {number.name}"


async def test_a_missing_program_is_reported(tmp_path: Path, log: Watched) -> None:
    with pytest.raises(StartFailed, match="No such file") as caught:
        async with launched(("/nowhere/python",), cwd=tmp_path, environment={}, log=log, grace_s=1):
            pass
    assert caught.value.failure == "no_interpreter"


async def test_a_missing_folder_is_reported(tmp_path: Path, log: Watched) -> None:
    with pytest.raises(StartFailed):
        async with started("", tmp_path / "nowhere", log):
            pass


async def test_a_stop_interrupts_first(tmp_path: Path, log: Watched) -> None:
    code = """
import time
try:
    print("ready 1", flush=True)
    while True: time.sleep(0.1)  # a signal just before a sleep does not shorten it
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""
    async with started(code, tmp_path, log) as process:
        await log.number("ready")
        await process.stop()
        await process.stop()
        assert process.exit == Exit(code=0, signal=None)
    assert log.tail()[-1] == "interrupted"


async def test_a_program_that_ignores_the_stop_is_killed(tmp_path: Path, log: Watched) -> None:
    code = """
import signal, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
print("ready 1", flush=True)
while True: time.sleep(60)
"""
    async with started(code, tmp_path, log, grace_s=0.1) as process:
        await log.number("ready")
        await process.stop()
        assert process.exit == Exit(code=None, signal=signal.SIGKILL)


async def test_a_stop_reaches_what_left_the_process_group(tmp_path: Path, log: Watched) -> None:
    async with started(FAMILY, tmp_path, log) as process:
        stray = await log.number("strays")
        assert await log.number("ready") == process.pid
        assert process.contains(stray) is False
    assert wait_for_end(process.pid)
    assert wait_for_end(stray)


async def test_what_a_program_left_behind_ends_with_it(tmp_path: Path, log: Watched) -> None:
    async with started(FAMILY, tmp_path, log) as process:
        stray = await log.number("strays")
        await log.number("ready")
        os.kill(process.pid, signal.SIGKILL)
        await process.wait()
        assert wait_for_end(stray)


async def test_a_killed_subreaper_takes_the_program_along(tmp_path: Path, log: Watched) -> None:
    async with started(FAMILY, tmp_path, log) as process:
        stray = await log.number("strays")
        await log.number("ready")
        os.kill(process._subreaper.pid, signal.SIGKILL)
        await process.wait()
        assert wait_for_end(process.pid)
        # Its descendants that left the group are out of reach: nobody is their parent any more.
        os.kill(stray, signal.SIGKILL)


async def test_a_process_below_the_program_belongs_to_it(tmp_path: Path, log: Watched) -> None:
    code = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print("child", child.pid, flush=True)
child.wait()
"""
    async with started(code, tmp_path, log) as process:
        child = await log.number("child")
        assert process.contains(child)
        assert process.contains(process.pid)
        assert not process.contains(os.getpid())


def test_nothing_outlives_a_killed_bridge(tmp_path: Path) -> None:
    bridge = f"""
import asyncio, os, sys
from pathlib import Path
from bridge.comfyui.process import Log, launched

class Printed(Log):
    def _remember(self, chunk):
        sys.stdout.buffer.write(chunk)
        sys.stdout.flush()

async def main():
    folder = Path({str(tmp_path)!r})
    async with launched(
        (sys.executable, "-c", {FAMILY!r}),
        cwd=folder, environment=dict(os.environ), log=Printed(folder / "log"), grace_s=60,
    ) as process:
        await process.wait()

asyncio.run(main())
"""
    with subprocess.Popen(program(bridge), stdout=subprocess.PIPE, text=True) as killed:
        assert killed.stdout is not None
        numbers = dict(killed.stdout.readline().split() for _ in range(2))
        killed.kill()
        assert wait_for_end(int(numbers["ready"]))
        assert wait_for_end(int(numbers["strays"]))


def resident_kb(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    (resident,) = (line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))
    return int(resident)


async def test_the_subreaper_is_small(tmp_path: Path, log: Watched) -> None:
    # A process that runs until it is stopped: without it the subreaper would soon end.
    async with started("import signal; signal.pause()", tmp_path, log) as process:
        assert resident_kb(process._subreaper.pid) < 20_000


async def test_the_last_lines_are_kept_in_memory_and_all_in_the_file(tmp_path: Path) -> None:
    log = Watched(tmp_path / "log", tail=3)
    code = "print('a\\rb\\n\\nc'); print('d', end='')"
    async with started(code, tmp_path, log) as process:
        await process.wait()
    assert log.tail() == ("b", "c", "d")
    assert (tmp_path / "log").read_bytes() == b"a\rb\n\nc\nd"


def contents(folder: Path) -> dict[str, str]:
    return {file.name: file.read_text(encoding="ascii") for file in folder.iterdir()}


async def test_the_log_file_is_turned_over_by_size(tmp_path: Path) -> None:
    log = Watched(tmp_path / "log", max_bytes=1, kept_files=3)
    for line in ("a", "b", "c", "d"):
        async with started(f"import os; os.write(1, b'{line}\\n')", tmp_path, log) as process:
            await process.wait()
    assert contents(tmp_path) == {"log.1": "d\n", "log.2": "c\n"}
    assert log.tail() == ("d",)


async def test_a_log_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    log = Watched(tmp_path / "nowhere" / "log")
    async with started("print('said')", tmp_path, log) as process:
        assert await process.wait() == Exit(code=0, signal=None)
    assert log.tail() == ("said",)
