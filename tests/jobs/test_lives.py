"""Jobs' lives over state table, queue and journal, with everything that can befall a bridge.

`COMFY2MQTT_TEST_STEPS` is about how many steps are taken, 1,500 by default: `make lives` takes a
hundred thousand.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from bridge.contract.messages import State
from bridge.contract.numbering import Numbered
from bridge.jobs import state
from bridge.jobs.job import Job
from bridge.jobs.journal import Journal
from bridge.jobs.queue import Key, Queue
from bridge.jobs.records import AlreadyEnded
from bridge.jobs.state import Happening, IllegalTransition
from tests.jobs.drafts import draft

T = TypeVar("T")
# A memory file system where there is one: what is tried is the logic, not the disk.
MEMORY = "/dev/shm"  # noqa: S108 - a folder of its own is made in it
STEPS = 50
CLIENTS = st.sampled_from("abc")
RESULT = Numbered(b'{"n": ', b"}")
ENDINGS = (Happening.SUCCEED, Happening.FAIL, Happening.CANCEL)


class Lives(RuleBasedStateMachine):
    """What a bridge does with jobs, in any order; `told` is what their clients were told."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = tempfile.mkdtemp(dir=MEMORY if os.access(MEMORY, os.W_OK) else None)
        self.journal = Journal(Path(self.folder) / "journal.db")
        self.queue = Queue()
        self.jobs: dict[Key, Job] = {}
        self.running: set[Key] = set()
        self.accepted: set[Key] = set()
        self.results: dict[Key, bytes] = {}
        self.latest: dict[str, int] = defaultdict(int)
        self.delivered: dict[str, Key] = {}

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    @initialize()
    def begin(self) -> None:
        self.wait(self.journal.open())

    def teardown(self) -> None:
        self.wait(self.journal.close())
        self.loop.close()
        shutil.rmtree(self.folder)

    def told(self, key: Key, n: int) -> None:
        assert n > self.latest[key.client]
        self.latest[key.client] = n

    # What clients do.

    @rule(client=CLIENTS, number=st.integers(0, 30), priority=st.integers(-1, 1))
    def ask(self, client: str, number: int, priority: int) -> None:
        """A request with a job id, perhaps sent again."""
        self._ask(Key(client, f"j{number}"), None, priority, again=False)

    @rule(client=CLIENTS, delivery=st.integers(0, 30), again=st.booleans())
    def deliver(self, client: str, delivery: int, *, again: bool) -> None:
        """A request without one, perhaps delivered again by the broker."""
        name = f"session:{client}{delivery}"
        if name in self.delivered and not again:
            return  # a packet id is not used anew while its message is not acknowledged
        key = Key(client, f"drawn-{len(self.delivered)}-{len(self.accepted)}")
        self._ask(key, name, 0, again=again)

    def _ask(self, key: Key, delivery: str | None, priority: int, *, again: bool) -> None:
        wanted = draft(
            key.job_id, key.client, priority=priority, delivery=delivery, redelivered=again
        )
        acceptance = self.wait(self.journal.accept(wanted, 1.0))
        found = acceptance.record.job.key
        if not acceptance.new:
            assert found in self.accepted
            assert acceptance.record.result == self.results.get(found)
            return
        assert found == key
        assert key not in self.accepted
        assert delivery is None or not again or delivery not in self.delivered
        self.accepted.add(key)
        if delivery is not None:
            self.delivered[delivery] = key
        self.told(key, acceptance.record.n)
        self._put(acceptance.record.job)

    def _put(self, job: Job) -> None:
        self.jobs[job.key] = job
        self.queue.add(job.key, seq=job.seq, priority=job.priority)

    @rule(client=CLIENTS)
    def ack(self, client: str) -> None:
        self.wait(self.journal.ack(client, self.latest[client]))

    # What happens to jobs.

    @rule()
    def start(self) -> None:
        key = self.queue.take()
        if key is None:
            return
        job = self.jobs[key]
        job.state = state.after(job.state, Happening.START)
        job.attempt += 1
        self.running.add(key)

        async def started() -> None:
            self.told(key, await self.journal.started(job))

        self.wait(started())

    @precondition(lambda self: self.running)
    @rule(data=st.data(), how=st.sampled_from([*ENDINGS, Happening.REQUEUE]))
    def end(self, data: st.DataObject, how: Happening) -> None:
        key = data.draw(st.sampled_from(sorted(self.running)))
        self.running.discard(key)
        job = self.jobs[key]
        job.state = state.after(job.state, how)
        if how is Happening.REQUEUE:
            job.prompt_id += "'"
            self.told(key, self.wait(self.journal.requeued(job)))
            self._put(job)
        else:
            self._finish(key, job.state)

    @precondition(lambda self: bool(len(self.queue)))
    @rule(data=st.data(), how=st.sampled_from([Happening.CANCEL, Happening.EXPIRE]))
    def withdraw(self, data: st.DataObject, how: Happening) -> None:
        key = data.draw(st.sampled_from(sorted(self.queue)))
        assert self.queue.remove(key)
        job = self.jobs[key]
        job.state = state.after(job.state, how)
        self._finish(key, job.state)

    def _finish(self, key: Key, outcome: State) -> None:
        del self.jobs[key]
        result = self.wait(self.journal.finish(key, state=outcome, result=RESULT, now=2.0))
        self.results[key] = result
        self.told(key, int(result[6:-1]))

    @precondition(lambda self: self.results)
    @rule(data=st.data())
    def end_again(self, data: st.DataObject) -> None:
        """A second outcome is refused, and changes nothing."""
        key = data.draw(st.sampled_from(sorted(self.results)))
        with pytest.raises(AlreadyEnded):
            self.wait(
                self.journal.finish(key, state="failed", result=Numbered(b"another", b""), now=3.0)
            )

    @precondition(lambda self: self.jobs)
    @rule(data=st.data(), what=st.sampled_from(list(Happening)))
    def cannot(self, data: st.DataObject, what: Happening) -> None:
        """What is illegal raises, and changes nothing."""
        job = self.jobs[data.draw(st.sampled_from(sorted(self.jobs)))]
        legal = [Happening.CANCEL, Happening.FAIL, Happening.START, Happening.EXPIRE]
        if job.state == "running":
            legal = [*ENDINGS, Happening.REQUEUE]
        if what not in legal:
            with pytest.raises(IllegalTransition):
                state.after(job.state, what)

    # What happens to the bridge.

    @rule()
    def die(self) -> None:
        """A new process: memory is gone, what the journal has is all there is."""
        self.wait(self.journal.close())
        self.journal = Journal(Path(self.folder) / "journal.db")
        self.wait(self.journal.open())
        lost, self.jobs, self.queue, self.running = set(self.jobs), {}, Queue(), set()
        for job in self.wait(self.journal.unfinished()):
            assert job.key in lost
            if job.state == "running":
                job.state = state.after(job.state, Happening.REQUEUE)
            self._put(job)
        assert set(self.jobs) == lost

    @rule()
    def sweep(self) -> None:
        self.wait(self.journal.sweep(now=2.5, results_before=1.0, forget_before=1.0))

    @invariant()
    def nothing_is_lost_or_doubled(self) -> None:
        assert set(self.jobs) == self.running | set(self.queue)
        assert not self.running & set(self.queue)
        assert self.accepted == self.jobs.keys() | self.results.keys()
        assert not self.jobs.keys() & self.results.keys()

    @precondition(lambda self: self.results)
    @rule(data=st.data())
    def look(self, data: st.DataObject) -> None:
        """An outcome stays as it is, byte for byte."""
        key = data.draw(st.sampled_from(sorted(self.results)))
        record = self.wait(self.journal.get(key))
        assert record.result == self.results[key]
        assert state.is_outcome(record.job.state)


Lives.TestCase.settings = settings(
    max_examples=max(1, int(os.environ.get("COMFY2MQTT_TEST_STEPS", "1500")) // STEPS),
    stateful_step_count=STEPS,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestLives = Lives.TestCase
