"""A job's progress: a bar on a terminal, plain lines in a pipe. Both on standard error."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, nullcontext
from typing import Self

import click
from msgspec import UNSET
from rich import progress
from rich.console import Console
from rich.markup import escape

from bridge.cli.words import duration, waiting
from bridge.client import Job, Set
from bridge.contract import messages
from bridge.contract.messages import Result

# A line for each so many percent.
_STEP = 20.0


async def follow(job: Job, *, quiet: bool) -> Result:
    """Show how a job gets on, and return its result, however it ended."""
    telling = _Bar(job) if sys.stderr.isatty() and not quiet else _Lines(job, quiet=quiet)
    with telling.shown():
        async for event in job:
            match event:
                case messages.JobStatus(state=state, position=position, reason=reason, eta_s=eta):
                    telling.state(waiting(state, position, reason, eta))
                case messages.Progress(percent=percent, eta_s=eta):
                    telling.percent(percent, None if eta is UNSET else eta)
                case Result(state=state):
                    telling.end(state)
    return await job.outcome()


class _Bar:
    """A progress bar."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._bar = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.TaskProgressColumn(),
            progress.TimeElapsedColumn(),
            progress.TextColumn("{task.fields[left]}"),
            console=Console(stderr=True),
        )
        self._task = self._bar.add_task(f"{job.workflow} queued", total=100, left="")

    def shown(self) -> AbstractContextManager[object]:
        return self._bar

    def state(self, state: str) -> None:
        self._bar.update(self._task, description=escape(f"{self._job.workflow} {state}"))

    def percent(self, percent: float, eta_s: float | None) -> None:
        left = "" if eta_s is None else f"{duration(eta_s)} left"
        self._bar.update(self._task, completed=percent, left=left)

    def end(self, state: str) -> None:
        done = 100 if state == "succeeded" else None
        description = f"{self._job.workflow} {state}"
        self._bar.update(self._task, description=description, completed=done, left="")


class _Lines:
    """A line for each change; none at all where it is to be quiet."""

    def __init__(self, job: Job, *, quiet: bool) -> None:
        self._job = job
        self._quiet = quiet
        self._next = _STEP

    def shown(self) -> AbstractContextManager[object]:
        return nullcontext()

    def state(self, state: str) -> None:
        self._say(state)

    def percent(self, percent: float, _eta_s: float | None) -> None:
        if percent >= self._next:
            self._next = percent - percent % _STEP + _STEP
            self._say(f"{percent:.0f} %")

    def end(self, state: str) -> None:
        self._say(state)

    def _say(self, what: str) -> None:
        if not self._quiet:
            click.echo(f"{self._job.workflow} {self._job.id[:12]} {what}", err=True)


class SetProgress:
    """One bar for all jobs of a set, or a line for each; use as `with`."""

    def __init__(self, jobs: Set, *, quiet: bool) -> None:
        self._jobs = jobs
        self._quiet = quiet
        self._done = 0
        self._failed = 0
        self._bar: progress.Progress | None = None
        if sys.stderr.isatty() and not quiet:
            self._bar = progress.Progress(
                progress.TextColumn("{task.description}"),
                progress.BarColumn(),
                progress.MofNCompleteColumn(),
                progress.TimeRemainingColumn(),
                console=Console(stderr=True),
            )
            self._task = self._bar.add_task(str(jobs.workflow), total=jobs.total)

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def done(self, job: Job) -> None:
        """Show that a job has succeeded."""
        self._show(f"{job.id} succeeded")

    def failed(self, job: Job, why: str) -> None:
        """Show that a job has not, and why."""
        self._failed += 1
        self._show(f"{job.id} {job.state}: {why}")

    def _show(self, line: str) -> None:
        self._done += 1
        if self._bar is not None:
            failed = f", {self._failed} not" if self._failed else ""
            self._bar.update(
                self._task, completed=self._done, description=f"{self._jobs.workflow}{failed}"
            )
        elif not self._quiet:
            click.echo(f"{self._done}/{self._jobs.total} {line}", err=True)
