"""`backup`, `restore` and `doctor --journal`: saves, puts back and checks all that is kept."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from bridge import private
from bridge.cli.diagnostics import Finding
from bridge.cli.shared import FAILED, WRONG_USAGE, show_finding, stop
from bridge.config import Config
from bridge.jobs.database import DatabaseError
from bridge.jobs.journal import Journal, repair
from bridge.jobs.journal.backup import (
    BLOBS,
    JOURNAL,
    KEYS,
    LINK_KEY,
    BackupError,
    BackupReport,
    back_up,
    unpack,
)
from bridge.jobs.journal.repair import JournalFaults, Unrepairable
from bridge.media.files import compare_all
from bridge.service.stores import bucket_of, files_of

_SHOWN = 5
_AGAIN = "they are refused, and repaired when the same bytes come again; look at the disk's health"


async def examine_journal(settings: Config, *, as_json: bool) -> int:
    """Print what is found and done; the exit status is 1 if something was wrong."""
    private.from_now_on()
    healthy = True
    for finding in await _found(settings):
        healthy = healthy and finding.good
        show_finding(finding, as_json=as_json)
    return 0 if healthy else FAILED


async def _found(settings: Config) -> list[Finding]:
    if not settings.journal:
        return await asyncio.to_thread(_findings, settings)
    what = "the journal is in PostgreSQL, which checks itself"
    findings = [
        Finding(good=True, what=what, advice="use pg_amcheck, and a cluster with checksums")
    ]
    if settings.blobs:
        findings += await _of_group(settings)
    return findings


async def _of_group(settings: Config) -> list[Finding]:
    """Compare the blobs that a journal in PostgreSQL names, in the bucket and in the database."""
    journal = Journal(settings.journal)
    try:
        await journal.open()
        try:
            names = await journal.files()
        finally:
            await journal.close()
        damaged, missing = await asyncio.to_thread(compare_all, files_of(settings), sorted(names))
    except (DatabaseError, OSError) as error:
        return [Finding(good=False, what=str(error))]
    return _bytes(JournalFaults([], damaged, missing))


def _findings(settings: Config) -> list[Finding]:
    journal = settings.folder / JOURNAL
    if not journal.exists():
        return [Finding(good=True, what=f"there is no journal in {settings.folder} yet")]
    try:
        found = _checked(settings)
        if found.faults:
            faults = [Finding(good=False, what=f"the journal: {each}") for each in found.faults]
            return [*faults, *_repaired(settings)]
    except (Unrepairable, DatabaseError, OSError) as error:
        return [Finding(good=False, what=str(error))]
    return [Finding(good=True, what=f"{journal} is sound"), *_of_folder(found, settings)]


def _checked(settings: Config) -> JournalFaults:
    """Check a journal of SQLite's and all blobs; those that are not in the folder in the bucket."""
    found = repair.check(settings.folder / JOURNAL, settings.folder / BLOBS)
    if not settings.blobs or not found.missing:
        return found
    damaged, missing = compare_all(bucket_of(settings), found.missing)
    return JournalFaults(found.faults, [*found.damaged, *damaged], missing)


def _repaired(settings: Config) -> list[Finding]:
    journal = settings.folder / JOURNAL
    try:
        saved = repair.repair(journal)
    except (Unrepairable, DatabaseError, OSError) as error:
        return [Finding(good=False, what=f"not repaired: {error}")]
    what = ", ".join(f"{count} {table}" for table, count in saved.rows.items() if count)
    done = Finding(
        good=True,
        what=f"repaired: a new journal has all that could be read ({what or 'nothing'})",
        advice=f"the damaged one is {saved.aside}; jobs missing in the new one are forgotten,"
        " and run once more if their clients send them again",
    )
    return [done, *_of_folder(_checked(settings), settings)]


def _of_folder(found: JournalFaults, settings: Config) -> list[Finding]:
    if found.damaged:
        repair.set_aside(settings.folder / BLOBS, found.damaged)
    return _bytes(found)


def _bytes(found: JournalFaults) -> list[Finding]:
    lists = (("are damaged", found.damaged), ("are gone", found.missing))
    findings = [
        Finding(
            good=False,
            what=f"{len(names)} stored inputs or outputs {how}: {', '.join(names[:_SHOWN])}",
            advice=_AGAIN,
        )
        for how, names in lists
        if names
    ]
    return findings or [Finding(good=True, what="all stored inputs and outputs are whole")]


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
