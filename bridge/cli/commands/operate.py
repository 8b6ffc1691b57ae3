"""`queue`, `watch`, `logs`, `doctor`, `backup` and `restore`: operate a bridge."""

from __future__ import annotations

from pathlib import Path

import click

from bridge.cli.options import GroupedCommand
from bridge.cli.shared import (
    CLIENT_SETTINGS,
    DOCTOR_SETTINGS,
    WRONG_USAGE,
    as_json,
    replaced,
    run_async,
    settings,
    stop,
)
from bridge.config import Config

# `doctor --journal` without the setting's value; no address is like it.
_KEPT = "(what is kept)"


@click.command(cls=GroupedCommand)
@click.option(
    "--journal",
    metavar="[URL]",
    is_flag=False,
    flag_value=_KEPT,
    help="Without a URL: only check the stored data, and repair it; with one: the setting"
    " `journal`.  [COMFY2MQTT_JOURNAL]",
)
@as_json
@settings(*DOCTOR_SETTINGS)
def doctor(*, journal: str | None, as_json: bool, settings: Config) -> None:
    """Check the broker, ComfyUI, its nodes and the workflows, and print what to do.

    It checks all settings in the file and in COMFY2MQTT_ variables; flags override some.
    """
    if journal == _KEPT:
        from bridge.cli.journal import examine_journal

        run_async(examine_journal(settings, as_json=as_json))
    from bridge.cli.doctor import examine

    if journal is not None:
        settings = replaced(settings, "--journal", journal=journal)
    run_async(examine(settings, as_json=as_json))


@click.command(cls=GroupedCommand)
@click.argument(
    "verb", type=click.Choice(["list", "pause", "resume", "clear", "release"]), default="list"
)
@click.option("--of", "client", metavar="CLIENT", help="list, clear: only this client's jobs.")
@as_json
@settings(*CLIENT_SETTINGS)
def queue(*, verb: str, client: str | None, as_json: bool, settings: Config) -> None:
    """Show the queue of a running bridge, pause or resume it, or clear what has not started.

    `release` allows the prompts again that were refused because they had ended a ComfyUI twice.
    """
    from bridge.cli.operate import send_command

    if client is not None and verb not in ("list", "clear"):
        stop("--of: only with list and clear", WRONG_USAGE)
    fields = {} if client is None else {"client": client}
    run_async(send_command(settings, f"queue/{verb}", fields, as_json=as_json))


@click.command(cls=GroupedCommand)
@click.argument("filters", nargs=-1, metavar="[FILTER]...")
@click.option("--count", default=0, help="Exit after this number of messages.")
@as_json
@settings(*CLIENT_SETTINGS)
def watch(*, filters: tuple[str, ...], count: int, as_json: bool, settings: Config) -> None:
    """Show the messages below the base topic as they arrive, a line for each.

    FILTERs say which, such as `client/me/#` or `bridge/+`.
    """
    from bridge.cli.watch import watch as command

    run_async(command(settings, filters, as_json=as_json, count=count))


@click.command("logs", cls=GroupedCommand)
@click.option("--count", default=0, help="Exit after this number of lines.")
@as_json
@settings(*CLIENT_SETTINGS)
def show_logs(*, count: int, as_json: bool, settings: Config) -> None:
    """Show the warnings and events of a running bridge as they arrive."""
    from bridge.cli.watch import logs as command

    run_async(command(settings, as_json=as_json, count=count))


@click.command(cls=GroupedCommand)
@click.argument("target", metavar="FILE", type=click.Path(path_type=Path))
@settings("data", "journal", "websocket_keys", "link_key_file")
def backup(target: Path, settings: Config) -> None:
    """Write the bridge's data into FILE (a tar), also while it runs."""
    from bridge.cli.journal import back_up_to

    run_async(back_up_to(settings, target))


@click.command(cls=GroupedCommand)
@click.argument("source", metavar="[FILE]", type=click.Path(path_type=Path), required=False)
@settings("data", "journal", "websocket_keys", "link_key_file")
def restore(source: Path | None, settings: Config) -> None:
    """Restore a backup FILE, into a data folder without a journal.

    Jobs that had not ended at the backup are lost: they do not run again.
    """
    from bridge.cli.journal import restore_from

    run_async(restore_from(settings, source))
