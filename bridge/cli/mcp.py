"""`comfy2mqtt mcp`: workflows as tools of agents."""

from __future__ import annotations

import ipaddress

from bridge.cli.find import client_of
from bridge.cli.shared import FAILED, WRONG_USAGE, stop
from bridge.config import Config, host_and_port


async def serve_agents(settings: Config, name: str, http: str | None, token: str | None) -> int:
    """Serve agents as a client of the bridge; returns the exit status."""
    try:
        from bridge.agents.server import Agents  # noqa: PLC0415 - an extra
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in ("mcp", "mcp_types", "uvicorn", "anyio"):
            raise
        stop("mcp needs the MCP SDK: pip install 'comfy2mqtt[mcp]'", FAILED)
    at = None if http is None else _address(http, token)
    async with client_of(settings, name) as client:
        agents = Agents(client)
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
