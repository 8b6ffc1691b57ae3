"""Giving a job its one outcome: outputs published and kept, the result on disk, then published."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from msgspec import UNSET, Struct
from msgspec.structs import replace
from tenacity import AsyncRetrying, retry_if_exception_type, wait_random_exponential

from bridge.contract.errors import BridgeError
from bridge.contract.messages import OutputInfo, Timings, encode
from bridge.jobs import reports
from bridge.jobs.database import DatabaseError
from bridge.jobs.job import Job, KeptOutput, Plan
from bridge.jobs.journal import Journal
from bridge.jobs.listener import Listener
from bridge.jobs.outputs import Output
from bridge.jobs.run import Times
from bridge.media.files import INLINE_LIMIT, Files

log = logging.getLogger(__name__)

T = TypeVar("T")
# A full disk is waited out: what was accepted gets its outcome.
_RETRY_CAP_S = 30.0


class Ended(Struct, frozen=True, kw_only=True):
    """How a job ended, besides its state."""

    plan: Plan | None = None
    outputs: Sequence[Output] = ()
    error: BridgeError | None = None
    reused: bool = False
    times: Times | None = None
    comfyui_version: str | None = None


class Outcomes:
    """Writes outcomes."""

    def __init__(
        self, journal: Journal, files: Files, listener: Listener, keep_outputs_s: float
    ) -> None:
        self._journal = journal
        self._files = files
        self._listener = listener
        self._keep_outputs_s = keep_outputs_s

    async def write(self, job: Job, ended: Ended) -> None:
        """Conclude a job whose state is its outcome already.

        Raises AlreadyEnded where the journal has another.
        """
        delivering = time.monotonic()
        infos = [self._publish(job, output) for output in ended.outputs]
        kept = await self._keep(job, ended.outputs)
        keep_s = self._keep_outputs_s if job.keep_s is None else job.keep_s
        timings = _timings(job, ended.times, delivering)

        async def finish() -> bytes:
            n = self._journal.draw(job.key.client)
            result = encode(
                reports.result(
                    job,
                    n,
                    plan=ended.plan,
                    outputs=infos,
                    error=ended.error,
                    comfyui_version=ended.comfyui_version,
                    reused=ended.reused,
                    timings=timings,
                )
            )
            now = time.time()
            await self._journal.finish(
                job.key,
                state=job.state,
                n=n,
                result=result,
                now=now,
                outputs=kept,
                keep_until=now + keep_s,
            )
            return result

        self._listener.result(job.key, job.envelope, await until_on_disk(finish))

    def _publish(self, job: Job, output: Output) -> OutputInfo:
        if job.envelope.deliver in ("fetch", "none"):
            return output.info
        topic = self._listener.output(job, output.info, output.data)
        return replace(output.info, topic=UNSET if topic is None else topic)

    async def _keep(self, job: Job, outputs: Sequence[Output]) -> list[KeptOutput]:
        if job.envelope.deliver == "none":
            return []
        return [await self._keep_one(output) for output in outputs]

    async def _keep_one(self, output: Output) -> KeptOutput:
        small = output.info.size <= INLINE_LIMIT
        if not small:

            async def put() -> None:
                await asyncio.to_thread(self._files.put, output.info.sha256, output.data)

            await until_on_disk(put)
        return KeptOutput(
            index=output.info.index,
            content_type=output.info.content_type,
            sha256=output.info.sha256,
            size=output.info.size,
            data=bytes(output.data) if small else None,
        )


async def until_on_disk(write: Callable[[], Awaitable[T]]) -> T:
    """Write, again and again while the disk refuses: what is known must not get lost."""
    async for attempt in AsyncRetrying(
        retry=retry_if_exception_type((DatabaseError, OSError)),
        wait=wait_random_exponential(max=_RETRY_CAP_S),
        before_sleep=lambda state: log.error("cannot write: %s", state.outcome),
    ):
        with attempt:
            return await write()
    raise AssertionError("retries have no end")


def _timings(job: Job, times: Times | None, delivering: float) -> Timings:
    """Seconds in each part; zero in those that the job did not reach."""
    if times is None:
        waited = max(0.0, time.time() - job.accepted_at)
        return Timings(queued_s=round(waited, 3), load_s=0.0, run_s=0.0, deliver_s=0.0)
    now = time.monotonic()
    started = times.sent if times.started is None else times.started
    ended = delivering if times.ended is None else times.ended
    # The wait is told by the wall clock, which alone survives a restart.
    waited = time.time() - (now - times.sent) - job.accepted_at
    return Timings(
        queued_s=round(max(0.0, waited), 3),
        load_s=round(started - times.sent, 3),
        run_s=round(max(0.0, ended - started), 3),
        deliver_s=round(now - ended, 3),
    )
