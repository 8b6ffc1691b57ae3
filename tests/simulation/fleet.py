"""Bridges of one journal on virtual time: each has the real core, and a model of what it stands on.

What decides is the bridge's own code (`bridge.jobs.core`): fair turns, which ComfyUI a job goes to,
claims, estimates. Modelled are the database (`database`), ComfyUIs that take their time, the
intake, notices between bridges, leases, and bridges that die.
"""

from __future__ import annotations

import copy
import heapq
import random
from collections.abc import Callable, Collection, Sequence
from typing import Literal

from msgspec import Struct

from bridge.jobs.core import Core, JobLimits, Moment, effects, events
from bridge.jobs.core.pool import Availability
from bridge.jobs.group import BEATS, COMPARE_S
from bridge.jobs.job import Envelope, Job
from bridge.jobs.queue import Key
from bridge.jobs.read_delay import read_delay_s
from bridge.workflows.catalogue import Needs
from tests.simulation.database import Costs, Database

LIMITS = JobLimits(max_attempts=3, timeout_s=3600.0, silence_s=600.0, reorder_s=60.0)
LEASE_S = 10.0
# What one request takes an intake: of the figures of docs/scale.md, "What they would give".
REQUEST_S = 0.00065
_MOST_WORKS = 256
_READY = Availability(usable=True, state="ready")

# A claim waits for its client's lock, as the bridges have it; or it tries that lock, and the next
# transaction tries again; or it locks the job's row alone, and one that finds it locked is lost.
Claims = Literal["wait", "try", "skip"]


class Kind(Struct, frozen=True):
    """A workflow: the seconds that it runs and that its model loads, and its share of requests."""

    name: str
    model: str
    run_s: float
    load_s: float
    share: float

    @property
    def needs(self) -> Needs:
        return Needs(("Loader",), (("Loader", "file", self.model),))


KINDS = (
    Kind("photo", "photo.safetensors", run_s=8.0, load_s=5.0, share=0.6),
    Kind("poster", "poster.safetensors", run_s=25.0, load_s=12.0, share=0.3),
    Kind("film", "film.safetensors", run_s=120.0, load_s=30.0, share=0.1),
)


class Record(Struct):
    """A job, and what became of it; times are the simulation's, seconds."""

    job: Job
    kind: Kind
    asked: float
    accepted: float = 0.0
    position: int | None = None
    eta_s: float | None = None
    owner: Bridge | None = None
    starts: list[float] = []
    ended: float | None = None
    # How many jobs had started when it was accepted, and when it started itself.
    before_accepted: int = 0
    before_started: int = 0


class Gpu:
    """A ComfyUI: one prompt after another."""

    def __init__(self, bridge: Bridge, name: str) -> None:
        self.bridge = bridge
        self.name = name
        self.model = ""
        self.busy_s = 0.0
        self._prompts: list[Record] = []

    def take(self, record: Record) -> None:
        self._prompts.append(record)
        if len(self._prompts) == 1:
            self.bridge.use(1)
            self._begin()

    def _begin(self) -> None:
        record, fleet = self._prompts[0], self.bridge.fleet
        kind = record.kind
        load_s = 0.0 if self.model == kind.model else kind.load_s
        self.model = kind.model
        run_s = load_s + kind.run_s * fleet.chance.lognormvariate(0.0, 0.2)
        fleet.began(record)
        self.bridge.handle(events.Began(record.job.key))
        fleet.after(run_s, lambda: self._end(record, run_s))

    def _end(self, record: Record, run_s: float) -> None:
        if self.bridge.dead:
            return
        self.busy_s += run_s
        key = record.job.key
        self.bridge.handle(events.LeftComfyUI(key))
        self.bridge.handle(events.AttemptSucceeded(key, run_s))
        del self._prompts[0]
        if self._prompts:
            self._begin()
        else:
            self.bridge.use(-1)


