"""The parent that a supervised ComfyUI has instead of the bridge: it leaves no orphan.

Run by path, `python -I -S subreaper.py GRACE_S PROGRAM [ARGUMENT ...]`. It imports nothing beyond
the standard library, so that it starts at once and stays small. Linux only.

    stdin   a pipe that only the bridge holds: its end means that the bridge is gone, however it
            died, and everything here is killed at once
    stdout  lines for the bridge: `started PID` or `failed ERRNO`, then `ended` when nothing is
            left of ComfyUI
    stderr  the log: what ComfyUI prints

SIGTERM asks for an orderly stop: SIGINT to ComfyUI's process group, SIGKILL after the grace. As a
child subreaper it inherits every orphan below it, so that processes which left the group
are found too. If it is killed itself, the kernel kills ComfyUI (PR_SET_PDEATHSIG). It ends
as ComfyUI did: with its exit code, or by its signal.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import sys
import time
from pathlib import Path

# For type checkers: nothing below is known elsewhere.
assert sys.platform == "linux"  # noqa: S101

# <linux/prctl.h>
_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_CHILD_SUBREAPER = 36

_LIFELINE = 0
_REPORT = 1
_LOG = 2

_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_RESCAN_S = 0.05
# A process in an uninterruptible sleep cannot be killed; it is not waited for longer than this.
_KILL_PATIENCE_S = 10.0


def _prctl(option: int, value: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


class Subreaper:
    """ComfyUI's process and all that it started."""

    def __init__(self, command: list[str], grace_s: float) -> None:
        self._command = command
        self._grace_s = grace_s
        self._child = 0
        self._status: int | None = None
        self._stop_asked = False
        self._wakeup = -1

    def run(self) -> int:
        """Start it and see it to its end; returns its exit code, negative for a signal."""
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)
        self._listen_to_signals()
        error = self._spawn()
        if error:
            _report(b"failed %d\n" % error)
            return 1
        _report(b"started %d\n" % self._child)
        self._watch()
        self._kill_all()
        _report(b"ended\n")
        return self._status if self._status is not None else -signal.SIGKILL

    def _listen_to_signals(self) -> None:
        self._wakeup, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        for number in _STOP_SIGNALS:
            signal.signal(number, self._ask_to_stop)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)

    def _ask_to_stop(self, *_: object) -> None:
        self._stop_asked = True

    def _spawn(self) -> int:
        """Start the command in a process group of its own; returns an errno, 0 for success."""
        outcome, report = os.pipe2(os.O_CLOEXEC)
        subreaper = os.getpid()
        self._child = os.fork()
        if self._child == 0:
            self._become_command(subreaper, report)
        os.close(report)
        # The pipe closes by itself when the command runs.
        error = os.read(outcome, 16)
        os.close(outcome)
        return int(error or 0)

    def _become_command(self, subreaper: int, report: int) -> None:
        """In the child: never returns."""
        try:
            _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != subreaper:
                os._exit(1)
            os.setpgid(0, 0)
            signal.set_wakeup_fd(-1)
            # What a shell's background job ignores would be ignored by ComfyUI too.
            for number in (*_STOP_SIGNALS, signal.SIGQUIT, signal.SIGCHLD, signal.SIGPIPE):
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            nothing = os.open(os.devnull, os.O_RDONLY)
            os.dup2(nothing, _LIFELINE)
            os.dup2(_LOG, _REPORT)
            os.execvp(self._command[0], self._command)  # noqa: S606 - the bridge's own command
        except OSError as error:
            os.write(report, b"%d" % (error.errno or 0))
        finally:
            os._exit(1)

    def _watch(self) -> None:
        """Wait until the command ended, the bridge is gone, or a stop took too long."""
        poll = select.poll()
        poll.register(_LIFELINE, select.POLLIN)
        poll.register(self._wakeup, select.POLLIN)
        deadline: float | None = None
        while self._status is None:
            if self._stop_asked and deadline is None:
                deadline = time.monotonic() + self._grace_s
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._child, signal.SIGINT)
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return
            for descriptor, _ in poll.poll(None if left is None else left * 1000):
                if not os.read(descriptor, 4096):
                    return
            self._reap()

    def _reap(self) -> bool:
        """Collect the processes that ended; returns whether any is left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self._child:
                self._status = os.waitstatus_to_exitcode(status)

    def _kill_all(self) -> None:
        deadline = time.monotonic() + _KILL_PATIENCE_S
        while self._reap() and time.monotonic() < deadline:
            for pid in _descendants(os.getpid()):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            select.select([self._wakeup], [], [], _RESCAN_S)
            with contextlib.suppress(BlockingIOError):
                os.read(self._wakeup, 4096)


def _report(line: bytes) -> None:
    with contextlib.suppress(BrokenPipeError):
        os.write(_REPORT, line)


def _descendants(ancestor: int) -> list[int]:
    """Return the ids of all processes below one, by their parents in /proc."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                # "pid (name) state ppid ...": the name may hold spaces and brackets.
                fields = (entry / "stat").read_bytes().rpartition(b")")[2].split()
                children.setdefault(int(fields[1]), []).append(int(entry.name))
    found: list[int] = []
    heirs = [ancestor]
    while heirs:
        below = children.get(heirs.pop(), [])
        found += below
        heirs += below
    return found


def _end_alike(status: int) -> None:
    if status >= 0:
        sys.exit(status)
    # A core dump of ours would only hide ComfyUI's.
    _prctl(_PR_SET_DUMPABLE, 0)
    if -status not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(-status, signal.SIG_DFL)
    os.kill(os.getpid(), -status)


if __name__ == "__main__":
    _end_alike(Subreaper(sys.argv[2:], float(sys.argv[1])).run())
