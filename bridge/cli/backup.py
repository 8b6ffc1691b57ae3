"""`comfy2mqtt backup` and `restore`."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from bridge import private
from bridge.cli.shared import FAILED, WRONG_USAGE, stop
from bridge.config import Config
from bridge.jobs.database import DatabaseError
from bridge.jobs.journal import Journal
from bridge.jobs.journal.backup import (
    JOURNAL,
    KEYS,
    LINK_KEY,
    BackupError,
    BackupReport,
    back_up,
    unpack,
)


async def back_up_to(settings: Config, target: Path) -> int:
    """Write a backup; returns the exit status."""
    if settings.journal:
        rest = (
            f", and what is in {settings.blobs} with the store's own tools"
            if settings.blobs
            else ""
        )
        stop(f"the journal is in PostgreSQL: back it up with pg_dump{rest}", WRONG_USAGE)
    try:
        report = await asyncio.to_thread(
            back_up, settings.folder, target, _keys(settings), settings.blobs
        )
    except BackupError as error:
        stop(str(error), FAILED)
    click.echo(f"{target}: {_summary(report)}")
    return 0


async def restore_from(settings: Config, file: Path | None) -> int:
    """Put a backup in place; returns the exit status."""
    private.from_now_on()
    where: Path | str = settings.journal or settings.folder / JOURNAL
    if not settings.journal and file is None:
        stop("restore: name the FILE of the backup", WRONG_USAGE)
    if settings.journal and file is not None:
        stop(
            "the journal is in PostgreSQL: restore it with pg_restore, then run this without FILE",
            WRONG_USAGE,
        )
    try:
        if file is not None:
            report = await asyncio.to_thread(unpack, file, settings.folder, _keys(settings))
            click.echo(f"{settings.folder}: {_summary(report)}")
        journal = Journal(where)
        await journal.open()
        try:
            await journal.mark_restored()
        finally:
            await journal.close()
    except (BackupError, DatabaseError) as error:
        stop(str(error), FAILED)
    click.echo("jobs that had not ended are lost: the next start sends their clients that result")
    return 0


def _keys(settings: Config) -> dict[str, Path]:
    """Return where the keys of the web adapter and of links lie."""
    return {KEYS: settings.keys_file, LINK_KEY: settings.link_key}


def _summary(report: BackupReport) -> str:
    found = f"{report.jobs} jobs, {report.blobs} large outputs and inputs ({report.size:,} bytes)"
    keys = f", {' and '.join(sorted(report.keys))}" if report.keys else ""
    left = f"; left as they were: {', '.join(report.left)}" if report.left else ""
    rest = (
        f"; not in it: {report.elsewhere} that are in {report.bucket}" if report.elsewhere else ""
    )
    return f"{found}{keys}{left}{rest}"