class Bridge:
    """A process: a core, its ComfyUIs, and its one connection to the database."""

    def __init__(self, fleet: Fleet, number: int, gpus: int, kinds: Sequence[Kind]) -> None:
        self.fleet = fleet
        self.number = number
        self.dead = False
        self.beat_at = 0.0
        self.busy_gpus = 0
        names = [f"{number}-{each}" for each in range(gpus)]
        self.gpus = {name: Gpu(self, name) for name in names}
        capable = {kind.needs for kind in kinds}
        self.core = Core(
            dict.fromkeys(names, True), lambda _, needs: needs in capable, LIMITS, alone=False
        )
        self.core.book.capacity_elsewhere = self._elsewhere
        for kind in fleet.kinds if fleet.knows_runs else ():
            self.core.book.estimates.learn({kind.name: kind.run_s})
        self.changed: set[Key] = set()
        self._looking = False
        self._looked_at = float("-inf")
        self.works: list[tuple[str, Record]] = []
        self._writing = False
        for name in names:
            self.handle(events.InstanceChanged(name, _READY))

    # -- events in, effects out --

    def handle(self, event: events.Event) -> None:
        for effect in self.core.handle(event, Moment(self.fleet.now, self.fleet.now)):
            self._carry_out(effect)
        if self.core.must_schedule:
            self.handle(events.Schedule())

    def _carry_out(self, effect: effects.Effect) -> None:
        match effect:
            case effects.Claim() | effects.MarkStarted() | effects.Finish():
                self.write(type(effect).__name__, self.fleet.records[effect.key])
            case effects.StartJob(key, instance):
                self.gpus[instance].take(self.fleet.records[key])
            case effects.ReportDefect(error):
                raise error
            case effects.PublishStatus() | effects.JobLeft() | effects.Announce():
                pass
            case _:
                raise AssertionError(effect)

    # -- its connection to the database --

    def write(self, what: str, record: Record) -> None:
        self.works.append((what, record))
        if not self._writing:
            self._write()

    def _write(self) -> None:
        works, self.works = self.works[:_MOST_WORKS], self.works[_MOST_WORKS:]
        self._writing = True
        fleet = self.fleet
        locks, passed = self._locks(works)
        ends = fleet.database.write(fleet.now, len(works), locks)
        fleet.at(ends, lambda: self._wrote(works, passed))

    def _locks(self, works: Sequence[tuple[str, Record]]) -> tuple[set[str], set[Key]]:
        """Return the locks of a transaction, and the jobs whose claims do not wait for theirs."""
        fleet = self.fleet
        waits = fleet.claims == "wait"
        locks = {record.job.key.client for what, record in works if waits or what != "Claim"}
        claimed = [record.job.key for what, record in works if what == "Claim" and not waits]
        if not claimed:
            return locks, set()
        begins = fleet.database.has_locks(fleet.now, locks)
        wanted = {
            key: key.client if fleet.claims == "try" else f"{key.client}/{key.job_id}"
            for key in claimed
        }
        passed = {
            key
            for key, lock in wanted.items()
            if lock not in locks and fleet.database.has_locks(begins, [lock]) > begins
        }
        return locks | {lock for key, lock in wanted.items() if key not in passed}, passed

    def _wrote(self, works: Sequence[tuple[str, Record]], passed: Collection[Key]) -> None:
        if self.dead:
            self.fleet.deliver_again(works)
            return
        self._writing = False
        for what, record in works:
            if what != "Claim" or record.job.key not in passed:
                self._committed(what, record)
            elif self.fleet.claims == "try":
                self.fleet.claims_again += 1
                self.write(what, record)
            else:
                self.fleet.claims_lost += 1
                self.handle(events.ClaimLost(record.job.key))
        if self.works and not self._writing:
            self._write()

    def _committed(self, what: str, record: Record) -> None:
        fleet, job = self.fleet, record.job
        match what:
            case "Accept":
                record.accepted, record.before_accepted = fleet.now, fleet.started
                fleet.unowned.add(job.key)
                self.handle(events.JobAccepted(copy.copy(job)))
                record.position, record.eta_s = self.core.book.outlook(job)
                if record.position is None:  # it has its place at a ComfyUI already
                    record.position = 0
                fleet.notify(self, "look", job.key)
            case "Claim" if record.owner is None and record.ended is None:
                record.owner = self
                fleet.unowned.discard(job.key)
                fleet.owned[job.key] = record
                fleet.notify(self, "taken", job.key)
                self.handle(events.Claimed(job.key, job.attempt, job.prompt_id))
            case "Claim":
                fleet.claims_lost += 1
                self.handle(events.ClaimLost(job.key))
            case "MarkStarted":
                job.attempt += 1
            case "Finish":
                assert record.owner is self, "two bridges end a job"
                assert record.ended is None, "a job ends twice"
                record.ended = fleet.now
                del fleet.owned[job.key]
                self.handle(events.Finished(job.key))
                fleet.notify(self, "ended", job.key)
                fleet.on_ended(record)

    # -- what the others did --

    def noticed(self, what: str, key: Key) -> None:
        if what == "look":
            self.changed.add(key)
            if not self._looking:
                self._looking = True
                self._look_soon()
        else:
            self.changed.discard(key)
            if key in self.core.book:
                known = events.TakenElsewhere if what == "taken" else events.EndedElsewhere
                self.handle(known(key))

    def _look_soon(self) -> None:
        fleet = self.fleet
        since_last_s = fleet.now - self._looked_at
        fleet.after(read_delay_s(since_last_s, fleet.living - 1, fleet.chance.random()), self._look)

    def _look(self) -> None:
        if self.dead:
            return
        keys, self.changed = self.changed, set()
        fleet = self.fleet
        fleet.at(fleet.database.look(fleet.now, len(keys)), lambda: self._looked(keys))

    def _looked(self, keys: set[Key]) -> None:
        if self.dead:
            return
        for key in sorted(keys, key=lambda each: self.fleet.records[each].job.seq):
            if key in self.fleet.unowned and key not in self.core.book:
                self.handle(events.JobAccepted(copy.copy(self.fleet.records[key].job)))
        self._looked_at = self.fleet.now
        self._looking = bool(self.changed)
        if self._looking:
            self._look_soon()

    def compare(self) -> None:
        if self.dead:
            return
        fleet = self.fleet
        fleet.database.compare(fleet.now, len(fleet.unowned))
        fleet.after(COMPARE_S, self.compare)

    def _elsewhere(self) -> tuple[int, int]:
        """Return how many ComfyUIs of others there are, and how many run a job."""
        fleet = self.fleet
        return fleet.gpus - len(self.gpus), fleet.busy_gpus - self.busy_gpus

    def use(self, gpus: int) -> None:
        """Count ComfyUIs that have become busy, or idle if it is negative."""
        self.busy_gpus += gpus
        self.fleet.busy_gpus += gpus

    def beat(self) -> None:
        if self.dead:
            return
        fleet = self.fleet
        ends = fleet.database.renew(fleet.now)
        before = fleet.intake
        orphans = fleet.orphans() if fleet.takes_intake(self) else []
        if orphans or fleet.intake is not before:
            ends = fleet.database.settle(ends, len(orphans))
        fleet.longest_beat_s = max(fleet.longest_beat_s, ends - self.beat_at)
        fleet.at(ends, lambda: self._beaten(orphans))

    def _beaten(self, orphans: Sequence[Record]) -> None:
        if self.dead:
            return
        fleet = self.fleet
        self.beat_at = fleet.now
        for record in orphans:
            record.owner = None
            fleet.unowned.add(record.job.key)
            del fleet.owned[record.job.key]
            self.handle(events.JobAccepted(copy.copy(record.job)))
            fleet.notify(self, "look", record.job.key)
        fleet.after(LEASE_S / BEATS, self.beat)


