"""A small job's time, as a flame graph: `python -m tests.bench.flames FILE.svg`.

py-spy looks at a bridge's threads while jobs run one after another, at those that run or could. It
reads another process's memory: where that is not allowed to users, it needs root. The width of a
function is its share of all looks, of its callees above it too; what is narrower than a hair is
left out.

A table goes to standard output: a job's processor time, by the folder of the bridge that was at
work or had called what was, its context switches, and its system calls where strace is installed.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from xml.sax.saxutils import escape

import click
from msgspec import Struct

from tests.bench.__main__ import FOLDER
from tests.bench.delivery import BenchError
from tests.bench.graphs import COLOUR, to_bridge, trivial
from tests.bench.installed import installed
from tests.bench.processes import processor_s
from tests.bench.stand import Stand
from tests.bench.subscriber import subscribed
from tests.support.bridge import BridgeProcess
from tests.support.comfyui import Server, supervised

VERSION = "0.4.3"
SECONDS = 20
LOOKS_A_SECOND = 250
WARM_UP = 100
JOBS = 300
# strace slows a job down tenfold.
STRACED_JOBS = 50

_WIDTH, _ROW, _TOP = 1000, 17, 24
_NARROWEST, _LETTER = 1.2, 6.2
# What starts the loop says nothing about jobs.
_ROOTS = ("Runner.run", "Thread.run")
# Threads that wait for work, though py-spy takes some of them to be running.
_WAITING = ("Database._next_group ", "WorkerThread.run ", "_worker ", "watch (watchfiles/")
_FRAME = re.compile(r"(?P<name>.*) \((?P<file>[^()]*?)(:\d+)?\)")
_COLOURS: Mapping[str, str] = {
    "jobs": "#f4b183",
    "mqtt": "#9dc3e6",
    "adapters": "#bdd7ee",
    "comfyui": "#a9d18e",
    "requests": "#ffe699",
    "workflows": "#ffd966",
}
_OURS, _THEIRS = "#e2c4d8", "#d9d9d9"
_OF_OURS = re.compile(r"\(bridge/(\w+)")
# What the thread that watches workflow files does between jobs.
_SLEEPS = ("clock_nanosleep", "restart_syscall")


class Box(Struct, frozen=True):
    """A function in the graph: `left` and `looks` are counts of looks, `depth` is from 0."""

    frame: str
    depth: int
    left: int
    looks: int


def read(folded: str) -> Counter[tuple[str, ...]]:
    """Read py-spy's raw form, a stack and its count a line, without what starts things or waits."""
    found: Counter[tuple[str, ...]] = Counter()
    for line in folded.splitlines():
        stack, _, count = line.rpartition(" ")
        thread, *frames = (_plain(frame) for frame in stack.split(";"))
        if frames and frames[-1].startswith(_WAITING):
            continue
        starts = [at for at, frame in enumerate(frames) if frame.startswith(_ROOTS)]
        found[thread, *frames[starts[-1] + 1 if starts else 0 :]] += int(count)
    return found


def _plain(frame: str) -> str:
    """Return a frame without its line, a thread without its number."""
    parts = _FRAME.fullmatch(frame)
    if parts is not None:
        return f"{parts['name']} ({parts['file']})"
    return re.sub(r"^thread \(\d+\): ", "thread ", frame)


def boxes(stacks: Mapping[tuple[str, ...], int], depth: int = 0, left: int = 0) -> Iterator[Box]:
    """Yield the functions of stacks, those of one caller side by side in alphabetical order."""
    below: dict[str, Counter[tuple[str, ...]]] = {}
    for stack, looks in stacks.items():
        if stack:
            below.setdefault(stack[0], Counter())[stack[1:]] += looks
    for frame in sorted(below):
        looks = below[frame].total()
        yield Box(frame, depth, left, looks)
        yield from boxes(below[frame], depth + 1, left)
        left += looks


def svg(drawn: Sequence[Box]) -> str:
    """Draw a flame graph; the share of each function is shown where the mouse is."""
    total = sum(box.looks for box in drawn if box.depth == 0)
    shown = [box for box in drawn if _WIDTH * box.looks / total >= _NARROWEST]
    height = _TOP + _ROW * (1 + max(box.depth for box in shown))
    return "\n".join((*_head(height), *_rectangles(shown, total, height), "</svg>", ""))


def _head(height: int) -> Iterator[str]:
    box = f'viewBox="0 0 {_WIDTH} {height}"'
    yield f'<svg xmlns="http://www.w3.org/2000/svg" {box} font-family="sans-serif" font-size="11">'
    yield f'<rect width="{_WIDTH}" height="{height}" fill="white"/>'
    left = 4.0
    for name, colour in (*_COLOURS.items(), ("other folders", _OURS), ("libraries", _THEIRS)):
        yield f'<rect x="{left:g}" y="5" width="11" height="11" fill="{colour}"/>'
        yield f'<text x="{left + 15:g}" y="15">{name}</text>'
        left += 30 + _LETTER * len(name)


def _rectangles(shown: Iterable[Box], total: int, height: int) -> Iterator[str]:
    for box in shown:
        x, width = (round(_WIDTH * each / total, 1) for each in (box.left, box.looks))
        y = height - _ROW * (box.depth + 1)
        about = escape(f"{box.frame}: {100 * box.looks / total:.1f} %")
        yield (
            f'<g><title>{about}</title><rect x="{x:g}" y="{y}" width="{width:g}" '
            f'height="{_ROW - 1}" fill="{_colour(box.frame)}"/>'
        )
        letters = int((width - 4) / _LETTER)
        name = box.frame.partition(" (")[0]
        text = name if len(name) <= letters else f"{name[: letters - 1]}…"
        if letters > 2:
            yield f'<text x="{x + 2:g}" y="{y + 12}">{escape(text)}</text>'
        yield "</g>"


