"""`serve`, `websocket` and `mcp`: what runs until it is stopped."""

from __future__ import annotations

import ipaddress

import click

from bridge import config, logs
from bridge.cli.options import GroupedCommand
from bridge.cli.shared import (
    CLIENT_SETTINGS,
    FAILED,
    WEB_SETTINGS,
    WRONG_USAGE,
    as_client,
    client_name,
    run_async,
    settings,
    stop,
)
from bridge.config import Config, host_and_port
from bridge.resources import how_to_add


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
    logs.set_up("warning", "text")
    run_async(_serve_agents(settings, client_name(client, settings), http, token))


async def _serve_agents(settings: Config, name: str, http: str | None, token: str | None) -> int:
    """Serve agents as a client of the bridge; returns the exit status."""
    from bridge.cli.find import client_of

    try:
        from bridge.agents.server import Agents  # an extra
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in ("mcp", "mcp_types", "uvicorn", "anyio"):
            raise
        stop(f"mcp needs the MCP SDK: {how_to_add('mcp')}", FAILED)
    at = None if http is None else _address(http, token)
    async with client_of(settings, name) as found:
        agents = Agents(found)
        if at is None:
            await agents.serve_stdio()
        else:
            await agents.serve_http(*at, token)
    return 0


def _address(http: str, token: str | None) -> tuple[str, int]:
    """Return where to listen; end the command where everybody could use the client's rights."""
    try:
        host, port = host_and_port(http)
    except ValueError:
        stop(f"--http: {http!r}: expected host:port, such as 127.0.0.1:8765", WRONG_USAGE)
    if token is None and not _is_here(host):
        stop(
            f"--http: on {host or 'all addresses'} everybody there could run workflows as this "
            "client: set MCP_TOKEN, which agents then send as `Authorization: Bearer ...`",
            WRONG_USAGE,
        )
    return host, port


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
