"""A world without time, disk or network in which the core runs: a journal, ComfyUIs, bridges.

The core is the real one. What is simulated is what it stands on, with everything that can go wrong
there: a disk that refuses, a bridge that is killed between any two steps, or frozen until others
took it for dead, a notice that is missed, a ComfyUI that dies with all its prompts or is away for a
while, the links to the broker (`links`), and the requests that it delivers again (`arrivals`).
"""

from __future__ import annotations

import copy
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from bridge.contract.errors import BridgeError, ComfyUIUnavailable
from bridge.contract.messages import State
from bridge.jobs.clock import Clock, Reading
from bridge.jobs.core import Core, JobLimits, Moment, Phase, effects, events
from bridge.jobs.core.ownership import events_for
from bridge.jobs.core.pool import JOBS_AT_COMFYUI, Availability
from bridge.jobs.job import Envelope, Job, Plan
from bridge.jobs.queue import Key
from bridge.jobs.state import Transition, after, is_outcome
from tests.jobs import links
from tests.jobs.arrivals import Arrivals, Request, Session
from tests.jobs.drafts import draft

LIMITS = JobLimits(max_attempts=3, timeout_s=60.0, silence_s=60.0, reorder_s=5.0)


class Fenced(Exception):
    """The others took a bridge for dead."""


class Prompt(Enum):
    """A prompt's place at a ComfyUI."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"


class ComfyUI:
    """One ComfyUI: it runs one prompt at a time, and forgets all of them when it dies."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.away = False
        self.epoch = 0
        self.prompts: dict[str, Prompt] = {}

    def run(self, followed: set[str]) -> None:
        """Run the next prompt once nothing runs; what nobody follows any more ends by itself."""
        for prompt_id, at in self.prompts.items():
            if at is Prompt.RUNNING and prompt_id not in followed:
                self.prompts[prompt_id] = Prompt.DONE
        if not any(each is Prompt.RUNNING for each in self.prompts.values()):
            waiting = next((pid for pid, at in self.prompts.items() if at is Prompt.QUEUED), None)
            if waiting is not None:
                self.prompts[waiting] = Prompt.RUNNING

    def die(self) -> None:
        self.epoch += 1
        self.prompts.clear()

    @property
    def availability(self) -> Availability:
        busy = any(each is not Prompt.DONE for each in self.prompts.values())
        state = "unreachable" if self.away else ("busy" if busy else "ready")
        return Availability(usable=not self.away, state=state, memory=(str(self.epoch), 0))  # type: ignore[arg-type]


class Row(Struct):
    """A job as the journal has it."""

    job: Job
    owner: str | None
    n: int
    outcome: State | None = None
    cancelling: bool = False


class Journal:
    """The contents of the disk."""

    def __init__(self) -> None:
        self.rows: dict[Key, Row] = {}
        self.members: set[str] = set()
        self.results: dict[Key, State] = {}
        self.ledger = links.Ledger()
        self.arrivals = Arrivals()
        self.reading: Reading | None = None
        self._seq = 0

    def next_seq(self) -> int:
        self._seq += 1
        return self._seq

    def read(self, key: Key) -> Row:
        return copy.deepcopy(self.rows[key])

    def unowned(self, *, waiting: bool) -> set[Key]:
        states = ("queued", "waiting") if waiting else ("queued",)
        return {
            key
            for key, row in self.rows.items()
            if row.outcome is None and row.owner is None and row.job.state in states
        }


class Attempt(Struct):
    """An attempt as its bridge follows it. `sent`: ComfyUI has the prompt, or had it."""

    start: effects.StartJob
    prompt_id: str
    sent: bool = False
    began: bool = False
    stop: bool = False
    left: bool = False


class Operation(Struct):
    """Something that a bridge has to do, later; `refuse`: what it does instead if it cannot."""

    name: str
    key: Key | None
    do: Callable[[], None]
    refuse: Callable[[], None] | None = None


