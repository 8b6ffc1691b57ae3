"""A group of bridges whose broker refuses one of them."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bridge.mosquitto import Mosquitto, find_program
from tests.end_to_end.group import BRIDGE, Start, member
from tests.support.peer import Peer
from tests.support.tcpproxy import TcpProxy
from tests.support.websockets import free_port, listening

pytestmark = [pytest.mark.comfyui, pytest.mark.postgresql, pytest.mark.slow]


class WithPasswords(Mosquitto):
    """A mosquitto with a second listener, which wants a user and a password."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.guarded_port = free_port()
        self._passwords = folder / "passwords"

    async def set_password(self, user: str, password: str) -> None:
        """Set a user's password; a broker that runs has it once it has read its files again."""
        new = () if self._passwords.exists() else ("-c",)
        words = (*new, "-b", str(self._passwords), user, password)
        program = await find_program("mosquitto_passwd")
        process = await asyncio.create_subprocess_exec(program, *words)
        assert await process.wait() == 0

    def read_files(self) -> None:
        """Make it read its files again; it disconnects clients whose password is wrong now."""
        assert self.pid is not None
        os.kill(self.pid, signal.SIGHUP)

    def _write_configuration(self, port: int) -> Path:
        path = super()._write_configuration(port)
        path.write_text(
            f"per_listener_settings true\n{path.read_text()}\n"
            f"listener {self.guarded_port} 127.0.0.1\n"
            f"allow_anonymous false\npassword_file {self._passwords}\n"
        )
        return path


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[WithPasswords]:
    folder = tmp_path / "mosquitto"
    folder.mkdir()
    broker = WithPasswords(folder)
    for user in ("a", "b"):
        await broker.set_password(user, f"of-{user}")
    async with broker:
        await listening(broker.guarded_port)
        yield broker


async def test_the_requests_go_to_another_one_when_the_broker_or_the_network_refuses_one(
    start: Start, broker: WithPasswords
) -> None:
    async with (
        TcpProxy(f"http://127.0.0.1:{broker.guarded_port}") as network,
        Peer(broker.url) as peer,
    ):
        through = network.url.removeprefix("http://")
        a = await start("a", mqtt_url=f"mqtt://a:of-a@127.0.0.1:{broker.guarded_port}")
        b = await start("b", mqtt_url=f"mqtt://b:of-b@{through}")
        await peer.subscribe(f"{BRIDGE}/#")
        await peer.listen()
        await member(peer, "a", b"online")
        await broker.set_password("a", "another")
        broker.read_files()
        assert (await peer.ask("list"))["status"] == "ok"
        assert "the broker refused the connection: not authorised" in a.log
        assert "another bridge is to take the requests" in a.log
        assert "'b' receives the requests" in b.log

        await broker.set_password("a", "of-a")
        broker.read_files()
        await member(peer, "a", b"online")
        # Now the broker has wills to publish: this connection is not one that it ends itself.
        network.close()
        await member(peer, "b", b"offline")
        assert (await peer.ask("list"))["status"] == "ok"
        assert "another bridge is to take the requests" in b.log
        assert a.log.count("'a' receives the requests") == 2
        assert b"offline" not in [each.payload for each in peer.all(f"{BRIDGE}/state")]
