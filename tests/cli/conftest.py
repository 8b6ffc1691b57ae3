"""The command line on a bridge in memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from bridge.cli.main import main
from bridge.client import client as client_module
from bridge.client.testing import InMemoryBridge
from tests.support.definitions import PNG, definition


@pytest.fixture
def bridge(monkeypatch: pytest.MonkeyPatch) -> InMemoryBridge:
    bridge = InMemoryBridge()
    bridge.workflows["demo"] = definition("demo")
    bridge.outputs["demo"] = [("image/png", PNG)]
    monkeypatch.setattr(client_module, "connect_to", lambda _address: bridge.connect)
    return bridge


@pytest.fixture
def cli(
    bridge: InMemoryBridge, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., Result]:
    """Runs `comfy2mqtt ...` against the bridge in memory, in an empty folder."""
    del bridge
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COMFY2MQTT_MQTT_URL", "mqtt://nowhere")

    def call(*arguments: str, **options: Any) -> Result:
        return CliRunner().invoke(main, arguments, **options)

    return call
