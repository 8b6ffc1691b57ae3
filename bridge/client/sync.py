"""The client for scripts: the same without `await`.

    from bridge.client import sync

    with sync.Client("mqtt://localhost", client="alice") as bridge:
        job = bridge.submit("txt2img", prompt="a lighthouse at dusk")
        for event in job:
            print(event)
        job.images()[0].save("lighthouse.png")

Each call blocks until its answer is there. The work is done by a loop in a thread of its own, so
what is heard in between is not lost; one client may be used by several threads.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from bridge.client import client as asynchronous
from bridge.client.job import Event, JobOutput
from bridge.client.job import Job as AsyncJob
from bridge.contract.messages import (
    CancelReport,
    ForgetReport,
    JobList,
    JobView,
    KeepReport,
    RecipeReport,
    Result,
    State,
)
from bridge.contract.retained import BridgeInfo, Definition
from bridge.mqtt import Address

if TYPE_CHECKING:
    from PIL import Image

T = TypeVar("T")


class _Loop:
    """An event loop in a thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
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


class Job:
    """A job of this client: iterate for what happens, or wait for its end."""

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
        """The state that was last heard of."""
        return self._job.state

    def __iter__(self) -> Iterator[Event]:
        """Give what is known, then what happens, until the result, which is the last."""
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
        """Ask to end the job; its result tells how it ended."""
        return self._loop.run(self._job.cancel())

    def refresh(self) -> JobView:
        """Ask where the job stands. Raises UnknownJob."""
        return self._loop.run(self._job.refresh())


async def _next(events: Any) -> Event | None:
    event: Event | None = await anext(events, None)
    return event


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
        timeout_s: float | None = 60.0,
    ) -> None:
        self._client = asynchronous.Client(
            url, client, base=base, ca=ca, cert=cert, key=key, outbox=outbox
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

    def submit(
        self, workflow: str, inputs: Mapping[str, Any] | None = None, /, **options: Any
    ) -> Job:
        """Submit a job; return it once it is accepted. As `bridge.client.Client.submit`."""
        job = self._run(self._client.submit(workflow, inputs, **options))
        return Job(self._running, job)

    def flush(self, timeout_s: float | None = None) -> None:
        """Wait until the bridge has said yes or no to all that lies in the outbox."""
        self._running.run(self._client.flush(), timeout_s)

    def job(self, job_id: str) -> Job:
        """Return a job of this client by its id, to follow it or to collect what it gave."""
        return Job(self._running, self._client.job(job_id))

    def upload(self, source: Any, name: str | None = None) -> dict[str, str]:
        """Upload bytes, once for many jobs; returns what to give as a media input."""
        return self._run(self._client.upload(source, name))

    def cancel(self, job_id: str) -> CancelReport:
        """Ask to end a job. Raises UnknownJob."""
        return self._run(self._client.cancel(job_id))

    def status(self, job_id: str) -> JobView:
        """Ask where a job stands. Raises UnknownJob."""
        return self._run(self._client.status(job_id))

    def recipe(self, job_id: str) -> RecipeReport:
        """Return the prompt that a job ran, and its inputs as resolved. Raises UnknownJob."""
        return self._run(self._client.recipe(job_id))

    def keep(self, job_id: str, keep_s: float) -> KeepReport:
        """Have a job's outputs kept for so many seconds from now. Raises UnknownJob."""
        return self._run(self._client.keep(job_id, keep_s))

    def forget(self, job_id: str) -> ForgetReport:
        """Have a job's result, outputs and recipe let go now. Raises UnknownJob."""
        return self._run(self._client.forget(job_id))

    def jobs(
        self,
        after: int = 0,
        *,
        states: list[State] | None = None,
        workflow: str | None = None,
        limit: int = 50,
        peek: bool = False,
    ) -> JobList:
        """Return a page of this client's jobs whose `n` is above `after`, in that order."""
        return self._run(
            self._client.jobs(after, states=states, workflow=workflow, limit=limit, peek=peek)
        )

    def ack(self, up_to: int) -> int:
        """Say that every result up to `n` has arrived; return how many were newly acked."""
        return self._run(self._client.ack(up_to))

    def workflows(self) -> dict[str, Definition]:
        """Return the definitions of all workflows by name."""
        return self._run(self._client.workflows())

    def workflow(self, name: str) -> Definition:
        """Return the definition of one workflow. Raises UnknownWorkflow."""
        return self._run(self._client.workflow(name))

    def state(self) -> str | None:
        """Return `online` or `offline` as the bridge, or its will, says; None: there was none."""
        return self._run(self._client.state())

    def info(self) -> BridgeInfo | None:
        """Return who the bridge is, with its limits; None: there was none."""
        return self._run(self._client.info())

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
