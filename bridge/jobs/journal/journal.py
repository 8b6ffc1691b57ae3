"""The journal's class: all jobs, on disk.

A job is accepted when its row is on disk, and has ended when its result is in that row; both
happen once, whatever dies in between. The journal knows nothing of MQTT or ComfyUI. Times are
arguments, in seconds by its `clock`.

Each method hands one function of a transaction to the database, whose thread runs them in the order
of the calls. Cancelling an await does not undo the call: it is written nevertheless.
All methods that return after a write raise DatabaseError where it could not be done, and Fenced
where the other bridges took this one for dead.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from itertools import chain, islice, repeat
from pathlib import Path
from typing import Any, TypeVar, get_args

import msgspec

from bridge.aio import succeeded
from bridge.contract.errors import UnknownJob
from bridge.contract.messages import State
from bridge.contract.numbering import Numbered
from bridge.jobs import state as transitions
from bridge.jobs.backlog import Backlog
from bridge.jobs.clock import Clock, Reading
from bridge.jobs.database import (
    ALL_SENT,
    SENT,
    SURE,
    Database,
    Stepped,
    Steps,
    Transaction,
    Work,
)
from bridge.jobs.job import Draft, Job, KeptOutput, Plan
from bridge.jobs.journal import (
    acceptance,
    backlog,
    membership,
    publication,
    queries,
    rows,
    sets,
    touched,
    webhooks,
)
from bridge.jobs.journal.kept import Kept
from bridge.jobs.journal.membership import Beat
from bridge.jobs.journal.offers import Offers
from bridge.jobs.journal.rows import Acceptance, KeptUpload, Record, Stored, Unpublished
from bridge.jobs.journal.schema import ADDED, SCHEMA
from bridge.jobs.journal.sequence import (
    ClientNumbers,
    Draw,
    drawn,
    forget_clients,
    go_on_above,
    number,
)
from bridge.jobs.journal.sets import Numbers, Sets
from bridge.jobs.journal.webhooks import NewHooks, Webhooks
from bridge.jobs.presence import Gone
from bridge.jobs.queue import Key
from bridge.jobs.state import Happening

log = logging.getLogger(__name__)

T = TypeVar("T")

# Where bridges of a group notify each other of what has changed.
CHANNEL = "comfy2mqtt"
# By this notice the others are asked to look which nodes their ComfyUIs have.
ASK_NODES = "nodes"

# How long what the broker has acknowledged is gathered before it is written down.
NOTE_S = 1.0
# Among several bridges an ack counts only what is known to be published.
NOTE_SHARED_S = 0.05
# A job that is over in less is not worth the write that it has started.
MARK_AFTER_S = 0.1

(_WAITING,) = transitions.before(Happening.RELEASE)
(_RUNNING,) = transitions.before(Happening.REQUEUE)
_RELEASED = transitions.after(_WAITING, Happening.RELEASE)
_REQUEUED = transitions.after(_RUNNING, Happening.REQUEUE)

_encode = msgspec.json.Encoder().encode
_decode_plan = msgspec.json.Decoder(Plan).decode
_decode_reading = msgspec.json.Decoder(Reading).decode


class AlreadyEnded(RuntimeError):
    """A job was to be given a second outcome."""


class Notice(StrEnum):
    """A notice between bridges about a job."""

    LOOK = "?"
    TAKEN = "-"
    ENDED = "."


class Journal:
    """All jobs, on disk. For one bridge alone every job is its own."""

    def __init__(self, where: Path | str, clock: Clock | None = None) -> None:
        """`where` is a file of SQLite's, or the address of a PostgreSQL database."""
        self._database = Database(where, SCHEMA)
        self.clock = clock or Clock()
        self.jumped_s = 0.0
        """By how much the wall clock was set while nobody had the journal open."""
        # Where there is PostgreSQL there may be other bridges.
        self.shared = isinstance(where, str)
        # Of several bridges, what names this one since its start.
        self._life: str | None = None
        self._last_beat: membership.Times | None = None
        # Of several bridges each counts in the database.
        self._numbers: ClientNumbers | None = None
        self._published: list[Key] = []
        self._estimates: dict[str, float] = {}
        # Whether there may be other bridges that want to know what happens to jobs.
        self._heard = self.shared
        numbers = Numbers(self._draw, self._written, self._notify_of, lambda: self._owner)
        self.sets = Sets(self._database, numbers)
        self.webhooks = Webhooks(self._database)
        self.kept = Kept(self._database)
        self.offers = Offers(self._database)
        self.sets.on_hooks = self.webhooks.new

    async def open(self) -> None:
        """Open or create it. Raises DatabaseError."""
        await self._database.open()
        await self._database.run(_add_tables)
        self.jumped_s = self.clock.resume(*await self._read(_noted_time))
        if not self.shared:
            self._numbers = ClientNumbers(await self._rows(queries.ALL_RESERVED))

    async def close(self) -> None:
        """Write what was handed over, and close."""
        self._note_published()
        self._note_estimates()
        if self._numbers is not None:  # several bridges have noted it within a minute
            noted = self._note_time()
            noted.add_done_callback(succeeded)
        await self._database.close()

    @property
    def commits(self) -> int:
        """The number of transactions that reached the disk."""
        return self._database.commits

    @property
    def round_trips(self) -> int:
        """The number of waits for a server."""
        return self._database.round_trips

    # Notes.

    async def note_time(self) -> None:
        """Note how far the journal's time is: it continues there when it is opened again."""
        await self._note_time()

    def _note_time(self) -> asyncio.Future[None]:
        reading = self.clock.read()

        def work(db: Transaction) -> None:
            before = _noted(db, "clock")
            if before is None or _decode_reading(before).at < reading.at:
                _note(db, "clock", _encode(reading).decode())

        return self._database.run(work)

    async def session(self, *, present: bool) -> str:
        """Return the name of the MQTT session that the broker keeps for us.

        A new one is made unless the broker said that it has the old: packet ids mean something
        only within one session.
        """

        def work(db: Transaction) -> str:
            known = _noted(db, "session")
            if present and known is not None:
                return known
            name = uuid.uuid4().hex
            _note(db, "session", name)
            return name

        return await self._database.run(work)

    async def pause(self, *, paused: bool) -> None:
        """Note whether jobs are to be started."""

        def work(db: Transaction) -> None:
            _note(db, "paused", str(int(paused)))
            self._notify(db)

        await self._database.run(work)

    async def paused(self) -> bool:
        """True if nothing is to be started."""
        return await self._read(lambda db: _noted(db, "paused")) == "1"

    async def mark_restored(self) -> None:
        """Note that this is a backup: what has not ended in it is lost.

        Numbers continue far above those of the backup: clients have seen some that came after it.
        """

        def work(db: Transaction) -> None:
            go_on_above(db)
            db.execute(queries.CANCEL_ALL_SETS)
            _note(db, "restored", "1")

        await self._database.run(work)

    async def restored(self) -> bool:
        """True if this is a backup that was put in place and not used yet."""
        return await self._read(lambda db: _noted(db, "restored")) == "1"

    async def taken_up(self) -> None:
        """Note that what a backup lost was reported."""
        await self._database.run(lambda db: _note(db, "restored", "0"))

    # A job's life.

    async def accept(self, draft: Draft, now: float) -> Acceptance:
        """Write a job down, unless its id, or its MQTT delivery, is known already."""
        new = acceptance.Encoded(draft, now)
        draw = self._draw(draft.key.client)

        def work(db: Transaction) -> Steps[Acceptance]:
            n = drawn(db, draw)
            known = yield from acceptance.known(db, draft)
            if known is not None:
                return Acceptance(known, new=False)
            record = acceptance.insert(db, new, n())
            self._notify_of(db, draft.key)
            yield ALL_SENT
            return Acceptance(record(), new=True)

        accepted = await self._database.run_stepped(work, touched.draft(draft))
        if accepted.new:
            self._written(draw)
        return accepted

    async def released(self, job: Job, plan: Plan, media: Mapping[str, bytes]) -> int:
        """Note that all that a job waited for is here: its plan, complete, and the bytes.

        Returns the number of that. Raises AlreadyEnded where it waits no longer.
        """
        encoded = _encode(plan)
        draw = self._draw(job.key.client)

        def work(db: Transaction) -> int:
            n = number(db, draw)
            values = (_RELEASED, encoded, n, *job.key, _WAITING, self._life)
            if db.execute(queries.RELEASE_JOB, values).rowcount != 1:
                raise AlreadyEnded(f"job {job.key.job_id} of {job.key.client} waits no longer")
            acceptance.keep_media(db, job.key, plan, media)
            self._notify_of(db, job.key)
            return n

        blobs = (blob.sha256 for blob in plan.blobs)
        n = await self._database.run(work, touched.client(job.key.client, blobs))
        self._written(draw)
        return n

    def started(self, job: Job) -> asyncio.Future[int]:
        """Note that a job was given to a ComfyUI; the future gives the number, in its turn.

        Who awaits it, or adds a callback to it, at once continues in the order of the numbers. It
        raises DatabaseError where the number could not be had: then nothing is to be published.

        Whether ComfyUI has a job is asked of ComfyUI. The mark bounds the attempts of a job that
        takes everything down with it; for one that is over in an instant it is not worth a write,
        unless other bridges want to know.
        """
        draw, prompt_id = self._draw(job.key.client), job.prompt_id
        if draw.n is None or draw.reserve is not None:
            return self._mark_started(job, draw)

        def mark() -> None:
            if job.state == _RUNNING and job.prompt_id == prompt_id:
                self._mark_started(job, draw).add_done_callback(_log_failure)

        asyncio.get_running_loop().call_later(MARK_AFTER_S, mark)
        return self._database.in_turn(draw.n)

    def _mark_started(self, job: Job, draw: Draw) -> asyncio.Future[int]:
        values = (_RUNNING, job.attempt, job.instance, job.prompt_id)

        def work(db: Transaction) -> Steps[int]:
            counted = drawn(db, draw)
            yield SENT
            n = counted()
            db.execute(queries.START_JOB, (*values, n, *job.key))
            yield SURE
            return n

        return self._drawn(draw, work)

    def status_number(self, job: Job) -> asyncio.Future[int]:
        """Draw a number for a status that changes nothing; see `started` for the future."""
        draw = self._draw(job.key.client)
        if draw.n is None or draw.reserve is not None:
            return self._drawn(draw, lambda db: _number(db, draw))
        return self._database.in_turn(draw.n)

    async def requeued(self, job: Job) -> int:
        """Note that a job returns to the queue, under a new prompt id; returns the number."""
        draw = self._draw(job.key.client)
        values = (_REQUEUED, job.attempt, job.prompt_id)

        def work(db: Transaction) -> int:
            n = number(db, draw)
            db.execute(queries.REQUEUE_JOB, (*values, n, *job.key))
            self._notify_of(db, job.key)
            return n

        n = await self._database.run(work, touched.client(job.key.client))
        self._written(draw)
        return n

    async def finish(
        self,
        key: Key,
        *,
        state: State,
        result: Numbered,
        now: float,
        outputs: Iterable[KeptOutput] = (),
        keep_until: float = 0.0,
        estimate: tuple[str, float] | None = None,
        hooks: NewHooks | None = None,
    ) -> bytes:
        """Write a job's outcome, with its outputs, in one transaction; returns the result.

        `result` is the message without its number; `estimate` is a workflow, and how many seconds
        its next run is expected to take; `hooks` are who is to be sent the result.

        Raises AlreadyEnded where there is one: the first outcome stands.
        """
        if not transitions.is_outcome(state):
            raise ValueError(f"{state!r} is no outcome")
        draw, outputs = self._draw(key.client), list(outputs)

        def work(db: Transaction) -> Steps[bytes]:
            counted = drawn(db, draw)
            yield SENT
            n = counted()
            encoded = result.with_n(n)
            values = (state, n, encoded, now, self._life, *key, self._life)
            finished = db.execute(queries.FINISH_JOB, values)
            for output in outputs:
                sets.keep_output(db, key, output, keep_until)
            db.execute(queries.DROP_MEDIA, key)
            if hooks is not None:
                hooks.write(db, encoded)
            yield ALL_SENT
            if finished.rowcount != 1:
                raise AlreadyEnded(f"job {key.job_id} of {key.client} has an outcome")
            self._notify_of(db, key, Notice.ENDED)
            return encoded

        encoded = await self._database.run_stepped(work, touched.outputs(key.client, outputs))
        self._written(draw)
        if estimate is not None:
            self._estimate(*estimate)
        if hooks is not None:
            self.webhooks.new()
        return encoded

    async def keep_undelivered(
        self, key: Key, undelivered: bytes, outputs: Sequence[KeptOutput]
    ) -> None:
        """Keep what a job gave until its sinks have it: its outputs, and `undelivered` about them.

        The bytes stay for as long as the job has no outcome, whatever the sweep does.
        """

        def work(db: Transaction) -> None:
            for output in outputs:
                db.execute(queries.KEEP_BLOB, (output.sha256, output.size, output.data))
                db.execute(queries.KEEP_MEDIA, (*key, output.sha256))
            db.execute(queries.KEEP_UNDELIVERED, (undelivered, *key))

        await self._database.run(work, touched.outputs(key.client, outputs))

    async def undelivered(self, key: Key) -> bytes | None:
        """Return what was kept of a job whose sinks have yet to have it; None if nothing was."""
        row = await self._row(queries.UNDELIVERED, key)
        found: bytes | None = None if row is None else row[0]
        return found

    async def estimates(self) -> dict[str, float]:
        """The seconds that a run of each workflow is expected to take."""
        return dict(await self._rows(queries.ESTIMATES)) | self._estimates

    def _estimate(self, workflow: str, run_s: float) -> None:
        """Have an estimate noted, not at once: many jobs of one workflow share a write."""
        if not self._estimates:
            asyncio.get_running_loop().call_later(NOTE_S, self._note_estimates)
        self._estimates[workflow] = run_s

    def _note_estimates(self) -> None:
        estimates, self._estimates = self._estimates, {}

        def work(db: Transaction) -> None:
            for estimate in estimates.items():
                db.execute(queries.SET_ESTIMATE, estimate)

        if estimates:
            noted = self._database.run(work, touched.workflows(estimates))
            noted.add_done_callback(succeeded)

    # Results.

    def published(self, key: Key) -> None:
        """Note that the broker has a job's result.

        Not at once: to forget it would only mean that the same result is published once more.
        """
        self._published.append(key)
        if len(self._published) == 1:
            asyncio.get_running_loop().call_later(
                NOTE_SHARED_S if self.shared else NOTE_S, self._note_published
            )

    def _note_published(self) -> None:
        keys, self._published = self._published, []
        if keys:
            noted = self._database.run_stepped(
                lambda db: publication.note_published(db, keys, self._owner),
                touched.clients(key.client for key in keys),
            )
            noted.add_done_callback(self._raise_overtaken)

    def _raise_overtaken(self, noted: asyncio.Future[list[Key]]) -> None:
        if not succeeded(noted):
            return  # they count as not published
        overtaken = noted.result()
        if overtaken:
            raised = self._renumber(overtaken, published=True)
            raised.add_done_callback(succeeded)

    def passed_over(self, key: Key) -> None:
        """Note that the broker did not take a job's result, while it takes others'."""
        noted = self._database.run(
            lambda db: publication.pass_over(db, key), touched.client(key.client)
        )
        noted.add_done_callback(succeeded)

    def _renumber(self, keys: Sequence[Key], *, published: bool) -> asyncio.Future[None]:
        draws = [(key, self._draw(key.client)) for key in keys]
        raised = self._database.run(
            lambda db: publication.renumber(db, draws, published=published),
            touched.clients(key.client for key in keys),
        )

        def written(done: asyncio.Future[None]) -> None:
            if succeeded(done):
                for _, draw in draws:
                    self._written(draw)

        raised.add_done_callback(written)
        return raised

    async def unpublished(self, since: float, *, orphans: bool = False) -> list[Unpublished]:
        """Results to publish again, of jobs and of sets, in the order of `n`.

        Those that the broker may not have, and those that ended after `since` and that no client
        acked: a broker that dies loses what it has acknowledged. Of several bridges each has its
        own, or with `orphans` those of bridges that are no more.
        """
        if orphans:
            found = await self._rows(queries.UNPUBLISHED_OF_THE_DEAD, (since, since))
        else:
            found = await self._rows(queries.UNPUBLISHED, (since, self._owner) * 2)
        return [rows.unpublished(row) for row in found]

    async def ack(self, client: str, up_to: int) -> int:
        """Note that a client has every result up to a number; how many were new.

        What it cannot have been sent yet is not meant (`publication`).
        """
        self._note_published()

        def work(db: Transaction) -> int:
            jobs = publication.ack(db, client, up_to, self._owner)
            return jobs + sets.ack(db, client, up_to)

        return await self._database.run(work, touched.client(client))

    async def resume(self, client: str, after: int, limit: int) -> None:
        """Ack what a client has, which asks for what comes after a number.

        Up to `limit` results that the broker did not take get numbers above that.
        """
        self._note_published()

        def work(db: Transaction) -> list[Key]:
            publication.ack(db, client, after, self._owner)
            sets.ack(db, client, after)
            return publication.passed_over(db, client, after, limit)

        missed = await self._database.run(work, touched.client(client))
        if missed:
            await self._renumber(missed, published=False)

    async def forget(self, key: Key) -> bool:
        """Delete an ended job's result, outputs and plan; False if they are gone already."""

        def work(db: Transaction) -> bool:
            found = db.execute(queries.FORGET_RESULT, key).rowcount == 1
            db.execute(queries.DROP_OUTPUTS, key)
            webhooks.forget(db, key)
            return found

        return await self._database.run(work, touched.client(key.client))

    # Jobs as they stand.

    async def unfinished(self) -> list[Job]:
        """Every job without an outcome that this bridge has, in the order of acceptance."""
        return [record.job for record in await self._records(queries.UNFINISHED, (self._owner,))]

    async def claimed_by_others(self) -> list[Job]:
        """Every job without an outcome that another bridge of the group has."""
        found = await self._records(queries.CLAIMED_BY_OTHERS, (self._owner,))
        return [record.job for record in found]

    async def backlog(self) -> Backlog:
        """Return the work that has not ended, whichever bridge of the group has it."""
        return await self._read(lambda db: backlog.read(db, shared=self.shared))

    async def plan(self, key: Key) -> Plan:
        """Return the plan to run a job by; kept as long as its result. Raises UnknownJob."""
        row = await self._row(queries.PLAN, key)
        if row is None or row[0] is None:
            raise UnknownJob(f"the plan of job {key.job_id!r} is not kept", job_id=key.job_id)
        return _decode_plan(row[0])

    async def get(self, key: Key) -> Record:
        """A client's job. Raises UnknownJob."""
        record = await self._read(lambda db: acceptance.find(db, queries.JOB, key))
        if record is None:
            raise UnknownJob(f"no job {key.job_id!r}", job_id=key.job_id)
        return record

    async def clients(self, limit: int = 10_000) -> list[str]:
        """Return the names of clients that have jobs here, up to `limit`."""
        return [client for (client,) in await self._rows(queries.CLIENTS, (limit,))]

    async def page(
        self,
        client: str,
        *,
        after: int,
        limit: int,
        states: Iterable[State] | None = None,
        workflow: str | None = None,
        set_id: str | None = None,
    ) -> list[Record]:
        """A client's jobs, or a set's, whose latest number is above `after`, in that order."""
        wanted = _any_of(get_args(State) if states is None else states)
        values = (client, after, *wanted, workflow, set_id, limit)
        return await self._records(queries.PAGE, values)

    async def last_ended(self, client: str) -> list[Record]:
        """The last job of each workflow that ended, of a client."""
        return await self._records(queries.LAST_ENDED, (client, client))

    # Bytes. Small ones lie in the journal itself, large ones are `Files` of that name.

    async def keep(self, key: Key, keep_until: float) -> int:
        """Keep a job's outputs until then; returns how many there are."""
        return await self._database.run(
            lambda db: db.execute(queries.KEEP_OUTPUTS, (keep_until, *key)).rowcount,
            touched.client(key.client),
        )

    async def output(self, key: Key, index: int) -> Stored | None:
        """Return the place of the bytes of a job's output, if they are kept."""
        row = await self._row(queries.OUTPUT, (*key, index))
        return None if row is None else Stored(*row)

    async def keep_upload(
        self, client: str, upload: str, kept: KeptUpload, keep_until: float
    ) -> None:
        """Note an upload that is complete; one of the same name before it is replaced."""
        described = (kept.kind, kept.content_type, kept.extension, kept.sha256)

        def work(db: Transaction) -> None:
            db.execute(queries.KEEP_BLOB, (kept.sha256, kept.size, kept.data))
            db.execute(queries.KEEP_UPLOAD, (client, upload, *described, keep_until))

        await self._database.run(work, touched.client(client, (kept.sha256,)))

    async def upload(self, client: str, upload: str) -> KeptUpload | None:
        """A client's upload, without its bytes, if it is complete and still kept."""
        row = await self._row(queries.UPLOAD, (client, upload))
        return None if row is None else KeptUpload(*row)

    async def uploaded(self, client: str) -> int:
        """Return the bytes of complete uploads that are kept for a client, rows included."""
        (size,) = await self._row(queries.UPLOADED, (client,))
        return int(size)

    async def blob(self, sha256: str) -> bytes | None:
        """A small blob's bytes; None where they are a file."""
        row = await self._row(queries.BLOB, (sha256,))
        return None if row is None else row[0]

    async def files(self) -> set[str]:
        """The hashes of all blobs that are files."""
        return {sha256 for (sha256,) in await self._rows(queries.FILES)}

    async def sweep(
        self,
        *,
        now: float,
        results_before: float,
        forget_before: float,
        max_outputs: int | None = None,
        max_outputs_of: Callable[[str], int] | None = None,
    ) -> None:
        """Delete what is kept no longer.

        Outputs go at their own time, results that ended before `results_before` then, and ids
        that ended before `forget_before` are forgotten; so are clients that have no job any more.

        `max_outputs` bounds all outputs together, `max_outputs_of` those of a client, in bytes: it
        is called here, in the event loop. Those of acked results go first.
        """
        over: list[tuple[str, str, int]] = []
        if max_outputs is not None:
            kept = await self._rows(queries.OUTPUTS_BY_WORTH, (now,))
            over = beyond_budgets(kept, max_outputs, max_outputs_of)

        def work(db: Transaction) -> list[tuple[str, int]]:
            db.execute(queries.SWEEP_OUTPUTS, (now,))
            db.execute(queries.SWEEP_UPLOADS, (now,))
            for place in over:
                db.execute(queries.DROP_OUTPUT, place)
            db.execute(queries.SWEEP_RESULTS, (results_before,))
            db.execute(queries.SWEEP_JOBS, (forget_before,))
            sets.sweep(db, results_before, forget_before)
            db.execute(queries.SWEEP_BLOBS)
            return forget_clients(db)

        forgotten = await self._database.run(work)
        if self._numbers is not None:
            self._numbers.forget(forgotten)

    # Several bridges.

    async def join(self, name: str, life: str, lease_s: float) -> float | None:
        """Become a member of the group: what this bridge does is its own from now on.

        Returns until when the lease of another member of that name runs, if it does: then this
        bridge is none. `life` is another one after each start, 32 hexadecimal digits. PostgreSQL
        alone has groups.
        """

        def work(db: Transaction) -> float | None:
            until = membership.join(db, name, life, lease_s)
            if until is None:
                db.notify(CHANNEL, f"{life}:")  # from now on somebody wants to know of jobs
            return until

        until = await self._database.run(work)
        if until is None:
            self.member(life)
        return until

    def member(self, life: str) -> None:
        """Be the member of that life from now on."""
        self._life = life
        self._database.guard(membership.guard(life))

    async def beat(self, lease_s: float, *, staying: bool, gone: Sequence[Gone] = ()) -> Beat:
        """Renew the lease, and see how the group is; one not `staying` takes no requests.

        `gone` are others that died, as far as was seen.
        """
        life, last, steady = self._owner, self._last_beat, time.monotonic()

        def work(db: Transaction) -> Beat:
            beat = membership.beat(
                db, life, lease_s, staying=staying, gone=gone, last=last, steady=steady
            )
            for record in beat.requeued:
                self._notify_of(db, record.job.key)
            return beat

        beat = await self._database.run(work)
        self._last_beat = membership.Times(beat.at, steady)
        self._heard = bool(beat.others)
        return beat

    async def holds_intake(self) -> bool:
        """True if this member takes the group's requests."""
        life = self._owner
        return await self._read(lambda db: membership.holds_intake(db, life))

    async def hand_over(self) -> bool:
        """Release the intake; returns whether another member is there to take it."""
        life = self._owner

        def work(db: Transaction) -> bool:
            others = membership.hand_over(db, life)
            self._notify(db)
            return others

        return await self._database.run(work)

    async def leave(self) -> None:
        """Be a member no longer; what this bridge still has, somebody else will run."""
        life = self._owner

        def work(db: Transaction) -> None:
            membership.leave(db, life)
            self._notify(db)

        await self._database.run(work)

    async def ask_nodes(self) -> None:
        """Ask the other bridges to look which nodes their ComfyUIs have."""
        await self._database.run(lambda db: self._notify(db, ASK_NODES), touched.OFFERS)

    async def claim(self, job: Job) -> bool:
        """Take a job before it is run or concluded; False if another bridge has it, or it ended.

        What another bridge may have changed of it is brought up to date.
        """
        if self._life is None:
            return True

        def work(db: Transaction) -> Steps[Any]:
            claimed = db.execute(queries.CLAIM, (self._life, *job.key, self._life))
            yield SURE
            row = claimed.fetchone()
            if row is not None:
                self._notify_of(db, job.key, Notice.TAKEN)
            return row

        row = await self._database.run_stepped(work, touched.client(job.key.client))
        if row is None:
            return False
        job.attempt, job.prompt_id = row
        return True

    async def seize(self, key: Key) -> Job | State | None:
        """Seize a job to cancel it: it is ours now, or whoever has it is notified to stop it.

        Returns the job in the one case, its state in the other, None if it is not there or ended.
        """
        if self._life is None:
            return None

        def work(db: Transaction) -> Job | State | None:
            found = acceptance.find(db, queries.JOB, key)
            if found is None or found.ended:
                return None
            if found.owner is None:
                db.execute(queries.SEIZE, (self._life, *key))
                self._notify_of(db, key, Notice.TAKEN)
                return found.job
            db.execute(queries.ASK_TO_CANCEL, key)
            self._notify_of(db, key)
            return found.job.state

        return await self._database.run(work, touched.client(key.client))

    async def standings(self, keys: Sequence[Key]) -> list[Record]:
        """Return the jobs' standing, of those that are there."""

        def work(db: Transaction) -> list[Record]:
            found = (acceptance.find(db, queries.JOB, key) for key in keys)
            return [record for record in found if record is not None]

        return await self._read(work)

    async def unowned(self, *, waiting: bool) -> set[Key]:
        """Every job that nobody has; those that wait for something only if asked for."""
        wanted = transitions.before(Happening.START)
        if waiting:
            wanted |= transitions.before(Happening.RELEASE)
        return {Key(*row) for row in await self._rows(queries.UNOWNED, _any_of(wanted))}

    async def to_cancel(self) -> set[Key]:
        """Every job that this bridge has and that another one was asked to cancel."""
        return {Key(*row) for row in await self._rows(queries.TO_CANCEL, (self._owner,))}

    # What the methods above are made of.

    def _notify(self, db: Transaction, word: str = "") -> None:
        """Notify the other bridges of something once this is committed."""
        db.notify(CHANNEL, f"{self._life}:{word}")

    def _notify_of(self, db: Transaction, key: Key, what: Notice = Notice.LOOK) -> None:
        """Notify the other bridges of what happened to a job once this is committed."""
        if self._heard:
            self._notify(db, f"{what}{key.client}/{key.job_id}")

    @property
    def _owner(self) -> str:
        """The owner of this bridge's jobs, as queries compare it; empty for a bridge alone."""
        return self._life or ""

    def _read(self, work: Work[T]) -> asyncio.Future[T]:
        return self._database.run(work, touched.NOTHING)

    def _rows(self, sql: str, values: Sequence[Any] = ()) -> asyncio.Future[list[Any]]:
        def work(db: Transaction) -> Steps[list[Any]]:
            found = db.execute(sql, values)
            yield SURE
            return list(found)

        return self._database.run_stepped(work, touched.NOTHING)

    async def _row(self, sql: str, values: Sequence[Any]) -> Any:
        found = await self._rows(sql, values)
        return found[0] if found else None

    async def _records(self, sql: str, values: Sequence[Any]) -> list[Record]:
        return [rows.read(row) for row in await self._rows(sql, values)]

    def _draw(self, client: str) -> Draw:
        """Draw a client's next number."""
        if self._numbers is None:
            return Draw(client, drawer=self._life)
        return self._numbers.draw(client)

    def _written(self, draw: Draw) -> None:
        """Note that the transaction that used a number is on disk."""
        if self._numbers is not None:
            self._numbers.written(draw)

    def _drawn(self, draw: Draw, work: Stepped[int]) -> asyncio.Future[int]:
        def written(done: asyncio.Future[int]) -> None:
            if succeeded(done):
                self._written(draw)

        future = self._database.run_stepped(work, touched.client(draw.client))
        future.add_done_callback(written)
        return future


