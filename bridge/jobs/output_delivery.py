"""Delivers a job's outputs to its sinks, before its outcome is written.

First the outputs are stored on disk, with a note about them. If the bridge dies after that, the
next start finds the note and delivers the outputs without running the job again. While a sink does
not answer, the bytes are not in memory.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import msgspec
from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace

from bridge.contract.messages import MissingOutput, OutputInfo, Shown, Timings
from bridge.contract.sinks import Delivered
from bridge.jobs.durable import until_on_disk
from bridge.jobs.finalizer import Completion, Finalizer, keep
from bridge.jobs.job import Job, Plan
from bridge.jobs.journal import Journal
from bridge.jobs.outputs import CollectedOutput
from bridge.media.files import INLINE_LIMIT, Files, whole

# Bytes are read, and sent on, in pieces of so many.
PIECE = 512 * 1024

# Brings outputs to the sinks of their job; returns what became of each.
DeliverOutputs = Callable[[Job, Sequence[OutputInfo]], Awaitable[list[Delivered]]]


class Undelivered(Struct, frozen=True, omit_defaults=True):
    """A job's outputs and timings, as the journal keeps them until its sinks have them."""

    outputs: list[OutputInfo]
    timings: Timings
    shown: Shown | UnsetType = UNSET
    missing: list[MissingOutput] = []
    reused: bool = False
    comfyui_version: str | None = None
    instance: str = ""
    prompt_id: str = ""
    saved_files: bool = False
    run_s: float | None = None


class OutputDelivery:
    """Stores the outputs of jobs, and delivers them."""

    def __init__(
        self, journal: Journal, files: Files, finalizer: Finalizer, deliver: DeliverOutputs | None
    ) -> None:
        """Without `deliver` jobs have no sinks."""
        self._journal = journal
        self._files = files
        self._finalizer = finalizer
        self._deliver = deliver

    def has_sinks(self, job: Job) -> bool:
        """True if a job has sinks, and they can be used."""
        return self._deliver is not None and bool(job.envelope.put)

    async def left(self, job: Job) -> Undelivered | None:
        """Return the note that an earlier process or another bridge left; None without one."""
        kept = await until_on_disk(lambda: self._journal.undelivered(job.key))
        return None if kept is None else msgspec.json.decode(kept, type=Undelivered)

    async def keep(
        self, job: Job, ended: Completion, undelivered: Undelivered, failed: Callable[[], None]
    ) -> Completion:
        """Publish and store the outputs of a job; returns its completion without the bytes.

        Writing is retried until it succeeds; `failed` is called after each failure.
        """
        ended = await self._finalizer.published(job, ended)

        async def write() -> None:
            kept = await keep(self._files, ended.outputs)
            await self._journal.keep_undelivered(job.key, msgspec.json.encode(undelivered), kept)

        await until_on_disk(write, failed)
        return _without_bytes(ended, undelivered.timings)

    async def resume(self, job: Job, plan: Plan, left: Undelivered) -> Completion:
        """Publish the stored outputs again; returns the job's completion without the bytes.

        Raises FileNotFoundError if they are gone.
        """
        outputs = [CollectedOutput(info, await self._read_all(info)) for info in left.outputs]
        ended = Completion(
            plan=plan,
            outputs=outputs,
            shown=left.shown,
            missing=left.missing,
            reused=left.reused,
            comfyui_version=left.comfyui_version,
        )
        return _without_bytes(await self._finalizer.published(job, ended), left.timings)

    async def deliver(self, job: Job, ended: Completion) -> Completion:
        """Deliver the stored outputs. Cancelling this stops the delivery."""
        if self._deliver is None:
            return ended
        found = await self._deliver(job, [each.info for each in ended.outputs])
        return replace(ended, delivered=found)

    async def read(self, sha256: str, size: int) -> AsyncIterator[bytes]:
        """Yield the bytes of a stored output; waits while the database is offline.

        Raises FileNotFoundError.
        """
        if size <= INLINE_LIMIT:
            data = await until_on_disk(lambda: self._journal.blob(sha256))
            if data is None:
                raise FileNotFoundError(sha256)
            yield whole(sha256, data)
            return
        for offset in range(0, size, PIECE):
            piece = functools.partial(self._files.read, sha256, offset, PIECE)
            yield await until_on_disk(functools.partial(asyncio.to_thread, piece))

    async def _read_all(self, info: OutputInfo) -> bytes:
        return b"".join([piece async for piece in self.read(info.sha256, info.size)])


def _without_bytes(ended: Completion, timings: Timings) -> Completion:
    outputs = [replace(each, data=b"", offered=True) for each in ended.outputs]
    return replace(ended, outputs=outputs, kept=True, timings=timings)
