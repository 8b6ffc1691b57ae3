"""Statuses of a job that is over in an instant: fewer, if it is one of a set."""

from __future__ import annotations

import asyncio
from pathlib import Path

from bridge.contract.messages import JobStatus, Progress
from bridge.jobs.estimates import Estimates
from bridge.jobs.job import Envelope
from bridge.jobs.progress import Snapshot
from bridge.jobs.reporter import Reporter
from tests.jobs.dispatching import QuickComfyUI, Recorder, running_dispatcher
from tests.jobs.drafts import draft

OF_SET = Envelope(set_id="s1", set_index=0)


class ProgressRecorder(Recorder):
    def __init__(self) -> None:
        super().__init__()
        self.percents: list[float] = []
        self.states: list[tuple[str, str]] = []

    def progress(self, *said: object) -> None:
        self.percents += [each.percent for each in said if isinstance(each, Progress)]

    def status(self, *said: object) -> None:
        self.states += [(each.job_id, each.state) for each in said if isinstance(each, JobStatus)]


def percents(envelope: Envelope) -> list[float]:
    heard = ProgressRecorder()
    job = draft(envelope=envelope).job
    reporter = Reporter(job, heard, Estimates(), began=lambda: None, offer=lambda output: output)
    reporter.progress(Snapshot(50.0))
    return heard.percents


def test_progress_comes_at_once_but_not_of_a_job_of_a_set() -> None:
    assert percents(Envelope()) == [50.0]
    assert percents(OF_SET) == []


async def test_a_job_of_a_set_that_is_over_at_once_never_says_that_it_runs(
    tmp_path: Path,
) -> None:
    async with running_dispatcher(tmp_path, comfyui=QuickComfyUI()) as dispatcher:
        heard = ProgressRecorder()
        dispatcher._listener = heard
        await dispatcher.take("alone")
        await dispatcher.take("s1-0", envelope=OF_SET)
        for job_id in ("alone", "s1-0"):
            await dispatcher.recorder.outcome(job_id)
        await asyncio.sleep(0)
    assert ("alone", "running") in heard.states
    assert ("s1-0", "running") not in heard.states