def _any_of(wanted: Iterable[State]) -> list[str]:
    """Return parameters for `[any_states]`: as many as there are states, whichever are wanted."""
    return [*islice(chain(wanted, repeat("")), len(get_args(State)))]


def beyond_budgets(
    kept: Iterable[tuple[str, str, int, int]],
    budget: int,
    budget_of: Callable[[str], int] | None = None,
) -> list[tuple[str, str, int]]:
    """Return which outputs are beyond budgets of bytes: client, job id and index of each.

    They come with their sizes, those that are to stay longest first. Pure.
    """
    held = 0
    held_of: Counter[str] = Counter()
    over = []
    for client, job_id, index, size in kept:
        beyond = budget_of is not None and held_of[client] + size > budget_of(client)
        if beyond or held + size > budget:
            over.append((client, job_id, index))
        else:
            held += size
            held_of[client] += size
    return over


def _add_tables(db: Transaction) -> None:
    for statement in ADDED:
        db.execute(statement)


def _noted(db: Transaction, name: str) -> str | None:
    row = db.execute(queries.NOTED, (name,)).fetchone()
    return None if row is None else str(row[0])


def _noted_time(db: Transaction) -> tuple[Reading | None, float | None]:
    """Return the clock's last reading; of an older journal the newest time that it has."""
    reading = _noted(db, "clock")
    if reading is not None:
        return _decode_reading(reading), None
    (latest,) = db.execute(queries.LATEST_TIME).fetchone()
    return None, latest


def _note(db: Transaction, name: str, value: str) -> None:
    db.execute(queries.NOTE, (name, value))


def _number(db: Transaction, draw: Draw) -> Steps[int]:
    n = drawn(db, draw)
    yield SURE
    return n()


def _log_failure(done: asyncio.Future[int]) -> None:
    if not done.cancelled() and done.exception() is not None:
        log.error("cannot store the start of a job: %s", done.exception())