class Bridge:
    """One process: a core, what it has yet to do, and the attempts that it follows."""

    def __init__(
        self, world: World, life: str, comfyuis: dict[str, ComfyUI], *, alone: bool
    ) -> None:
        self.life = life
        self.alone = alone
        self.comfyuis = comfyuis
        self.core = Core(dict.fromkeys(comfyuis, True), _can_run, LIMITS, alone=alone)
        self.world = world
        self.writes: deque[Operation] = deque()  # in order, as the journal answers
        self.errands: list[Operation] = []  # in any order
        self.attempts: dict[Key, Attempt] = {}
        self.notices: deque[tuple[str, Key]] = deque()
        self.has_intake = False
        self.dead = False
        # By which connection it takes requests, and the PUBACKs that it has yet to send.
        self.connection = f"{life}/0"
        self.pubacks: deque[tuple[str, Request]] = deque()
        # Whose numbers and results these are; a bridge alone has no name.
        self.owner = "" if alone else life
        self.link: links.Link | None = None
        self.clock = Clock(lambda: world.wall, lambda: world.now, "boot")
        self.clock.resume(world.journal.reading, None)
        world.journal.reading = self.clock.read()
        self.publisher = links.publisher(
            self._delivered,
            passed_over=self._passed_over,
            set_delivered=self._set_delivered,
            may_publish=lambda: alone or life in world.journal.members,
        )

    # -- events in, effects out --

    def handle(self, event: events.Event) -> None:
        if self.dead:
            return
        now = Moment(self.clock.now(), self.world.now, self.clock.ahead)
        done = self.core.handle(event, now)
        for effect in done:
            if isinstance(effect, effects.ReportDefect):
                raise effect.error
            if not isinstance(effect, effects.ReportBlocked):  # for other bridges alone
                self._carry_out(effect)
        if self.core.must_schedule:
            self.handle(events.Schedule())

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

    def tick(self) -> None:
        due = self.core.wakes_at()
        self.clock.look()
        self.world.journal.reading = self.clock.read()
        if due.journal <= self.clock.now() or due.steady <= self.world.now:
            self.handle(events.Tick())

    def _carry_out(self, effect: effects.Effect) -> None:
        key = effect.key if isinstance(effect, effects.JobEffect) else None
        match effect:
            case effects.PublishStatus(_, status):
                assert key is not None
                self.publisher.status(self._job(key), status)
            case effects.Left():
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

    def _check_fence(self) -> None:
        if not self.alone and self.life not in self.world.journal.members:
            raise Fenced

    def _draw(self, client: str) -> int:
        return self.world.journal.ledger.draw(client, self.owner)

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

    # -- its link to the broker --

    def connect(self) -> None:
        """Make a connection: its SUBACK is yet to come, and then what is missing is read."""
        if self.link is None:
            link = self.link = links.Link(self.world.broker.note)
            self.publisher.attach(link)  # type: ignore[arg-type]

    def subscribed(self) -> None:
        """Take the SUBACK."""
        link = self.link
        if link is not None:
            self.writes.append(Operation("CatchUp", None, lambda: self._catch_up(link)))

    def _catch_up(self, link: links.Link) -> None:
        self._check_fence()
        if self.link is link and not self.dead:
            since = self.clock.now() - links.REPEAT_S
            self.publisher.catch_up(self.world.journal.ledger.unpublished(self.owner, since))

    def publish_orphans(self) -> None:
        """Publish what dead bridges had yet to publish."""
        journal = self.world.journal
        for found in journal.ledger.orphans(journal.members, self.clock.now()):
            self.publisher.orphaned_result(*found)

    def disconnect(self) -> None:
        """Lose the connection, and what the broker has not acknowledged."""
        link, self.link = self.link, None
        if link is not None:
            self.publisher.detach(None)
            link.lose()

    def _delivered(self, key: Key) -> None:
        if not self.dead:
            self.writes.append(Operation("Note", key, lambda: self._note(key)))

    def _note(self, key: Key) -> None:
        self._check_fence()
        overtaken = self.world.journal.ledger.note_published(key, self.owner)
        if overtaken:
            self.writes.append(Operation("Renumber", key, lambda: self._renumber(overtaken)))

    def _renumber(self, keys: list[Key]) -> None:
        self._check_fence()
        self.world.journal.ledger.renumber(keys, self.owner, published=True)

    def _passed_over(self, key: Key) -> None:
        self.writes.append(Operation("PassOver", key, lambda: self._pass_over(key)))

    def _pass_over(self, key: Key) -> None:
        self._check_fence()
        self.world.journal.ledger.pass_over(key)

    def _set_delivered(self, key: Key) -> None:
        if not self.dead:
            self.writes.append(Operation("Note", None, lambda: self._note_set(key)))

    def _note_set(self, key: Key) -> None:
        self._check_fence()
        self.world.journal.ledger.note_set_published(key)

    def end_set(self, key: Key) -> None:
        """Write a set's result, and publish it in its turn."""
        self.writes.append(Operation("EndSet", None, lambda: self._end_set(key)))

    def _end_set(self, key: Key) -> None:
        self._check_fence()
        n = self._draw(key.client)
        ledger = self.world.journal.ledger
        result = ledger.finish_set(key, n, self.clock.now(), self.owner or None)
        if not self.dead:
            self.publisher.set_result(key, Envelope(), result)

    # -- attempts --

    def advance(self, key: Key) -> None:
        """Let one attempt make one step at its ComfyUI."""
        attempt = self.attempts[key]
        comfyui = self.comfyuis[attempt.start.instance]
        if attempt.left:
            del self.attempts[key]
            self._ended(attempt, succeeded=True)
        elif not attempt.sent:
            self._send(attempt, comfyui)
        elif attempt.prompt_id not in comfyui.prompts:
            self._end(attempt, events.AttemptBroke(key, ComfyUIUnavailable("lost"), self._new_id()))
        elif attempt.stop and not comfyui.away:
            del comfyui.prompts[attempt.prompt_id]
            self._end(attempt, events.AttemptStopped(key, self._new_id()))
        elif not comfyui.away:
            self._run(attempt, comfyui)

    def _send(self, attempt: Attempt, comfyui: ComfyUI) -> None:
        key = attempt.start.key
        if comfyui.away:
            error = ComfyUIUnavailable("away")
            self._end(attempt, events.AttemptBroke(key, error, self._new_id()))
        elif attempt.start.adopt and attempt.prompt_id in comfyui.prompts:
            attempt.sent = True
        elif attempt.start.adopt and attempt.start.began:
            self._end(attempt, events.AttemptBroke(key, ComfyUIUnavailable("lost"), self._new_id()))
        elif attempt.stop:
            self._end(attempt, events.AttemptStopped(key, self._new_id()))
        else:
            assert attempt.prompt_id not in comfyui.prompts, "a prompt id is used twice"
            attempt.sent = True
            comfyui.prompts[attempt.prompt_id] = Prompt.QUEUED

    def _run(self, attempt: Attempt, comfyui: ComfyUI) -> None:
        key = attempt.start.key
        comfyui.run({each.prompt_id for each in self.attempts.values()})
        match comfyui.prompts[attempt.prompt_id]:
            case Prompt.RUNNING if not attempt.began:
                attempt.began = True
                self.handle(events.Began(key))
            case Prompt.RUNNING | Prompt.DONE:
                comfyui.prompts[attempt.prompt_id] = Prompt.DONE
                attempt.left = True
                self.handle(events.LeftComfyUI(key))
            case Prompt.QUEUED:
                pass

    def _ended(self, attempt: Attempt, *, succeeded: bool) -> None:
        key = attempt.start.key
        how = self.world.draw_ending() if succeeded else "failed"
        if how == "succeeded":
            self.handle(events.AttemptSucceeded(key, 1.0))
        elif how == "failed":
            self.handle(events.AttemptFailed(key, BridgeError("a node failed")))
        elif how == "memory":
            error = BridgeError("out of memory")
            self.handle(events.AttemptBroke(key, error, self._new_id(), free_memory=True))
        elif how == "no room":
            error = BridgeError("ComfyUI's disk is full")
            self.handle(events.AttemptBroke(key, error, self._new_id(), no_room=True))
        else:
            self.handle(events.Defect(key, BridgeError("internal error")))

    def _end(self, attempt: Attempt, event: events.Event) -> None:
        del self.attempts[attempt.start.key]
        self.handle(event)

    def _new_id(self) -> str:
        return self.world.new_id()

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
            if entry.holds_place:
                held[entry.instance or ""] += 1
        for member in self.core.book.pool:
            assert member._jobs == held[member.name] <= JOBS_AT_COMFYUI
        assert len(queued) == self.core.book.queued
        assert sum(self.core.book.estimates._queued.values()) == len(queued)


