"""Ends a job: publishes and stores its outputs, writes the result, and publishes it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, cast

from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace

from bridge.contract.errors import BridgeError, ExecutionError
from bridge.contract.fitting import fit_result
from bridge.contract.messages import (
    MissingOutput,
    Outcome,
    OutputInfo,
    Result,
    Shown,
    State,
    Timings,
    or_unset,
)
from bridge.contract.numbering import MAX_N, numbered
from bridge.contract.sinks import Delivered
from bridge.jobs.attempt import AttemptTimes
from bridge.jobs.durable import until_on_disk
from bridge.jobs.job import Envelope, Job, KeptOutput, Plan
from bridge.jobs.journal import Journal, webhooks
from bridge.jobs.listener import Listener
from bridge.jobs.outputs import CollectedOutput
from bridge.jobs.queue import Key
from bridge.media.files import INLINE_LIMIT, Files
from bridge.media.profile import Profile
from bridge.media.transcode import CannotTranscode, Transcoder

log = logging.getLogger(__name__)

# Called for each job once: its timings, and when it ended, in seconds since the epoch.
Trace = Callable[[Job, Timings, float], None]

# Returns the URL of an output, valid until a time in seconds since the epoch; None if it has none.
MakeLink = Callable[[Key, OutputInfo, float], Awaitable[str | None]]

# Puts the first image of a job's outputs on a display; returns what was shown, or the error.
Show = Callable[[Job, str, Sequence[CollectedOutput]], Awaitable[Shown]]


class Completion(Struct, frozen=True, kw_only=True):
    """The end of a job, besides its state."""

    plan: Plan | None = None
    outputs: Sequence[CollectedOutput] = ()
    error: BridgeError | None = None
    shown: Shown | UnsetType = UNSET
    missing: Sequence[MissingOutput] = ()
    delivered: Sequence[Delivered] | None = None
    reused: bool = False
    times: AttemptTimes | None = None
    # True if an earlier process stored the outputs: they have no bytes here, `times` is outdated.
    kept: bool = False
    timings: Timings | None = None
    comfyui_version: str | None = None
    # What the workflow's next run is expected to take, in seconds.
    expect_s: float | None = None

    @property
    def run_s(self) -> float | None:
        """The seconds that it ran; None if its start or its end was not seen."""
        times = self.times
        if times is None or times.started is None or times.ended is None:
            return None
        return times.ended - times.started


class SizeTrial(Protocol):
    """Finds out whether an output of some size, in bytes, can be published."""

    def is_known(self, size: int) -> bool:
        """True if the answer for this size is known."""

    async def find_out(self, size: int) -> None:
        """Try a message of this size; never raises."""


class Finalizer:
    """Converts and publishes outputs, and writes and publishes results."""

    def __init__(
        self,
        journal: Journal,
        files: Files,
        listener: Listener,
        keep_outputs_s: float,
        *,
        show: Show,
        transcoder: Transcoder,
        link: MakeLink | None = None,
        trace: Trace | None = None,
        result_room: Callable[[Key, Envelope], int | None] = lambda *_: None,
        trial: SizeTrial | None = None,
    ) -> None:
        """`link` returns the URL of an output; `trace` records a job's timings.

        `result_room` returns the most bytes of a job's result that broker and device take, None
        for no limit. Before a large output is published, `trial` finds out whether it can be.
        """
        self._journal = journal
        self._files = files
        self._listener = listener
        self._keep_outputs_s = keep_outputs_s
        self._show = show
        self._link = link
        self._trace = trace
        self._result_room = result_room
        self._transcoder = transcoder
        self._trial = trial

    async def write(
        self,
        job: Job,
        outcome: State,
        completion: Completion,
        failed: Callable[[], None] | None = None,
    ) -> None:
        """Publish a job's outputs, write its outcome, and publish its result.

        Writing is retried until it succeeds; `failed` is called after each failure. Raises
        AlreadyEnded if the journal has another outcome.
        """
        delivery_began = time.monotonic()
        infos = [each.info for each in (await self.published(job, completion)).outputs]
        keep_s = self._keep_outputs_s if job.keep_s is None else job.keep_s

        async def finish() -> tuple[bytes, Timings]:
            # Again at each attempt: the sweep removes old blobs that no row names.
            kept = await self._keep(job, completion)
            now, clock = self._journal.clock.now(), self._journal.clock
            timings = self.timings(job, completion, delivery_began)
            link = None if job.envelope.deliver == "none" else self._link
            found = await linked(link, job.key, infos, clock.shown(now + keep_s))
            result = self._result(job, outcome, completion, found, timings)
            encoded = await self._journal.finish(
                job.key,
                state=outcome,
                result=numbered(result),
                now=now,
                outputs=kept,
                keep_until=now + keep_s,
                estimate=None
                if completion.expect_s is None
                else (job.workflow, completion.expect_s),
                hooks=webhooks.new(
                    "job", job.key, outcome, job.envelope.webhooks, now=now, shown=clock.shown(now)
                )
                if job.envelope.webhooks
                else None,
            )
            return encoded, timings

        result, timings = await until_on_disk(finish, failed)
        self._listener.result(job.key, job.envelope, result)
        if self._trace is not None:
            clock = self._journal.clock
            at = replace(job, accepted_at=clock.shown(job.accepted_at))
            self._trace(at, timings, clock.shown(clock.now()))

    def _result(
        self,
        job: Job,
        outcome: State,
        completion: Completion,
        infos: list[OutputInfo],
        timings: Timings,
    ) -> Result:
        """Return the result, made to fit what the device and the broker take.

        It has room for any number `n`, which the journal draws later.
        """
        plan, error, delivered = completion.plan, completion.error, completion.delivered
        result = Result(
            job_id=job.key.job_id,
            workflow=job.workflow,
            set_id=or_unset(job.envelope.set_id),
            transaction=job.envelope.transaction,
            meta=job.envelope.meta,
            n=MAX_N,
            state=cast("Outcome", outcome),
            outputs=infos,
            error=UNSET if error is None else error.wire(),
            inputs={} if plan is None else plan.inputs,
            workflow_version=job.workflow_version,
            instance=or_unset(job.instance),
            comfyui_version=or_unset(completion.comfyui_version),
            reused=completion.reused,
            timings=timings,
            attempts=job.attempt,
            shown=completion.shown,
            missing=[*completion.missing] or UNSET,
            delivered=UNSET if delivered is None else [*delivered],
        )
        room = self._result_room(job.key, job.envelope)
        return result if room is None else fit_result(result, room)

    async def formed(
        self, job: Job, outputs: Sequence[CollectedOutput], ended: Completion
    ) -> Completion:
        """Add outputs in the form that the request wants; show the first as ComfyUI made it.

        Raises ExecutionError for an image that cannot be converted.
        """
        asked, display, formed = job.envelope.profile, job.envelope.show, outputs
        if asked is not None and job.envelope.deliver != "none":
            formed = [await self._transcoded(output, asked) for output in outputs]
        shown = UNSET if display is None else await self._show(job, display, outputs)
        return replace(ended, outputs=formed, shown=shown)

    async def _transcoded(self, output: CollectedOutput, asked: Profile) -> CollectedOutput:
        info = output.info
        try:
            changed, data = await self._transcoder.in_form(asked, info, output.data)
        except CannotTranscode as error:
            raise ExecutionError(
                f"output {info.name!r} cannot be given the form asked for: {error}",
                output=info.index,
                name=info.name,
                reason=str(error),
            ) from None
        return output if changed is info else CollectedOutput(changed, data)

    async def published(self, job: Job, ended: Completion) -> Completion:
        """Publish the outputs of a job that were not published yet."""
        outputs = [each if each.offered else await self._tried(job, each) for each in ended.outputs]
        return replace(ended, outputs=outputs)

    def timings(self, job: Job, ended: Completion, delivery_began: float) -> Timings:
        """Return how long each part of a job took, up to now.

        `delivery_began` is in seconds by a monotonic clock.
        """
        waited = self._journal.clock.now() - job.accepted_at
        before = ended.timings
        if before is None:
            return _timings(waited, ended.times, delivery_began)
        parts = before.queued_s + before.load_s + before.run_s
        return replace(before, deliver_s=round(max(before.deliver_s, waited - parts), 3))

    def offer(self, job: Job, output: CollectedOutput) -> CollectedOutput:
        """Publish an output before its job has ended, unless it has to be converted first."""
        if job.envelope.profile is not None or self._needs_trial(job, output):
            return output
        return self._publish(job, output)

    async def _tried(self, job: Job, output: CollectedOutput) -> CollectedOutput:
        """Publish an output, after finding out whether the broker takes its size."""
        if self._trial is not None and self._needs_trial(job, output):
            await self._trial.find_out(output.info.size)
        return self._publish(job, output)

    def _needs_trial(self, job: Job, output: CollectedOutput) -> bool:
        # At QoS 1 the broker answers.
        return (
            self._trial is not None
            and job.envelope.deliver == "push"
            and not self._trial.is_known(output.info.size)
        )

    def _publish(self, job: Job, output: CollectedOutput) -> CollectedOutput:
        if job.envelope.deliver in ("fetch", "none"):
            return output
        topic = self._listener.output(job, output.info, output.data)
        info = replace(output.info, topic=UNSET if topic is None else topic)
        return replace(output, info=info, offered=True)

    async def _keep(self, job: Job, completion: Completion) -> list[KeptOutput]:
        if job.envelope.deliver == "none":
            return []
        if completion.kept:
            return [_kept(each.info, None) for each in completion.outputs]
        return await keep(self._files, completion.outputs)


async def linked(
    link: MakeLink | None, key: Key, infos: Sequence[OutputInfo], until: float
) -> list[OutputInfo]:
    """Add to each output the URL that `link` makes, valid until then; none if `link` is None."""
    if link is None:
        return [*infos]
    urls = [await link(key, info, until) for info in infos]
    return [replace(info, url=or_unset(url)) for info, url in zip(infos, urls, strict=True)]


async def keep(files: Files, outputs: Sequence[CollectedOutput]) -> list[KeptOutput]:
    """Write the outputs that are too large for rows of the journal to disk."""
    kept = []
    for output in outputs:
        small = output.info.size <= INLINE_LIMIT
        if not small:
            await asyncio.to_thread(files.put, output.info.sha256, output.data)
        kept.append(_kept(output.info, bytes(output.data) if small else None))
    return kept


def _kept(info: OutputInfo, data: bytes | None) -> KeptOutput:
    return KeptOutput(
        index=info.index,
        content_type=info.content_type,
        sha256=info.sha256,
        size=info.size,
        data=data,
    )


def _timings(since_s: float, times: AttemptTimes | None, delivery_began: float) -> Timings:
    """Return the seconds of each part; 0 for a part that the job did not reach."""
    if times is None:
        return Timings(queued_s=round(max(0.0, since_s), 3), load_s=0.0, run_s=0.0, deliver_s=0.0)
    now = time.monotonic()
    started = times.sent if times.started is None else times.started
    ended = delivery_began if times.ended is None else times.ended
    waited = since_s - (now - times.sent)
    return Timings(
        queued_s=round(max(0.0, waited), 3),
        load_s=round(started - times.sent, 3),
        run_s=round(max(0.0, ended - started), 3),
        deliver_s=round(now - ended, 3),
    )
