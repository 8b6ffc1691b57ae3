"""`comfy2mqtt backup` and `restore`."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from bridge.cli.shared import FAILED, WRONG_USAGE, stop
from bridge.config import Config
from bridge.jobs.database import DatabaseError
from bridge.jobs.journal import Journal
from bridge.jobs.journal.backup import JOURNAL, BackupError, Report, back_up, unpack


async def back_up_to(settings: Config, target: Path) -> int:
    """Write a backup; returns the exit status."""
    if settings.journal:
        stop("the journal is in PostgreSQL: back it up with pg_dump", WRONG_USAGE)
    try:
        report = await asyncio.to_thread(back_up, settings.folder, target)
    except BackupError as error:
        stop(str(error), FAILED)
    click.echo(f"{target}: {_summary(report)}")
    return 0


async def restore_from(settings: Config, file: Path | None) -> int:
    """Put a backup in place; returns the exit status."""
    where: Path | str = settings.journal or settings.folder / JOURNAL
    if not settings.journal and file is None:
        stop("restore: which FILE?", WRONG_USAGE)
    if settings.journal and file is not None:
        stop(
            "the journal is in PostgreSQL: restore it with pg_restore, then run this without FILE",
            WRONG_USAGE,
        )
    try:
        if file is not None:
            report = await asyncio.to_thread(unpack, file, settings.folder)
            click.echo(f"{settings.folder}: {_summary(report)}")
        journal = Journal(where)
        await journal.open()
        try:
            await journal.mark_restored()
        finally:
            await journal.close()
    except (BackupError, DatabaseError) as error:
        stop(str(error), FAILED)
    click.echo("jobs that had not ended are lost: the next start reports that to their clients")
    return 0


def _summary(report: Report) -> str:
    return f"{report.jobs} jobs, {report.blobs} large outputs and inputs ({report.size:,} bytes)"
