from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from bridge.mosquitto import Mosquitto
from tests.conftest import StartBridge
from tests.end_to_end.group import BRIDGE, LEASE_S, WORKFLOWS, Start, is_usable, member
from tests.support.bridge import BridgeProcess
from tests.support.comfyui import Server
from tests.support.peer import Peer
from tests.support.postgresql import PostgreSQL


@pytest.fixture
def journal(postgresql: PostgreSQL) -> Iterator[str]:
    """An empty database for a group of bridges."""
    with postgresql.database() as address:
        yield address


@pytest.fixture
async def watcher(broker: Mosquitto) -> AsyncIterator[Peer]:
    """Receives all that bridges publish of themselves."""
    async with Peer(broker.url, client="watcher") as peer:
        await peer.subscribe(f"{BRIDGE}/#")
        yield peer


@pytest.fixture
def start(journal: str, bridges: StartBridge, comfyui: Server, watcher: Peer) -> Start:
    """Starts a bridge of the group, and waits until it can work: `start("a")`.

    It is attached to the tests' ComfyUI, unless the settings name another one or one of its own.
    """

    async def start(
        name: str,
        *,
        workflows: dict[str, Any] = WORKFLOWS,
        environment: dict[str, str] | None = None,
        **settings: Any,
    ) -> BridgeProcess:
        where: dict[str, Any] = {}
        if not settings.keys() & {"comfyui_url", "comfyui_path"}:
            where = {"comfyui_url": comfyui.url, "comfyui_secret": comfyui.secret}
        member_of = {"journal": journal, "member": name, "lease_s": LEASE_S}
        given = {**member_of, **where, **settings}
        bridge: BridgeProcess = await bridges(name, start=False, workflows=workflows, **given)
        bridge.environment.update(environment or {})
        await bridge.start(ready=False)
        await member(watcher, name, b"online")
        await watcher.next(f"{BRIDGE}/comfyui/{name}-default", is_usable)
        online = await watcher.next(f"{BRIDGE}/state", lambda m: m.payload == b"online")
        watcher.repeat(online)  # for the next bridge, too
        return bridge

    return start
