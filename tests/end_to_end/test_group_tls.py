"""A group of bridges whose broker speaks TLS."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bridge.mosquitto import Mosquitto
from tests.end_to_end.group import Start
from tests.support.certificate import make_certificate
from tests.support.patience import PATIENCE_S
from tests.support.peer import Peer
from tests.support.websockets import free_port, listening

pytestmark = [pytest.mark.comfyui, pytest.mark.postgresql]


class WithTls(Mosquitto):
    """A mosquitto that takes MQTT over TLS, too."""

    def __init__(self, folder: Path, certificate: Path) -> None:
        super().__init__(folder)
        self.certificate = certificate
        self.tls_port = free_port()

    @property
    def tls_url(self) -> str:
        return f"mqtts://localhost:{self.tls_port}"

    def _write_configuration(self, port: int) -> Path:
        path = super()._write_configuration(port)
        with path.open("a") as configuration:
            configuration.write(
                f"listener {self.tls_port} 127.0.0.1\n"
                f"certfile {self.certificate}\n"
                f"keyfile {self.certificate.with_name('key.pem')}\n"
            )
        return path


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[WithTls]:
    async with WithTls(tmp_path / "mosquitto", make_certificate(tmp_path)) as broker:
        await listening(broker.tls_port)
        yield broker


async def test_a_standby_takes_over_once_the_file_that_was_missing_then_is_back(
    start: Start, broker: WithTls, tmp_path: Path
) -> None:
    trusted, away = tmp_path / "trusted.pem", tmp_path / "away.pem"
    trusted.write_bytes(broker.certificate.read_bytes())
    settings = {"mqtt_url": broker.tls_url, "mqtt_ca": trusted}
    a = await start("a", **settings)
    b = await start("b", **settings)
    trusted.rename(away)
    await a.kill()
    reason = f"the CA file {trusted} cannot be used: No such file or directory"
    async with asyncio.timeout(PATIENCE_S):
        while reason not in b.log:
            assert not b.has_ended
            await asyncio.sleep(0.05)
    away.rename(trusted)
    async with Peer(broker.url) as peer:
        await peer.listen()
        assert (await peer.ask("list"))["status"] == "ok"
    assert await b.stop() == 0
