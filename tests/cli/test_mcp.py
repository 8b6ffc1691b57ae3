"""`comfy2mqtt mcp`, as an agent's host starts it."""

from __future__ import annotations

import builtins
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from bridge.cli.main import main
from bridge.mosquitto import Mosquitto


@pytest.mark.broker
async def test_a_host_speaks_to_it_over_standard_input_and_output(
    broker: Mosquitto, tmp_path: Path
) -> None:
    import mcp  # noqa: PLC0415 - it takes more than a second

    started = mcp.StdioServerParameters(
        command=sys.executable,
        args=["-m", "bridge", "mcp", "--client", "agent", "--mqtt-url", broker.url],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        cwd=tmp_path,
    )
    async with mcp.Client(started) as found:
        assert (await found.list_tools()).tools == []


def test_the_sdk_is_an_extra_that_is_named_where_it_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    load = builtins.__import__

    def missing(name: str, *given: Any, **options: Any) -> Any:
        if name.partition(".")[0] in ("mcp", "mcp_types"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return load(name, *given, **options)

    monkeypatch.delitem(sys.modules, "bridge.agents.server", raising=False)
    monkeypatch.setattr(builtins, "__import__", missing)
    found = CliRunner().invoke(main, ["mcp"])
    assert found.exit_code == 1
    assert f'{sys.executable} -m pip install "comfy2mqtt[mcp]"' in found.stderr
    assert "Traceback" not in found.output


@pytest.mark.parametrize(
    ("where", "problem"), [("0.0.0.0:8765", "MCP_TOKEN"), ("here", "--http"), (":80", "MCP_TOKEN")]
)
def test_nobody_near_gets_the_clients_rights_for_nothing(where: str, problem: str) -> None:
    found = CliRunner().invoke(main, ["mcp", "--http", where])
    assert found.exit_code == 2
    assert problem in found.stderr
