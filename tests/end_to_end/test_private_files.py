"""A running bridge's files are for its own user alone."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from bridge import private
from bridge.config import IN_DATA
from bridge.mosquitto import Mosquitto
from tests.conftest import StartBridge
from tests.end_to_end import graphs
from tests.support.peer import Peer

pytestmark = pytest.mark.broker


def modes(folder: Path) -> dict[str, int]:
    return {
        str(path.relative_to(folder)): stat.S_IMODE(path.lstat().st_mode)
        for path in (folder, *folder.rglob("*"))
    }


async def test_journal_blobs_and_logs_are_for_the_bridges_user_alone(
    detached: StartBridge, broker: Mosquitto
) -> None:
    bridge = await detached({"colour": graphs.colour()})
    async with Peer(broker.url) as peer:
        await peer.listen()
        for name, size in (("small", 100), ("large", 200_000)):
            assert (await peer.ask(f"upload/{name}", b"a text " * (size // 7)))["status"] == "ok"
    found = modes(bridge.folder / "data")
    assert "journal.db" in found
    assert any(name.startswith("blobs/") for name in found)
    assert {name: oct(mode) for name, mode in found.items() if mode & 0o077} == {}


async def test_a_folder_that_was_open_is_known_by_all_that_a_bridge_makes(
    detached: StartBridge, broker: Mosquitto
) -> None:
    """With what it makes only for some settings; another name would leave the folder open."""
    settings = {
        "homeassistant": "true",
        "websocket_listen": "127.0.0.1:0",
        "public_url": "http://127.0.0.1:8090",
        "comfyui_gpu": "card",
        "display": [{"name": "hall", "clients": ["*"]}],
    }
    bridge = await detached({"colour": graphs.colour()}, **settings)
    async with Peer(broker.url) as peer:
        await peer.listen()
        assert (await peer.ask("upload/large", b"a text " * 30_000))["status"] == "ok"
    await bridge.stop()
    folder = bridge.folder / "data"
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    private.claim(folder, IN_DATA)
    assert {name: oct(mode) for name, mode in modes(folder).items() if mode & 0o077} == {}
