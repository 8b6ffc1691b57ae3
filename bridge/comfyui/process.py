"""A program below a subreaper: started, watched, logged, stopped with all that it started."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import pairwise
from pathlib import Path

import msgspec

from bridge.comfyui.errors import StartFailed
from bridge.programs import kill_group
from bridge.text import without_colours

_SUBREAPER = Path(__file__).with_name("subreaper.py")
# What the subreaper needs beyond the grace to find and kill what is left.
_SUBREAPER_MARGIN_S = 15.0
_DRAIN_S = 2.0


class Exit(msgspec.Struct, frozen=True):
    """The end of a program: its exit `code`, or the number of the `signal` that killed it."""

    code: int | None
    signal: int | None

    def __str__(self) -> str:
        if self.signal is None:
            return f"exited with code {self.code}"
        with suppress(ValueError):
            return f"was killed by {signal.Signals(self.signal).name}"
        return f"was killed by signal {self.signal}"


class Log:
    """A program's output: in a file that is rotated by size, the last lines in memory.

    A thread of its own reads the pipe, because a program blocks when its log is not read, and
    a slow disk must not block the event loop. A full disk loses log lines and nothing else.
    """

    def __init__(
        self, path: Path, *, max_bytes: int = 5 * 2**20, kept_files: int = 3, tail: int = 50
    ) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._kept_files = kept_files
        self._tail: deque[str] = deque(maxlen=tail)
        self._partial = b""
        self._thread: threading.Thread | None = None

    def tail(self) -> tuple[str, ...]:
        """Return the last lines."""
        return tuple(self._tail)

    def open(self) -> int:
        """Begin to read; returns the descriptor to write to, which the caller closes."""
        read, write = os.pipe()
        self._tail.clear()
        self._thread = threading.Thread(target=self._keep, args=(read,), daemon=True)
        self._thread.start()
        return write

    async def drained(self) -> None:
        """Wait a short time until all that the ended program printed is read."""
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join, _DRAIN_S)

    def _keep(self, read: int) -> None:
        with open(read, "rb", buffering=0) as pipe:
            while chunk := pipe.read(65536):
                self._remember(chunk)
                with suppress(OSError):
                    self._write(chunk)
        self._remember(b"\n")

    def _remember(self, chunk: bytes) -> None:
        # A progress bar ends its lines with carriage returns.
        *lines, self._partial = (self._partial + chunk).replace(b"\r", b"\n").split(b"\n")
        texts = (without_colours(line.decode(errors="replace")).rstrip() for line in lines)
        self._tail.extend(text[:1000] for text in texts if text.strip())
        self._partial = self._partial[-4096:]

    def _write(self, chunk: bytes) -> None:
        with self._path.open("ab") as file:
            file.write(chunk)
            full = file.tell() >= self._max_bytes
        if full:
            files = [self._path]
            name, numbers = self._path.name, range(1, self._kept_files)
            files += [self._path.with_name(f"{name}.{number}") for number in numbers]
            for newer, older in reversed(list(pairwise(files))):
                with suppress(FileNotFoundError):
                    newer.replace(older)


class Process:
    """A running program; `pid` is its own, not the subreaper's."""

    def __init__(self, subreaper: asyncio.subprocess.Process, pid: int, grace_s: float) -> None:
        self.pid = pid
        self._subreaper = subreaper
        self._grace_s = grace_s
        self._swept = False

    @property
    def exit(self) -> Exit | None:
        """Its end, None while it runs."""
        return _exit(self._subreaper.returncode)

    def contains(self, pid: int) -> bool:
        """Return whether a process is this program, or was started by it (a wrapper's child)."""
        while pid > 1 and pid != self.pid:
            pid = _parent(pid)
        return pid == self.pid

    async def wait(self) -> Exit:
        """Wait until it, and all that it started, is gone. Cancelling it changes nothing."""
        code = await self._subreaper.wait()
        return _exit(code) or Exit(code=code, signal=None)

    def kill(self) -> None:
        """Kill it and all that it started, if it does not end when asked to."""
        if self._subreaper.stdin is not None:
            self._subreaper.stdin.close()

    async def stop(self) -> None:
        """Ask it to end, and kill it and all that it started after the grace."""
        if self._subreaper.returncode is None:
            self._subreaper.send_signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(self._grace_s + _SUBREAPER_MARGIN_S):
                    await self._subreaper.wait()
            except TimeoutError:
                self._subreaper.kill()
                await self._subreaper.wait()
        if not self._swept:
            self._swept = True
            if await _line(self._subreaper) != "ended":
                # Somebody killed the subreaper: the kernel killed the program, not what it started.
                kill_group(self.pid)


def _parent(pid: int) -> int:
    try:
        # "pid (name) state ppid ...": the name may hold spaces and brackets.
        return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[1])
    except OSError:
        return 0


def _exit(returncode: int | None) -> Exit | None:
    if returncode is None:
        return None
    if returncode < 0:
        return Exit(code=None, signal=-returncode)
    return Exit(code=returncode, signal=None)


@asynccontextmanager
async def launched(
    command: Sequence[str],
    *,
    cwd: Path,
    environment: Mapping[str, str],
    log: Log,
    grace_s: float,
) -> AsyncIterator[Process]:
    """Run a program below a subreaper, and stop it on leaving. Raises StartFailed; Linux only.

    `grace_s` passes between the request to end and the kill. Cancelling the block stops it too.
    """
    try:
        subreaper = await _spawned(command, cwd, environment, log, grace_s)
        process = Process(subreaper, await _started(subreaper, command[0]), grace_s)
        try:
            yield process
        finally:
            await process.stop()
    finally:
        await log.drained()


async def _spawned(
    command: Sequence[str], cwd: Path, environment: Mapping[str, str], log: Log, grace_s: float
) -> asyncio.subprocess.Process:
    output = log.open()
    try:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", str(_SUBREAPER), str(grace_s), *command),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=output,
            cwd=cwd,
            env=dict(environment),
            # A Ctrl-C in the terminal is the bridge's business.
            start_new_session=True,
        )
    except OSError as error:
        reason = f"ComfyUI's parent process cannot be started: {error}"
        raise StartFailed("no_guard", reason) from error
    finally:
        os.close(output)


async def _started(subreaper: asyncio.subprocess.Process, program: str) -> int:
    """Return the program's process id; after a failure the subreaper ends too."""
    try:
        word, _, number = (await _line(subreaper)).partition(" ")
    except BaseException:
        with suppress(ProcessLookupError):
            subreaper.kill()
        await subreaper.wait()
        raise
    if word == "started":
        return int(number)
    code = await subreaper.wait()
    if word == "failed":
        reason = os.strerror(int(number))
        raise StartFailed("no_interpreter", f"{program} cannot be executed: {reason}")
    raise StartFailed("no_guard", f"ComfyUI's parent process ended with {code}")


async def _line(subreaper: asyncio.subprocess.Process) -> str:
    """Return the subreaper's next line, empty if it ended without one."""
    if subreaper.stdout is None:
        raise AssertionError("the subreaper has no report pipe")
    return (await subreaper.stdout.readline()).decode().strip()