def _can_run(_name: str, _needs: object) -> bool:
    return True


class World:
    """Everything, and chance: `draw_bool` and `draw_ending` are set by the test."""

    def __init__(self, plan: Plan) -> None:
        # What really goes by, and by how much the wall clock is before that.
        self.now = 1_000.0
        self.ahead = 0.0
        self.expires: dict[Key, float] = {}
        self.journal = Journal()
        self.broker = links.Broker()
        self.session = Session()
        self.comfyuis: dict[str, ComfyUI] = {}
        self.bridges: dict[str, Bridge] = {}
        self.frozen: dict[str, Bridge] = {}
        self.plan = plan
        self.draw_bool: Callable[[], bool] = lambda: True
        self.draw_ending: Callable[[], str] = lambda: "succeeded"
        self._turns: dict[str, set[str]] = defaultdict(set)
        self._ids = 0

    @property
    def wall(self) -> float:
        return self.now + self.ahead

    def new_id(self) -> str:
        self._ids += 1
        return f"prompt-{self._ids}"

    def take_turn(self, bridge: Bridge, key: Key) -> None:
        """Check that nobody gets two turns while another client waits for one."""
        if not bridge.alone:
            return
        waiting = {
            each.client
            for each, entry in bridge.core.book.entries.items()
            if entry.phase is Phase.QUEUED and entry.pinned is None
        }
        for client in list(self._turns):
            if client not in waiting:
                del self._turns[client]
        self._turns.pop(key.client, None)
        for client in waiting - {key.client}:
            assert key.client not in self._turns[client], f"{key.client} passes {client} twice"
            self._turns[client].add(key.client)

    def new_process(self) -> None:
        """Forget whose turn it was, as a bridge does that is started."""
        self._turns.clear()

    def notify(self, sender: Bridge, what: str, key: Key) -> None:
        for bridge in self.everybody():
            if bridge is not sender and not bridge.alone:
                bridge.notices.append((what, key))

    def everybody(self) -> Iterator[Bridge]:
        yield from self.bridges.values()
        yield from self.frozen.values()
