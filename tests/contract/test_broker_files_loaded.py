"""The file for VerneMQ, which has mosquitto's format, read by a real mosquitto."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.contract.access import ForeignTopics
from bridge.contract.broker_files import BROKERS
from bridge.contract.topics import Topics
from tests.mqtt.conftest import Configured
from tests.support.brokers import keeps_clients_apart


@pytest.mark.broker
async def test_the_file_for_vernemq_keeps_clients_apart(tmp_path: Path) -> None:
    file = tmp_path / "vmq.acl"
    file.write_text(
        BROKERS["vernemq"].text(Topics(), [("comfy2mqtt", "bridge")], ForeignTopics(()))
    )
    file.chmod(0o600)
    lines = f"listener {{port}} 127.0.0.1\nallow_anonymous true\nacl_file {file}"
    async with Configured(tmp_path, lines) as broker:
        await keeps_clients_apart(lambda user: broker.url.replace("//", f"//{user}:any@"))
