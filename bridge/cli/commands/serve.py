"""`serve`, `websocket` and `mcp`: what runs until it is stopped."""

from __future__ import annotations

import click

from bridge import config, logs
from bridge.cli.options import GroupedCommand
from bridge.cli.shared import (
    CLIENT_SETTINGS,
    WEB_SETTINGS,
    as_client,
    client_name,
    run_async,
    settings,
)
from bridge.config import Config


@click.command(cls=GroupedCommand)
@settings(*config.TYPES)
def serve(settings: Config) -> None:
    """Run the bridge until Ctrl-C."""
    from bridge.cli import serve as command

    command.begin(settings, config.check, command.serve)


@click.command(cls=GroupedCommand)
@settings(*config.TYPES, shown=WEB_SETTINGS)
def websocket(settings: Config) -> None:
    """Run the web adapter alone, at any broker, until Ctrl-C."""
    from bridge.cli import serve as command

    command.begin(settings, config.check_websocket, command.serve_web)


@click.command(cls=GroupedCommand)
@click.option("--http", metavar="HOST:PORT", help="Serve streamable HTTP at /mcp, not stdio.")
@click.option(
    "--token", envvar="MCP_TOKEN", help="The token that agents send over HTTP.  [MCP_TOKEN]"
)
@settings(*CLIENT_SETTINGS)
@as_client
def mcp(*, http: str | None, token: str | None, settings: Config, client: str | None) -> None:
    """Serve agents by the Model Context Protocol: each workflow is a tool.

    comfy2mqtt mcp --client agent
    """
    from bridge.cli.mcp import serve_agents

    logs.set_up("warning", "text")
    run_async(serve_agents(settings, client_name(client, settings), http, token))
