"""Updates of Home Assistant's jobs between the bridges of a group.

The bridge that takes requests shows all of them, whichever bridge runs them. So each bridge
publishes what happens to a job, and the one that takes requests subscribes to that by the session
that moves from bridge to bridge: what nobody has taken yet waits at the broker.
"""

from __future__ import annotations

from collections import OrderedDict

import msgspec
from msgspec import UNSET, Struct, UnsetType

from bridge.adapters.mqtt.publisher import Publisher
from bridge.contract.messages import JobStatus, OutputInfo, Progress, Result, encode
from bridge.contract.reading import UNREADABLE
from bridge.contract.topics import HomeAssistantTopics
from bridge.jobs.job import Envelope, Job
from bridge.jobs.listener import Listener
from bridge.jobs.queue import Key

CLIENT = "homeassistant"
# Of so many ended jobs it is remembered that they were shown.
_SHOWN = 1000


class JobUpdate(Struct, frozen=True, omit_defaults=True):
    """A change of a job; of one that has `ended` the journal has the result."""

    status: JobStatus | UnsetType = UNSET
    progress: Progress | UnsetType = UNSET
    ended: bool = False


_decode = msgspec.json.Decoder(JobUpdate).decode


def read_job_update(payload: bytes) -> JobUpdate | None:
    """Read an update; None for what is none."""
    try:
        return _decode(payload)
    except UNREADABLE:
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
        if key.client == CLIENT:
            workflow = msgspec.json.decode(result, type=Result).workflow
            self._publish(key, workflow, JobUpdate(ended=True))

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

    def is_newer(self, job_id: str, n: int) -> bool:
        """Note a job's state of number `n`; False if a later state or the end came before it."""
        if job_id in self._ended or n < self._latest.get(job_id, 0):
            return False
        self._latest[job_id] = n
        return True

    def is_running(self, job_id: str) -> bool:
        """True if a job's end has not come."""
        return job_id not in self._ended

    def ends(self, job_id: str) -> bool:
        """Note a job's end; False if it came before."""
        self._latest.pop(job_id, None)
        if job_id in self._ended:
            return False
        self._ended[job_id] = None
        if len(self._ended) > _SHOWN:
            self._ended.popitem(last=False)
        return True
