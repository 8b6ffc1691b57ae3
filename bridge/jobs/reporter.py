"""Publishes an attempt's progress and previews, at most a few times a second."""

from __future__ import annotations

import time
from collections.abc import Callable

from bridge.comfyui.events import PromptPreview
from bridge.contract.messages import Progress, or_unset
from bridge.jobs.estimates import Estimates
from bridge.jobs.job import Job
from bridge.jobs.job_messages import seconds
from bridge.jobs.listener import Listener
from bridge.jobs.outputs import Offer
from bridge.jobs.progress import Snapshot

PROGRESS_INTERVAL_S = 0.2
PREVIEW_INTERVAL_S = 0.2


class Reporter:
    """The observer of one attempt. Progress that comes too soon after the last is left out."""

    def __init__(
        self,
        job: Job,
        listener: Listener,
        estimates: Estimates,
        *,
        began: Callable[[], None],
        offer: Offer,
    ) -> None:
        self.began = began
        self.output = offer
        self._job = job
        self._listener = listener
        self._estimates = estimates
        self._started = time.monotonic()
        self._published = 0.0  # percent; that it began is in the status
        # Of a set's thousands that are over in an instant it is not worth a message.
        of_set = job.envelope.set_id is not None
        self._next_progress = self._started + PROGRESS_INTERVAL_S if of_set else 0.0
        self._next_preview = 0.0

    def progress(self, snapshot: Snapshot) -> None:
        """Publish a figure, unless it is the last one again or comes too soon."""
        now = time.monotonic()
        if snapshot.percent <= self._published or now < self._next_progress:
            return
        self._published, self._next_progress = snapshot.percent, now + PROGRESS_INTERVAL_S
        job = self._job
        eta_s = self._estimates.left_of(job.workflow, snapshot.percent, now - self._started)
        progress = Progress(
            job_id=job.key.job_id,
            workflow=job.workflow,
            set_id=or_unset(job.envelope.set_id),
            transaction=job.envelope.transaction,
            meta=job.envelope.meta,
            percent=snapshot.percent,
            node=or_unset(snapshot.node),
            step=or_unset(snapshot.step),
            steps=or_unset(snapshot.steps),
            eta_s=seconds(eta_s),
        )
        self._listener.progress(job, progress)

    def preview(self, preview: PromptPreview) -> None:
        """Publish a preview, unless it comes too soon."""
        now = time.monotonic()
        if now < self._next_preview:
            return
        self._next_preview = now + PREVIEW_INTERVAL_S
        self._listener.preview(self._job, preview.content_type, preview.data)
