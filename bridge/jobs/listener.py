"""The interface through which adapters receive events of jobs."""

from __future__ import annotations

from typing import Protocol

from bridge.contract.messages import JobStatus, OutputInfo, Progress
from bridge.jobs.job import Envelope, Job
from bridge.jobs.queue import Key


class Listener(Protocol):
    """Receives events of jobs. Calls return at once; messages leave in the order of the calls."""

    def status(self, job: Job, status: JobStatus) -> None:
        """A job changed its state."""

    def progress(self, job: Job, progress: Progress) -> None:
        """A running job made progress; may be dropped."""

    def preview(self, job: Job, content_type: str, data: bytes | memoryview) -> None:
        """A picture of the work so far; may be dropped."""

    def output(self, job: Job, info: OutputInfo, data: bytes | memoryview) -> str | None:
        """An output is there. Returns the topic that it is published on, None if it is not."""

    def result(self, key: Key, envelope: Envelope, result: bytes) -> None:
        """A job has ended; these are the bytes to publish."""


def as_one(*listeners: Listener) -> Listener:
    """Return listeners as one, which calls them in their order."""
    return listeners[0] if len(listeners) == 1 else _Listeners(*listeners)


class _Listeners:
    def __init__(self, *listeners: Listener) -> None:
        self._listeners = listeners

    def status(self, job: Job, status: JobStatus) -> None:
        """A job changed its state."""
        for each in self._listeners:
            each.status(job, status)

    def progress(self, job: Job, progress: Progress) -> None:
        """A running job made progress."""
        for each in self._listeners:
            each.progress(job, progress)

    def preview(self, job: Job, content_type: str, data: bytes | memoryview) -> None:
        """A picture of the work so far."""
        for each in self._listeners:
            each.preview(job, content_type, data)

    def output(self, job: Job, info: OutputInfo, data: bytes | memoryview) -> str | None:
        """An output is there. Returns the first topic that it is published on."""
        topics = [each.output(job, info, data) for each in self._listeners]
        return next((topic for topic in topics if topic is not None), None)

    def result(self, key: Key, envelope: Envelope, result: bytes) -> None:
        """A job has ended."""
        for each in self._listeners:
            each.result(key, envelope, result)
