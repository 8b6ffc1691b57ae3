"""A bridge that lacks a part, to see what the part costs: `python -m` this `PART serve`.

Each part is removed from the running program, and nothing takes its place. Such a bridge keeps no
promise: it is for the bench alone.
"""

from __future__ import annotations

import asyncio
import gc
import runpy
import sqlite3
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec

from bridge.adapters.mqtt.publisher import Publisher
from bridge.comfyui.cleanup import Cleanup
from bridge.jobs.database import database
from bridge.jobs.database.engine import Task, WorkResult, run_each
from bridge.jobs.database.sqlite import Sqlite
from bridge.workflows import definition, source
from bridge.workflows.graph import Graph
from bridge.workflows.workflow import Workflow
from tests.support.bridge import BridgeProcess


class LesserBridge(BridgeProcess):
    """A bridge as any other, started without a part."""

    part: str

    @property
    def command(self) -> Sequence[str]:
        """The command line's choices."""
        return (sys.executable, "-m", "tests.bench.lesser_bridge", self.part, "serve")


def lesser(part: str) -> type[LesserBridge]:
    """Return the kind of bridge that lacks a part."""
    return type("Lesser", (LesserBridge,), {"part": part})


def _nothing(*_arguments: Any, **_options: Any) -> None:
    """Do nothing."""


def _syncs() -> None:
    opened = Sqlite._open

    def open_(self: Sqlite) -> None:
        opened(self)
        assert self._connection is not None
        self._connection.execute("PRAGMA synchronous = OFF")

    Sqlite._open = open_  # type: ignore[method-assign]


def _file() -> None:
    connect = sqlite3.connect

    def in_memory(path: Any, **options: Any) -> Any:
        where = path
        if str(path).endswith(".db"):
            where = ":memory:"
            Path(path).touch()  # the journal looks whether its file is there
        return connect(where, check_same_thread=False, **options)

    sqlite3.connect = in_memory  # type: ignore[assignment]


def _thread() -> None:
    """Run the journal's works on the loop's own thread, at once, in memory."""
    _file()

    def hand_over(self: Any, task: Any) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = self._loop.create_future()
        self._unanswered += 1
        answers = self._run_group(self._engine, [(task, future)])
        self._loop.call_soon(self._settle, answers)
        return future

    database.Database._hand_over = hand_over  # type: ignore[method-assign]


def _waits() -> None:
    """Answer before the commit, so that a job continues while it is written."""

    def serve(self: Any, engine: Any, opened: asyncio.Future[None]) -> None:
        with closing(engine):
            engine.open()
            connection = engine._connection
            assert connection is not None
            self._answer([(opened, WorkResult())])
            while group := self._next_group():
                tasks = [task for task, _ in group if isinstance(task, Task)]
                connection.execute("BEGIN IMMEDIATE")
                found = iter(run_each(connection, tasks, ()))
                answers = [
                    (future, task if isinstance(task, WorkResult) else next(found))
                    for task, future in group
                ]
                self._answer(answers)
                connection.execute("COMMIT")

    database.Database._serve = serve  # type: ignore[method-assign]


def _statuses() -> None:
    Publisher.status = _nothing  # type: ignore[method-assign]
    Publisher.progress = _nothing  # type: ignore[method-assign]


def _cleanup() -> None:
    Cleanup.add = _nothing  # type: ignore[method-assign]


# What each part is called in the table, and how it is removed.
PARTS: Mapping[str, tuple[str, Callable[[], None]]] = {
    "syncs": ("the journal's syncs of the disk", _syncs),
    "file": ("the journal's file: it is in memory", _file),
    "thread": ("the journal's file and its thread", _thread),
    "waits": ("the waits for commits, which happen meanwhile", _waits),
    "news": ("statuses and progress", _statuses),
    "cleanup": ("the cleaning up at ComfyUI", _cleanup),
    "collector": ("Python's garbage collector", gc.disable),
}


def _drawing() -> None:
    """Draw the first workflow, and give each other one its inputs and outputs."""
    build = definition.build
    drawn: dict[bool, Workflow] = {}

    def build_once(
        name: str, version: str, graph: Graph, info: Any, *rest: Any, **more: Any
    ) -> Any:
        known = drawn.get(info is None)
        if known is None:
            known = drawn[info is None] = build(name, version, graph, info, *rest, **more)
        return msgspec.structs.replace(known, name=name, version=version, graph=graph)

    setattr(source, "build", build_once)  # noqa: B010 - it is imported there, not exported


_REMOVE: Mapping[str, Callable[[], None]] = {
    **{name: remove for name, (_, remove) in PARTS.items()},
    # Of a start with many workflow files, all of the same nodes.
    "drawing": _drawing,
}


if __name__ == "__main__":
    _REMOVE[sys.argv.pop(1)]()
    runpy.run_module("bridge", run_name="__main__", alter_sys=True)
