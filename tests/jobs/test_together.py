"""Works of one transaction on PostgreSQL, of each a step at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from bridge.jobs.database import SENT, SURE, Cursor, Steps, Transaction
from bridge.jobs.database.engine import Task, run_interleaved


class Nothing:
    """A result without rows."""

    rowcount = 0

    def fetchone(self) -> Any:
        return None

    def __iter__(self) -> Any:
        return iter(())


class Server:
    """Notes what is sent to it, and each wait for it as `-`."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> Cursor:
        del parameters
        self.sent.append(sql)
        return Nothing()

    def notify(self, channel: str, text: str) -> None:
        raise AssertionError(channel, text)

    def settle(self) -> None:
        self.sent.append("-")

    def run(self, *tasks: Task) -> list[Any]:
        answers = run_interleaved(self, tasks, self.settle, lambda: self.sent.append("commit"))
        return [answer.value for answer in answers]


def work(
    name: str, *touched: str, steps: int = 2, everything: bool = False, last: int = SENT
) -> Task:
    """Return a work that sends a statement in each of its steps, and looks at each result."""

    def sends(db: Transaction) -> Steps[str]:
        for step in range(steps):
            db.execute(f"{name}{step}")
            yield last if step == steps - 1 else SENT
        return name

    return Task(sends, None if everything else frozenset(touched), stepped=True)


def test_works_that_touch_different_things_wait_for_the_server_together() -> None:
    server = Server()
    assert server.run(work("a", "x"), work("b", "y"), work("c", "z", steps=1)) == ["a", "b", "c"]
    assert server.sent == ["a0", "b0", "c0", "-", "a1", "b1", "-"]


def test_what_is_sure_is_committed_with_its_last_statement() -> None:
    server = Server()
    tasks = (work("a", "x", last=SURE), work("b", "y", steps=1, last=SURE))
    assert server.run(*tasks) == ["a", "b"]
    assert server.sent == ["a0", "b0", "-", "a1", "commit"]


def test_what_is_not_sure_is_looked_at_before_the_commit() -> None:
    server = Server()
    assert server.run(work("a", "x", steps=1), work("b", "y", steps=1, last=SURE)) == ["a", "b"]
    assert server.sent == ["a0", "b0", "-"]


def test_what_is_sure_waits_for_what_is_not() -> None:
    server = Server()
    assert server.run(work("a", "x", last=SURE), work("b", "y")) == ["a", "b"]
    assert server.sent == ["a0", "b0", "-", "a1", "b1", "-"]


def test_works_that_touch_the_same_send_in_their_order() -> None:
    server = Server()
    touching = (("a", "x"), ("b", "x", "y"), ("c", "y"))
    assert server.run(*(work(*each, last=SURE) for each in touching)) == ["a", "b", "c"]
    assert server.sent == ["a0", "-", "a1", "b0", "-", "b1", "c0", "-", "c1", "commit"]


@pytest.mark.parametrize("everything", [False, True])
def test_what_reads_or_touches_everything_keeps_its_place(everything: bool) -> None:  # noqa: FBT001
    server = Server()
    between = work("b", steps=1, everything=everything, last=SURE)
    assert server.run(work("a", "x", last=SURE), between, work("c", "y")) == ["a", "b", "c"]
    assert server.sent == ["a0", "-", "a1", "b0", "c0", "-", "c1", "-"]


def test_what_one_work_raises_ends_all() -> None:
    def fails(db: Transaction) -> None:
        del db
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        Server().run(work("a", "x"), Task(fails, frozenset("y"), stepped=False))
