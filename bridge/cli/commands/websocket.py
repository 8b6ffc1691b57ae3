"""`websocket`: run the web adapter alone."""

from __future__ import annotations

import click

from bridge import config
from bridge.cli.options import GroupedCommand
from bridge.cli.shared import WEB_SETTINGS, settings
from bridge.config import Config


@click.command(cls=GroupedCommand)
@settings(*config.TYPES, shown=WEB_SETTINGS)
def websocket(settings: Config) -> None:
    """Run the web adapter alone, at any broker, until Ctrl-C."""
    from bridge.cli import serve as command

    command.begin(settings, config.check_websocket, command.serve_web)
