"""Updates of Home Assistant's jobs between the bridges of a group.

The bridge that takes requests shows all of them, whichever bridge runs them. So each bridge
publishes what happens to a job, and the one that takes requests subscribes to that by the session
that moves from bridge to bridge: what nobody has taken yet waits at the broker.
"""

from __future__ import annotations

import logging
from collections import OrderedDict, defaultdict
from collections.abc import Awaitable, Callable

import msgspec
from msgspec import UNSET, Struct, UnsetType

from bridge.adapters.homeassistant.device_state import ACTIVE, DeviceState
from bridge.adapters.mqtt.publisher import Publisher
from bridge.contract.errors import UnknownJob
from bridge.contract.messages import JobStatus, OutputInfo, Progress, Result, encode, or_none
from bridge.contract.reading import UNREADABLE
from bridge.contract.topics import HomeAssistantTopics
from bridge.jobs.durable import until_on_disk
from bridge.jobs.job import Envelope, Job
from bridge.jobs.journal import Journal, Record
from bridge.jobs.listener import Listener
from bridge.jobs.queue import Key

log = logging.getLogger(__name__)

CLIENT = "homeassistant"
# Of so many ended jobs it is remembered that they were shown.
_SHOWN = 1000
# More jobs of one client than ever wait.
_MOST = 100_000


class JobUpdate(Struct, frozen=True, omit_defaults=True):
    """A change of a job; of one that has `ended` the journal has the result."""

    status: JobStatus | UnsetType = UNSET
    progress: Progress | UnsetType = UNSET
    ended: bool = False


_decode = msgspec.json.Decoder(JobUpdate).decode
_decode_result = msgspec.json.Decoder(Result).decode


def read_job_update(payload: bytes) -> JobUpdate | None:
    """Read an update; None for what is none."""
    try:
        return _decode(payload)
    except UNREADABLE:
        return None


def read_result(encoded: bytes | None) -> Result | None:
    """Read a job's result; None where the journal has none, or what it has cannot be read."""
    try:
        return None if encoded is None else _decode_result(encoded)
    except UNREADABLE as error:
        log.warning("a result in the journal cannot be read, it is not shown: %s", error)
        return None


class JobUpdatePublisher:
    """Publishes what happens to Home Assistant's jobs here; a `jobs.listener.Listener`."""

    def __init__(self, publisher: Publisher, tree: HomeAssistantTopics, previews: Listener) -> None:
        """`previews` shows previews at once: they depend on nothing else."""
        self._publisher = publisher
        self._tree = tree
        self._previews = previews

    def status(self, job: Job, status: JobStatus) -> None:
        """Publish a job's state."""
        self._publish(job.key, job.workflow, JobUpdate(status=status))

    def progress(self, job: Job, progress: Progress) -> None:
        """Publish how far a job is; it may get lost."""
        if job.key.client == CLIENT:
            topic = self._tree.job(job.workflow, job.key.job_id)
            update = encode(JobUpdate(progress=progress))
            self._publisher.transient(topic, update, "application/json")

    def preview(self, job: Job, content_type: str, data: bytes | memoryview) -> None:
        """Show a preview."""
        self._previews.preview(job, content_type, data)

    def output(self, job: Job, info: OutputInfo, data: bytes | memoryview) -> str | None:
        """Leave outputs to their result."""

    def result(self, key: Key, _envelope: Envelope, result: bytes) -> None:
        """Publish that a job has ended."""
        found = read_result(result) if key.client == CLIENT else None
        if found is not None:
            self._publish(key, found.workflow, JobUpdate(ended=True))

    def _publish(self, key: Key, workflow: str, update: JobUpdate) -> None:
        if key.client == CLIENT:
            self._publisher.publish(self._tree.job(workflow, key.job_id), update)


