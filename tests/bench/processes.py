"""A process's memory and processor time, as the kernel reports them. Linux."""

from __future__ import annotations

import os
from pathlib import Path

from msgspec import Struct

_KIB = 1024
_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")


class Memory(Struct, frozen=True):
    """Bytes: all resident ones, and with those shared with other processes counted by share."""

    resident: int
    proportional: int


def memory(pid: int) -> Memory:
    """Return a process's memory now."""
    found: dict[str, int] = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, _, rest = line.partition(":")
        found[name] = int(rest.split()[0]) * _KIB
    return Memory(found["Rss"], found["Pss"])


def forget_peak(pid: int) -> None:
    """Reset the peak memory of a process to what it uses now."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def peak(pid: int) -> int:
    """Return the most resident memory that a process has had, in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * _KIB
    raise RuntimeError("this kernel does not count it")


def processor_s(pid: int, thread: int | None = None) -> float:
    """Return the processor time that a process has used, all threads or one, in seconds."""
    of = pid if thread is None else f"{pid}/task/{thread}"
    # "pid (name) state ...": the name may hold spaces and brackets.
    fields = Path(f"/proc/{of}/stat").read_bytes().rpartition(b")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_A_SECOND


def handles(pid: int) -> int:
    """Return how many files and sockets a process has open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def threads(pid: int) -> int:
    """Return how many threads a process has."""
    return len(list(Path(f"/proc/{pid}/task").iterdir()))
