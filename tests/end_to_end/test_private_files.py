"""A running bridge's files are for its own user alone."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

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