class JobUpdateFilter:
    """Finds the updates that are late or came before: several bridges send them.

    A job's end is remembered for the last `_SHOWN` jobs that ended.
    """

    def __init__(self) -> None:
        self._latest: dict[str, int] = {}
        self._ended: OrderedDict[str, None] = OrderedDict()

    def __len__(self) -> int:
        """Return how many jobs there are whose end has not come."""
        return len(self._latest)

    def is_newer(self, job_id: str, n: int) -> bool:
        """Note a job's state of number `n`; False if a later state or the end came before it."""
        if job_id in self._ended or n < self._latest.get(job_id, 0):
            return False
        self._latest[job_id] = n
        return True

    def is_running(self, job_id: str) -> bool:
        """True if a job's end has not come."""
        return job_id not in self._ended

    def forget(self, job_id: str) -> None:
        """Forget a job whose end will not come."""
        self._latest.pop(job_id, None)

    def ends(self, job_id: str) -> bool:
        """Note a job's end; False if it came before."""
        self._latest.pop(job_id, None)
        if job_id in self._ended:
            return False
        self._ended[job_id] = None
        if len(self._ended) > _SHOWN:
            self._ended.popitem(last=False)
        return True


class GroupJobs:
    """The jobs of all bridges of a group, as the one that takes requests knows them."""

    def __init__(
        self,
        journal: Journal,
        states: defaultdict[str, DeviceState],
        *,
        show: Callable[[str], None],
        show_result: Callable[[Result], Awaitable[None]],
    ) -> None:
        """`states` are those of the workflows' devices, by name.

        `show` publishes one of them, `show_result` how a job ended.
        """
        self._journal = journal
        self._states = states
        self._show = show
        self._show_result = show_result
        self._updates = JobUpdateFilter()

    async def take(self, name: str, job_id: str, payload: bytes) -> None:
        """Take a bridge's update of a job of a workflow."""
        update = read_job_update(payload)
        if update is None:
            return
        if update.ended:
            await self.ended(job_id)
            return
        state = self._states[name]
        if update.status is not UNSET and self._updates.is_newer(job_id, update.status.n):
            state.status(update.status)
        elif update.progress is not UNSET and self._updates.is_running(job_id):
            state.progress(update.progress)
        self._show(name)

    async def ended(self, job_id: str) -> None:
        """Show how a job ended, once, if it has ended."""
        try:
            record = await until_on_disk(lambda: self._journal.get(Key(CLIENT, job_id)))
        except UnknownJob:
            return
        if record.ended and self._updates.ends(job_id):
            result = self._note_end(record)
            if result is None:
                self._show(record.job.workflow)
            else:
                await self._show_result(result)

    async def recall(self) -> list[str]:
        """Know what the bridge that took the requests before knew. Raises DatabaseError.

        Returns the jobs of whose ends a bridge that died may not have published an update.
        """
        ended = await self._journal.last_ended(CLIENT)
        active = await self._journal.page(CLIENT, after=0, limit=_MOST, states=ACTIVE)
        orphans = await self._journal.unpublished(self._journal.clock.now(), orphans=True)
        before = {
            job_id: state for each in self._states.values() for job_id, state in each.jobs.items()
        }
        self._states.clear()
        for record in ended:
            self._note_end(record)
        for record in active:
            job, job_id = record.job, record.job.key.job_id
            if self._updates.is_running(job_id):
                # Updates may have come meanwhile.
                newer = self._updates.is_newer(job_id, record.n)
                known = None if newer else before.get(job_id)
                self._states[job.workflow].add(job_id, known or job.state)
        for job_id in before.keys() - {record.job.key.job_id for record in active}:
            self._updates.forget(job_id)
        return [
            each.key.job_id for each in orphans if each.key.client == CLIENT and not each.of_set
        ]

    async def find_ended(self) -> None:
        """Find jobs that have ended without an update. Raises DatabaseError."""
        jobs = [job_id for state in self._states.values() for job_id in state.jobs]
        there = await self._journal.records([Key(CLIENT, job_id) for job_id in jobs])
        for record in there:
            if record.ended:
                await self.ended(record.job.key.job_id)
        for gone in set(jobs) - {record.job.key.job_id for record in there}:
            self._updates.forget(gone)
            for name, state in self._states.items():
                state.forget(gone)
                self._show(name)

    def _note_end(self, record: Record) -> Result | None:
        """Take a job's outcome; returns its result, None if that is kept no longer."""
        job, result = record.job, read_result(record.result)
        error = None if result is None else or_none(result.error)
        message = None if error is None else error.message
        self._states[job.workflow].ended(job.key.job_id, job.state, message)
        return result