def _colour(frame: str) -> str:
    ours = _OF_OURS.search(frame)
    return _THEIRS if ours is None else _COLOURS.get(ours[1], _OURS)


class Cost(Struct, frozen=True):
    """The cost of one job to a bridge: milliseconds of processor time, and counts."""

    processor_ms: float
    switches: float
    calls: Mapping[str, float]


def rooms(stacks: Mapping[tuple[str, ...], int]) -> Counter[str]:
    """Return the looks by folder of the bridge: the innermost one on the stack counts."""
    found: Counter[str] = Counter()
    for stack, looks in stacks.items():
        ours = (each[1] for frame in reversed(stack) if (each := _OF_OURS.search(frame)))
        found[next(ours, "the event loop and libraries alone")] += looks
    return found


def table(found: Counter[str], cost: Cost) -> str:
    """Say what a job costs, as Markdown."""
    lines = ["| a small job | share | |", "| --- | ---: | ---: |"]
    total = found.total()
    for room, looks in found.most_common():
        share = looks / total
        lines.append(f"| {room} | {100 * share:.1f} % | {share * cost.processor_ms:.2f} ms |")
    lines.append(f"| processor time | 100 % | {cost.processor_ms:.2f} ms |")
    lines.append(f"| context switches | | {cost.switches:.1f} |")
    if cost.calls:
        lines.append(f"| system calls | | {sum(cost.calls.values()):.1f} |")
        most = sorted(cost.calls.items(), key=lambda each: -each[1])[:8]
        lines += [f"| ... `{name}` | | {calls:.1f} |" for name, calls in most]
    return "\n".join(lines)


def _switches(pid: int) -> int:
    """Return how often the threads of a process were switched, of their will or not."""
    files = Path(f"/proc/{pid}/task").glob("*/status")
    return sum(
        int(count)
        for file in files
        for count in re.findall(r"ctxt_switches:\s+(\d+)", file.read_text())
    )


def _calls(file: Path) -> Iterator[tuple[str, int]]:
    """Yield system calls and their counts, from the table that strace writes."""
    for line in file.read_text().splitlines():
        # The share of time, seconds, microseconds a call, calls, perhaps errors, and the name.
        _, _, _, *counts, name = line.split() or [""] * 4
        if counts and counts[0].isdigit() and name not in ("total", *_SLEEPS):
            yield name, int(counts[0])


async def _counted(run: Callable[[], Awaitable[object]], pid: int, file: Path) -> Cost:
    """Run jobs, and count what they cost the process."""
    processor, switches = processor_s(pid), _switches(pid)
    for _ in range(JOBS):
        await run()
    processor, switches = processor_s(pid) - processor, _switches(pid) - switches
    calls: dict[str, float] = {}
    if shutil.which("strace") is not None:
        tracing = await asyncio.create_subprocess_exec(
            *("strace", "-f", "-c", "-qq", "-o", str(file), "-p", str(pid)),
            stdin=asyncio.subprocess.DEVNULL,
        )
        await asyncio.sleep(1)
        for _ in range(STRACED_JOBS):
            await run()
        tracing.send_signal(signal.SIGINT)
        await tracing.wait()
        calls = {name: count / STRACED_JOBS for name, count in _calls(file)}
    return Cost(processor * 1000 / JOBS, switches / JOBS, calls)


async def _looked(stand: Stand, spy: Path) -> tuple[str, Cost]:
    """Run jobs on a new bridge, and return what py-spy saw meanwhile. Raises BenchError.

    Then run more, and return what one cost.
    """
    file = stand.folder / "looks"
    workflows = {"ours": trivial(0, to_bridge("2"))}
    async with (
        stand.broker() as broker,
        stand.bridge(BridgeProcess, broker, workflows) as bridge,
        subscribed(broker.url) as subscriber,
    ):

        async def run() -> None:
            await subscriber.run("ours", {COLOUR: stand.colour()})

        for _ in range(WARM_UP):
            await run()
        looking = await asyncio.create_subprocess_exec(
            *(str(spy), "record", "--threads", "--format", "raw", "--output", str(file)),
            *("--pid", str(bridge.pid), "--rate", str(LOOKS_A_SECOND), "--duration", str(SECONDS)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        ended = asyncio.create_task(looking.communicate())
        while not ended.done():
            await run()
        _, said = await ended
        if looking.returncode:
            raise BenchError(f"py-spy: {said.decode(errors='replace').strip()}")
        cost = await _counted(run, bridge.pid, stand.folder / "calls")
    return file.read_text(), cost


def main(to: Path) -> None:
    """Look, and draw."""
    spy = installed("py-spy", VERSION).with_name("py-spy")
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="run-", dir=FOLDER) as name:
        folder = Path(name)
        server = Server(supervised(), folder / "comfyui")
        try:
            server.start()
            looks, cost = asyncio.run(_looked(Stand(folder, server, 1, print), spy))
        finally:
            server.stop()
    stacks = read(looks)
    to.write_text(svg(list(boxes(stacks))))
    click.echo(table(rooms(stacks), cost))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
