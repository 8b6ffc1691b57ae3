"""`websocket`: run the web adapter alone."""

from __future__ import annotations

import os

import click

from bridge import config, logs
from bridge.cli.options import GroupedCommand
from bridge.cli.shared import (
    FAILED,
    WEB_SETTINGS,
    WRONG_USAGE,
    settings,
    stop,
)
from bridge.config import Config


@click.command(cls=GroupedCommand)
@settings(*config.TYPES, shown=WEB_SETTINGS)
def websocket(settings: Config) -> None:
    """Run the web adapter alone, at any broker, until Ctrl-C."""
    from bridge.cli import serve as command

    try:
        config.check_websocket(settings)
    except config.ConfigError as error:
        stop(str(error), WRONG_USAGE)
    logs.set_up(settings.log_level, settings.log_format, settings.secrets)
    command.warn_of_unknown(os.environ)
    reason = command.serve_web(settings)
    if reason is not None:
        stop(reason, FAILED)