class Fleet:
    """Everything, and the time."""

    def __init__(
        self,
        bridges: int,
        gpus_each: int,
        *,
        costs: Costs,
        seed: int = 1,
        kinds: Sequence[Kind] = KINDS,
        films_at: float = 1.0,
        knows_runs: bool = True,
        claims: Claims = "wait",
    ) -> None:
        """`films_at` is the share of bridges that can run all kinds; the others lack the last."""
        self.now = 0.0
        self.chance = random.Random(seed)
        self.kinds = kinds
        self.knows_runs = knows_runs
        self.claims = claims
        self.database = Database(costs)
        self.records: dict[Key, Record] = {}
        self.unowned: set[Key] = set()
        self.owned: dict[Key, Record] = {}
        self.started = 0
        self.on_ended: Callable[[Record], None] = lambda _: None
        self.lost: list[Record] = []
        self.claims_lost = 0
        self.claims_again = 0
        self.longest_beat_s = 0.0
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._events = 0
        self._seq = 0
        self._at_broker: list[Record] = []
        self._intake_free_at = 0.0
        # Of bridges that live; kept as sums because every estimate asks for them.
        self.living, self.gpus, self.busy_gpus = bridges, bridges * gpus_each, 0
        all_kinds = round(bridges * films_at)
        self.bridges = [
            Bridge(self, number, gpus_each, kinds if number < all_kinds else kinds[:-1])
            for number in range(bridges)
        ]
        self.intake: Bridge | None = self.bridges[0]
        for bridge in self.bridges:
            self.after(LEASE_S / BEATS * self.chance.random(), bridge.beat)
            self.after(COMPARE_S * self.chance.random(), bridge.compare)

    def at(self, when: float, do: Callable[[], None]) -> None:
        self._events += 1
        heapq.heappush(self._heap, (when, self._events, do))

    def after(self, seconds: float, do: Callable[[], None]) -> None:
        self.at(self.now + seconds, do)

    def run(self, until: float) -> None:
        """Advance the time until then."""
        while self._heap and self._heap[0][0] <= until:
            self.now, _, do = heapq.heappop(self._heap)
            do()

    # -- requests --

    @property
    def unended(self) -> int:
        """The number of jobs that were asked for and have not ended."""
        return self._seq - sum(each.ended is not None for each in self.records.values())

    def ask(self, client: str, at: float | None = None, kind: Kind | None = None) -> None:
        """Let a client ask for a job, of any kind, at a time, or now."""
        if kind is None:
            (kind,) = self.chance.choices(self.kinds, [each.share for each in self.kinds])
        at = self.now if at is None else at
        self._seq += 1
        job = Job(
            key=Key(client, f"j{self._seq}"),
            workflow=kind.name,
            workflow_version="1",
            state="queued",
            prompt_id=f"p{self._seq}",
            needs=kind.needs,
            envelope=Envelope(),
        )
        record = Record(job, kind, at)
        self.at(at, lambda: self._arrive(record))

    def _arrive(self, record: Record) -> None:
        if self.intake is None or self.intake.dead:
            self._at_broker.append(record)
            return
        # One after the other: a bridge has one core.
        self._intake_free_at = max(self.now, self._intake_free_at) + REQUEST_S
        self.at(self._intake_free_at, lambda: self._accept(record))

    def _accept(self, record: Record) -> None:
        if self.intake is None or self.intake.dead:
            self._at_broker.append(record)  # it was not acknowledged
            return
        record.job.seq = len(self.records) + 1
        self.records[record.job.key] = record
        self.intake.write("Accept", record)

    def deliver_again(self, works: Sequence[tuple[str, Record]]) -> None:
        """Put the requests that a dead bridge has not acknowledged back to the broker."""
        self._at_broker += [record for what, record in works if what == "Accept"]

    def began(self, record: Record) -> None:
        """Count a start of a job."""
        if not record.starts:
            record.before_started = self.started
        record.starts.append(self.now)
        self.started += 1

    # -- between bridges --

    def notify(self, sender: Bridge, what: str, key: Key) -> None:
        def deliver() -> None:
            for each in self.bridges:
                if each is not sender and not each.dead:
                    each.noticed(what, key)

        if self.living > 1:
            self.at(self.database.notify(self.now, self.living - 1), deliver)

    def takes_intake(self, bridge: Bridge) -> bool:
        """Return whether a bridge has the intake: it takes it once the holder's lease is over."""
        if self.intake is None or self._is_over(self.intake):
            self.intake = bridge
            waiting, self._at_broker = self._at_broker, []
            for record in waiting:
                self._arrive(record)
        return self.intake is bridge

    def _is_over(self, bridge: Bridge) -> bool:
        return bridge.dead and bridge.beat_at + LEASE_S < self.now

    def orphans(self) -> list[Record]:
        """Return the jobs of bridges whose lease is over."""
        return [
            record
            for record in self.owned.values()
            if record.owner is not None and self._is_over(record.owner)
        ]

    def kill(self, count: int) -> None:
        """Kill so many bridges, the first with the intake; `lost` are the jobs that they had."""
        gone = [self.bridges[each] for each in range(count)]
        for bridge in gone:
            bridge.dead = True
            self.living -= 1
            self.gpus -= len(bridge.gpus)
            self.busy_gpus -= bridge.busy_gpus
            self.deliver_again(bridge.works)
        self.lost = [record for record in self.owned.values() if record.owner in gone]
