"""`serve`: run the bridge."""

from __future__ import annotations

import click

from bridge import config
from bridge.cli.options import GroupedCommand
from bridge.cli.shared import settings
from bridge.config import Config


@click.command(cls=GroupedCommand)
@settings(*config.TYPES)
def serve(settings: Config) -> None:
    """Run the bridge until Ctrl-C."""
    from bridge.cli import serve as command

    command.begin(settings, config.check, command.serve)
