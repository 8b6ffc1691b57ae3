"""The client for scripts: the same without `await`.

    from bridge.client import sync

    with sync.Client("mqtt://localhost", client="alice") as bridge:
        job = bridge.submit("txt2img", prompt="a lighthouse at dusk")
        for event in job:
            print(event)
        job.images()[0].save("lighthouse.png")

Each call blocks until its answer is there. The work is done by an event loop in a thread of its
own, so what arrives in between is not lost; one client may be used by several threads.
"""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar

from bridge.aio import new_event_loop
from bridge.client import client as asynchronous
from bridge.client.fetching import JobOutput
from bridge.client.job import Event
from bridge.client.job import Job as AsyncJob
from bridge.client.jobset import Set as AsyncSet
from bridge.client.session import Connect
from bridge.contract.messages import CancelReport, JobView, Result, State
from bridge.contract.sets import KeepSetReport, SetResult, SetView
from bridge.mqtt import Address

if TYPE_CHECKING:
    from PIL import Image

T = TypeVar("T")
P = ParamSpec("P")


class _Loop:
    """An event loop in a thread."""

    def __init__(self) -> None:
        self._loop = new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T], timeout_s: float | None = None) -> T:
        """Run a coroutine there and wait for it. Raises TimeoutError."""
        running = asyncio.run_coroutine_threadsafe(_within(work, timeout_s), self._loop)
        try:
            return running.result()
        except BaseException:
            running.cancel()  # Ctrl-C in this thread
            raise

    def close(self) -> None:
        """End the thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _within(work: Coroutine[Any, Any, T], timeout_s: float | None) -> T:
    async with asyncio.timeout(timeout_s):
        return await work


def _of_client(
    method: Callable[Concatenate[asynchronous.Client, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[Client, P], T]:
    """Make a method of `Client` that waits for one of the asynchronous client."""

    def call(self: Client, /, *args: P.args, **options: P.kwargs) -> T:
        return self._run(method(self._client, *args, **options))

    return functools.update_wrapper(call, method)


class Job:
    """A job of this client: iterate for what happens, or wait for its end.

    `timeout_s` bounds a call that waits for that; by default it takes as long as it takes.
    """

    def __init__(self, loop: _Loop, job: AsyncJob) -> None:
        self._loop = loop
        self._job = job

    def __repr__(self) -> str:
        return repr(self._job)

    @property
    def id(self) -> str:
        """The job's id."""
        return self._job.id

    @property
    def workflow(self) -> str | None:
        """The workflow's name, once something is known of the job."""
        return self._job.workflow

    @property
    def state(self) -> State | None:
        """The state that was last received."""
        return self._job.state

    def __iter__(self) -> Iterator[Event]:
        """Yield the state that is known, then events until the result, which is the last."""
        events = aiter(self._job)
        while True:
            event = self._loop.run(_next(events))
            if event is None:
                return
            yield event

    def outcome(self, timeout_s: float | None = None) -> Result:
        """Wait for the job's end and return its result, however it ended."""
        return self._loop.run(self._job.outcome(), timeout_s)

    def result(self, timeout_s: float | None = None) -> Result:
        """Wait for the job's end and return its result. Raises how it failed."""
        return self._loop.run(self._job.result(), timeout_s)

    def outputs(self, timeout_s: float | None = None) -> list[JobOutput]:
        """Wait for the job's end and return all its outputs. Raises how it failed."""
        return self._loop.run(self._job.outputs(), timeout_s)

    def images(self, timeout_s: float | None = None) -> list[Image.Image]:
        """Wait for the job's end and return its images as Pillow's. Raises how it failed."""
        return self._loop.run(self._job.images(), timeout_s)

    def cancel(self) -> CancelReport:
        """Ask to end the job; its result says how it ended."""
        return self._loop.run(self._job.cancel())

    def refresh(self) -> JobView:
        """Ask where the job stands. Raises UnknownJob."""
        return self._loop.run(self._job.refresh())


