"""The integration's update entities in a whole Home Assistant, at a group of real bridges.

Their ComfyUIs are programs that answer as one does, from a local git repository and package index.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bridge.mosquitto import Mosquitto
from tests.comfyui.test_managed import Repository
from tests.comfyui.test_updates import main
from tests.comfyui.worlds import World, whole_world, world
from tests.conftest import StartBridge
from tests.end_to_end.conftest import journal
from tests.end_to_end.group import LEASE_S
from tests.end_to_end.test_comfyui_updates import UPDATE, managing, releases
from tests.peers.homeassistant_integration.environment import Place
from tests.peers.homeassistant_integration.server import Server, serving, set_up
from tests.support.peer import Peer

__all__ = ["journal", "whole_world", "world"]  # fixtures
pytestmark = [
    pytest.mark.peers,
    pytest.mark.postgresql,
    pytest.mark.slow,
    pytest.mark.timeout(900),
]


@pytest.fixture
async def repository(
    world: World, bridges: StartBridge, journal: str, tmp_path: Path
) -> Repository:
    """The releases that two running bridges of a group find."""
    found = releases(tmp_path)
    together = {"journal": journal, "lease_s": LEASE_S, "comfyui_updates": "true"}
    for name in ("a", "b"):
        await managing(world, bridges, found, tmp_path / name, member=name, **together)
    return found


async def shown(server: Server, name: str, state: str, **attributes: Any) -> Any:
    """Wait until a ComfyUI's update is in a state, with these attributes; return them all."""

    async def is_it() -> Any:
        known = (await server.entities()).get(f"bridge-release-{name}-default")
        found = None if known is None else await server.state(known["entity_id"])
        if found is None or found["state"] != state:
            return None
        is_there = attributes.items() <= found["attributes"].items()
        return found if is_there else None

    return await server.until(is_it)


async def test_each_comfyui_of_a_group_is_updated_by_a_click(
    place: Place, repository: Repository, broker: Mosquitto, tmp_path: Path
) -> None:
    assert broker.port is not None
    with place.sources() as sources:
        async with (
            serving(place, sources, tmp_path / "home.log") as server,
            Peer(broker.url, client="operator") as peer,
        ):
            await set_up(server, broker.port, discovery=False)

            async def click(entity: dict[str, Any], **data: Any) -> None:
                await server.call("update.install", entity_id=entity["entity_id"], **data)

            for name in ("a", "b"):
                await shown(server, name, "off", installed_version="0.9.0", latest_version="0.9.0")
            repository.release("v0.10.0", main("0.10.0"))
            peer.publish(UPDATE, {"install": False})
            first, second = [
                await shown(server, name, "on", latest_version="0.10.0") for name in ("a", "b")
            ]
            assert second["attributes"]["title"] == "ComfyUI"
            await click(second)
            await shown(server, "b", "off", installed_version="0.10.0", in_progress=False)
            await shown(server, "a", "on", installed_version="0.9.0", in_progress=False)
            # One that a person names.
            await click(first, version="0.10.0")
            await shown(server, "a", "off", installed_version="0.10.0", in_progress=False)
            # One that does not start says so, there alone.
            repository.release("v0.11.0", main("0.11.0", start="no card"))
            peer.publish(UPDATE, {"install": False})
            first, second = [
                await shown(server, name, "on", latest_version="0.11.0") for name in ("a", "b")
            ]
            await click(first)

            async def failed() -> Any:
                found = await shown(server, "a", "on", installed_version="0.10.0")
                return found["attributes"]["release_summary"]

            assert "0.11.0 is not installed" in await server.until(failed)
            await shown(server, "a", "on", in_progress=False)
            found = await shown(server, "b", "on", in_progress=False)
            assert found["attributes"]["release_summary"] is None
