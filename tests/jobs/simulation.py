"""A world without time, disk or network in which the core runs: a journal, ComfyUIs, bridges.

The core is the real one. What is simulated is what it stands on (`world`), with everything that can
go wrong there: a disk that refuses, a bridge that is killed between any two steps, or frozen until
others counted it as dead, a notice that is missed, a ComfyUI that dies with all its prompts or is
away for a while (`attempts`), the links to the broker (`publishing`, `links`), and the requests
that it delivers again (`arrivals`).
"""

from __future__ import annotations

import copy
from collections import defaultdict, deque
from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from bridge.contract.errors import BridgeError
from bridge.jobs.core import Phase, effects, events
from bridge.jobs.core.ownership import events_for
from bridge.jobs.core.pool import JOBS_AT_COMFYUI
from bridge.jobs.job import Envelope, Job
from bridge.jobs.queue import Key
from bridge.jobs.state import Transition, after, is_outcome
from tests.jobs.arrivals import Request
from tests.jobs.attempts import Attempt, Attempting
from tests.jobs.drafts import draft
from tests.jobs.process import Operation
from tests.jobs.publishing import Publishing
from tests.jobs.world import ComfyUI, Prompt, Row, World


class Bridge(Attempting, Publishing):
    """One bridge: it takes requests, and carries out what its core decides."""

    def __init__(
        self, world: World, life: str, comfyuis: dict[str, ComfyUI], *, alone: bool
    ) -> None:
        super().__init__(world, life, comfyuis, alone=alone)
        self.notices: deque[tuple[str, Key]] = deque()
        self.has_intake = False
        # By which connection it takes requests, and the PUBACKs that it has yet to send.
        self.connection = f"{life}/0"
        self.pubacks: deque[tuple[str, Request]] = deque()

    # -- effects --

    def recover(self) -> None:
        rows = sorted(self.world.journal.rows.values(), key=lambda row: row.job.seq)
        ours = [
            copy.deepcopy(row.job)
            for row in rows
            if row.outcome is None and (self.alone or row.owner == self.life)
        ]
        self.handle(events.Recovered(ours))
        self.look()

    def look(self) -> None:
        """See how the ComfyUIs are."""
        for name, comfyui in self.comfyuis.items():
            if self.core.book.pool[name].availability != comfyui.availability:
                self.handle(events.InstanceChanged(name, comfyui.availability))

    def _carry_out(self, effect: effects.Effect) -> None:
        key = effect.key if isinstance(effect, effects.JobEffect) else None
        match effect:
            case effects.PublishStatus(_, status):
                assert key is not None
                self.publisher.status(self._job(key), status)
            case effects.JobLeft():
                assert key is not None
                assert key not in self.core.book
                self.attempts.pop(key, None)
            case effects.StartJob():
                assert key is not None
                assert key not in self.attempts, "a job is started twice"
                self.world.take_turn(self, key)
                self.attempts[key] = Attempt(effect, self.core.book.job(key).prompt_id)  # type: ignore[union-attr]
            case effects.StopJob():
                assert key is not None
                self.attempts[key].stop = True
            case effects.StopResolving():
                self.errands = [
                    each for each in self.errands if (each.name, each.key) != ("resolve", key)
                ]
            case effects.Resolve():
                self.errands.append(Operation("resolve", key, lambda: self._resolve(effect.key)))
            case effects.ListPrompts(name):
                self.errands.append(Operation("ask", None, lambda: self._ask(name)))
            case effects.CancelPrompt(name, prompt_id):
                comfyui = self.comfyuis[name]
                self.errands.append(
                    Operation("cancel", None, lambda: comfyui.prompts.pop(prompt_id, None))  # type: ignore[arg-type]
                )
            case effects.MarkStarted() | effects.Announce():
                job = copy.deepcopy(self._job(effect.key))
                self.writes.append(
                    Operation(type(effect).__name__, key, lambda: self._write_status(effect, job))
                )
            case _:
                assert isinstance(effect, effects.JobEffect)
                self.writes.append(
                    Operation(type(effect).__name__, key, lambda: self._write(effect))
                )

    def _job(self, key: Key) -> Job:
        job = self.core.book.job(key)
        assert job is not None
        return job

    # -- requests --

    def receive(self) -> bool:
        """Take the next request from the broker; False if there is none."""
        found = self.world.session.deliver(self.connection)
        if found is None:
            return False
        request, again = found
        here = self.connection
        self.writes.append(
            Operation(
                "Accept",
                None,
                lambda: self._accept(request, here, again=again),
                lambda: self._refuse(request, here),
            )
        )
        return True

    def reconnect(self) -> None:
        """Lose the connection of the requests, and make another one."""
        life, _, number = self.connection.partition("/")
        self.connection = f"{life}/{int(number) + 1}"

    def puback(self) -> None:
        """Acknowledge the next request."""
        if self.pubacks:
            self.world.session.acknowledge(*self.pubacks.popleft())

    def _refuse(self, request: Request, connection: str) -> None:
        request.refused = True
        self.pubacks.append((connection, request))

    def _accept(self, request: Request, connection: str, *, again: bool) -> None:
        self._check_fence()
        prompt_id = self.world.new_id()
        new = draft(
            f"of-{prompt_id}",
            request.client,
            prompt_id=prompt_id,
            delivery=f"session:{request.packet}:{request.content}",
            redelivered=again,
            accepted_at=self.clock.now(),
        )
        journal = self.world.journal
        n = self._draw(request.client)
        if not journal.arrivals.knows(new):
            request.jobs += 1
            journal.arrivals.write(new, n)
            self.accept(replace(new.job, seq=journal.next_seq()), n)
        self.pubacks.append((connection, request))

    def accept(self, job: Job, n: int) -> None:
        """Write a job down, and take it."""
        self.world.journal.rows[job.key] = Row(job, None, n)
        if self.dead:
            return  # before it could notify the others
        self.world.notify(self, "look", job.key)
        self.handle(events.JobAccepted(copy.deepcopy(job)))
        self.announce(job, n)

    def announce(self, job: Job, n: int) -> None:
        """Publish the status of a job that was just accepted, or that comes back."""
        self.publisher.status(job, self.core.announced(job, n))

    # -- what it has yet to do --

    def _resolve(self, key: Key) -> None:
        if self.world.draw_bool():
            self.handle(events.Resolved(key, self.world.plan, {}))
        else:
            self.handle(events.Unresolvable(key, BridgeError("it cannot be fetched")))

    def _ask(self, name: str) -> None:
        comfyui = self.comfyuis[name]
        there = (
            None
            if comfyui.away
            else frozenset(pid for pid, at in comfyui.prompts.items() if at is not Prompt.DONE)
        )
        self.handle(events.PromptsListed(name, there))

    def _write(self, effect: effects.JobEffect) -> None:
        """Do what the journal does for an effect, and hand its answer to the core."""
        self._check_fence()
        writes: dict[type, Callable[[Any, Row], events.Event | None]] = {
            effects.Claim: self._claim,
            effects.ReleaseJob: self._release,
            effects.Requeue: self._requeue,
            effects.Finish: self._finish,
        }
        answer = writes[type(effect)](effect, self.world.journal.rows[effect.key])
        if answer is not None:
            self.handle(answer)

    def _write_status(self, effect: effects.MarkStarted | effects.Announce, job: Job) -> None:
        """Draw a number for a status, and publish it."""
        self._check_fence()
        n = self._draw(effect.key.client)
        if isinstance(effect, effects.MarkStarted):
            self._mark(effect.key, self.world.journal.rows[effect.key], n)
        if not self.dead:
            self.publisher.status(job, replace(effect.status, n=n))

    def _is_ours(self, row: Row) -> bool:
        return row.outcome is None and (self.alone or row.owner in (None, self.life))

    def _claim(self, effect: effects.Claim, row: Row) -> events.Event:
        key = effect.key
        if not self._is_ours(row):
            return events.ClaimLost(key)
        row.owner = self.life
        self.world.notify(self, "taken", key)
        return events.Claimed(key, row.job.attempt, row.job.prompt_id)

    def _release(self, effect: effects.ReleaseJob, row: Row) -> events.Event:
        key = effect.key
        if not self._is_ours(row) or row.job.state != "waiting":
            return events.Vanished(key)
        row.owner = None
        row.job.state = after(row.job.state, Transition.RELEASE)
        row.n = self._draw(key.client)
        self.world.notify(self, "look", key)
        return events.Released(key, row.n)

    def _mark(self, key: Key, row: Row, n: int) -> None:
        job = self.core.book.job(key)
        if job is not None and row.outcome is None and job.state == "running":
            row.job.state, row.job.attempt = job.state, job.attempt
            row.job.instance, row.job.prompt_id, row.n = job.instance, job.prompt_id, n

    def _requeue(self, effect: effects.Requeue, row: Row) -> events.Event:
        key = effect.key
        job = self.core.book.job(key)
        if row.outcome is not None or job is None:
            return events.Vanished(key)
        row.job.state = "queued"
        row.job.attempt, row.job.prompt_id, row.job.instance = job.attempt, job.prompt_id, None
        row.owner = None
        row.n = self._draw(key.client)
        self.world.notify(self, "look", key)
        return events.Requeued(key, row.n)

    def _finish(self, effect: effects.Finish, row: Row) -> events.Event:
        key, journal = effect.key, self.world.journal
        if not self._is_ours(row):
            return events.Vanished(key)
        assert is_outcome(effect.outcome)
        assert key not in journal.results, "a second outcome"
        if effect.outcome == "expired":
            assert self.world.now + 0.001 >= self.world.expires[key], "it expires too early"
        row.outcome = journal.results[key] = effect.outcome
        row.owner = self.life
        row.n = self._draw(key.client)
        result = journal.ledger.finish(key, row.n, self.clock.now(), self.owner or None)
        if not self.dead:
            self.publisher.result(key, Envelope(), result)
        self.world.notify(self, "ended", key)
        return events.Finished(key)

    # -- the others --

    def notice(self) -> None:
        """Take in one notice of another bridge."""
        what, key = self.notices.popleft()
        if what == "taken":
            self.handle(events.TakenElsewhere(key))
        elif what == "ended":
            self.handle(events.EndedElsewhere(key))
        else:
            self.see(key)

    def compare(self) -> None:
        """Compare all with the journal: what was missed is noticed here."""
        there = self.world.journal.unowned(waiting=self.has_intake)
        for key in sorted(there ^ self.core.book.unclaimed()):
            self.see(key)

    def see(self, key: Key) -> None:
        """Act on where the journal has a job."""
        row = self.world.journal.read(key)
        for event in events_for(
            row.job,
            owner=row.owner,
            cancelling=row.cancelling,
            ended=row.outcome is not None,
            life=self.life,
            has_intake=self.has_intake,
            known=key in self.core.book,
        ):
            self.handle(event)

    # -- looking --

    def check(self) -> None:
        """Check that the core's book, its queue and its places agree with each other."""
        held: dict[str, int] = defaultdict(int)
        queued = set(self.core.book.queue)
        for key, entry in self.core.book.entries.items():
            assert entry.job.key == key
            assert not is_outcome(entry.job.state)
            assert (key in queued) == (entry.phase is Phase.QUEUED)
            assert (entry.instance is not None) == (key in self.core.book.active)
            assert entry.phase is not Phase.ACTIVE or key in self.attempts
            if entry.holds_slot:
                held[entry.instance or ""] += 1
        for member in self.core.book.pool:
            assert member._jobs == held[member.name] <= JOBS_AT_COMFYUI
        assert len(queued) == self.core.book.queued
        assert sum(self.core.book.estimates._queued.values()) == len(queued)