class Set:
    """A set of this client's jobs: iterate for its jobs, each as it ends, or wait for its end."""

    def __init__(self, loop: _Loop, jobs: AsyncSet) -> None:
        self._loop = loop
        self._set = jobs

    def __repr__(self) -> str:
        return repr(self._set)

    @property
    def id(self) -> str:
        """The set's id."""
        return self._set.id

    @property
    def total(self) -> int | None:
        """The number of its jobs, once it is known."""
        return self._set.total

    def __iter__(self) -> Iterator[Job]:
        """Yield each job once it has ended, in that order."""
        jobs = aiter(self._set)
        while (job := self._loop.run(_next(jobs))) is not None:
            yield Job(self._loop, job)

    def outcome(self, timeout_s: float | None = None) -> SetResult:
        """Wait for the set's end and return its result, however it ended."""
        return self._loop.run(self._set.outcome(), timeout_s)

    def result(self, timeout_s: float | None = None) -> SetResult:
        """Wait for the set's end and return its result. Raises unless all jobs succeeded."""
        return self._loop.run(self._set.result(), timeout_s)

    def outputs(self, timeout_s: float | None = None) -> list[JobOutput]:
        """Wait for the set's end and return what it has collected."""
        return self._loop.run(self._set.outputs(), timeout_s)

    def cancel(self) -> SetView:
        """Ask to end the set and all of its jobs."""
        return self._loop.run(self._set.cancel())

    def pause(self) -> SetView:
        """Put no more of its jobs into the queue."""
        return self._loop.run(self._set.pause())

    def resume(self) -> SetView:
        """Continue a paused set."""
        return self._loop.run(self._set.resume())

    def refresh(self) -> SetView:
        """Ask how far the set is. Raises UnknownJob."""
        return self._loop.run(self._set.refresh())

    def keep(self, keep_s: float) -> KeepSetReport:
        """Keep what it has collected, and its jobs' outputs, for so many seconds from now."""
        return self._loop.run(self._set.keep(keep_s))


async def _next(items: AsyncIterator[T]) -> T | None:
    return await anext(items, None)


class Client:
    """A conversation with a bridge under one client name; use as `with`.

    Takes what `bridge.client.Client` takes, and does the same. `timeout_s` bounds each call, but
    for those that wait for a job.
    """

    def __init__(
        self,
        url: str | Address,
        client: str,
        *,
        base: str = "comfy2mqtt",
        ca: Path | None = None,
        cert: Path | None = None,
        key: Path | None = None,
        outbox: Path | None = None,
        connect: Connect | None = None,
        timeout_s: float | None = 60.0,
    ) -> None:
        self._client = asynchronous.Client(
            url, client, base=base, ca=ca, cert=cert, key=key, outbox=outbox, connect=connect
        )
        self._timeout_s = timeout_s
        self._loop: _Loop | None = None

    def __enter__(self) -> Self:
        self._loop = _Loop()
        try:
            self._run(self._client.__aenter__())
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._run(self._client.__aexit__(kind, error, trace))
        finally:
            self._close()

    upload = _of_client(asynchronous.Client.upload)
    dry_run = _of_client(asynchronous.Client.dry_run)
    cancel = _of_client(asynchronous.Client.cancel)
    status = _of_client(asynchronous.Client.status)
    recipe = _of_client(asynchronous.Client.recipe)
    keep = _of_client(asynchronous.Client.keep)
    forget = _of_client(asynchronous.Client.forget)
    jobs = _of_client(asynchronous.Client.jobs)
    ack = _of_client(asynchronous.Client.ack)
    workflows = _of_client(asynchronous.Client.workflows)
    workflow = _of_client(asynchronous.Client.workflow)
    state = _of_client(asynchronous.Client.state)
    info = _of_client(asynchronous.Client.info)
    until_online = _of_client(asynchronous.Client.until_online)
    _submit = _of_client(asynchronous.Client.submit)
    _submit_set = _of_client(asynchronous.Client.submit_set)

    def submit(
        self, workflow: str, inputs: Mapping[str, Any] | None = None, /, **options: Any
    ) -> Job:
        """Submit a job; return it once it is accepted. As `bridge.client.Client.submit`."""
        return Job(self._running, self._submit(workflow, inputs, **options))

    def submit_set(
        self, workflow: str, inputs: Mapping[str, Any] | None = None, /, **options: Any
    ) -> Set:
        """Submit a set of jobs. As `bridge.client.Client.submit_set`."""
        return Set(self._running, self._submit_set(workflow, inputs, **options))

    def job_set(self, set_id: str) -> Set:
        """Return a set of this client by its id, to follow it or to collect what it gave."""
        return Set(self._running, self._client.job_set(set_id))

    def flush(self, timeout_s: float | None = None) -> None:
        """Wait until the bridge has said yes or no to all that lies in the outbox."""
        self._running.run(self._client.flush(), timeout_s)

    def job(self, job_id: str) -> Job:
        """Return a job of this client by its id, to follow it or to collect what it gave."""
        return Job(self._running, self._client.job(job_id))

    @property
    def _running(self) -> _Loop:
        if self._loop is None:
            raise RuntimeError("the client is closed: use it as `with`")
        return self._loop

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            loop = self._running
        except RuntimeError:
            work.close()  # it was never begun
            raise
        return loop.run(work, self._timeout_s)

    def _close(self) -> None:
        loop, self._loop = self._loop, None
        if loop is not None:
            loop.close()
