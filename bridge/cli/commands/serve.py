"""`serve`: run the bridge."""

from __future__ import annotations

import os

import click

from bridge import config, logs
from bridge.cli.options import GroupedCommand
from bridge.cli.shared import (
    FAILED,
    WRONG_USAGE,
    settings,
    stop,
)
from bridge.config import Config


@click.command(cls=GroupedCommand)
@settings(*config.TYPES)
def serve(settings: Config) -> None:
    """Run the bridge until Ctrl-C."""
    from bridge.cli import serve as command

    try:
        config.check(settings)
    except config.ConfigError as error:
        stop(str(error), WRONG_USAGE)
    logs.set_up(settings.log_level, settings.log_format, settings.secrets)
    command.warn_of_unknown(os.environ)
    reason = command.serve(settings)
    if reason is not None:
        stop(reason, FAILED)
