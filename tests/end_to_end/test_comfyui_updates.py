"""A bridge that updates its ComfyUI: a real one, from a local git repository and package index.

The ComfyUI is a program that answers as one does, so that no torch has to be installed.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from bridge.mosquitto import Mosquitto
from tests.comfyui.test_managed import Repository, manager
from tests.comfyui.test_updates import main
from tests.comfyui.worlds import World, whole_world, world
from tests.conftest import StartBridge
from tests.end_to_end.group import BRIDGE
from tests.end_to_end.test_by_hand import output_of
from tests.support.bridge import BridgeProcess
from tests.support.peer import Message, Peer

__all__ = ["whole_world", "world"]  # fixtures
pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.timeout(300)]

UPDATE = f"{BRIDGE}/request/comfyui/update"
ANSWER = f"{BRIDGE}/response/comfyui/update"


class Updated(NamedTuple):
    """A bridge with ComfyUI 0.9.0, and the repository that it is updated from."""

    bridge: BridgeProcess
    repository: Repository


async def updated(world: World, bridges: StartBridge, tmp_path: Path, **settings: Any) -> Updated:
    """Start a bridge that looks for releases."""
    repository = releases(tmp_path)
    bridge = await managing(world, bridges, repository, tmp_path / "bridge", **settings)
    return Updated(bridge, repository)


def releases(tmp_path: Path) -> Repository:
    """Make a repository with one release of ComfyUI."""
    repository = Repository(tmp_path / "repository")
    repository.release("v0.9.0", main("0.9.0"))
    return repository


async def managing(
    world: World, bridges: StartBridge, repository: Repository, folder: Path, **settings: Any
) -> BridgeProcess:
    """Start a bridge with the newest release, in its folder, which is called as the bridge."""
    await manager(world, repository, folder / "data" / "managed").install(None)
    bridge: BridgeProcess = await bridges(
        folder.name,
        comfyui_repository=str(repository.folder),
        # Nobody is asked: pip has its packages from a folder. With an index less room is needed.
        comfyui_torch_index="http://127.0.0.1:9",
        **settings,
    )
    return bridge


def says(**wanted: Any) -> Any:
    """Return whether a ComfyUI's state says so of its releases."""

    def is_it(message: Message) -> bool:
        found = message.json.get("release", {})
        return all(found.get(name) == value for name, value in wanted.items())

    return is_it


async def shell(broker: Mosquitto, *words: str, status: int = 0) -> str:
    """Run a command of ours, and return what it printed."""
    command = (sys.executable, "-m", "bridge", *words, "--mqtt-url", broker.url)
    return await output_of(*command, status=status)


async def test_a_release_is_found_installed_and_used_also_after_a_restart(
    world: World, bridges: StartBridge, broker: Mosquitto, tmp_path: Path
) -> None:
    bridge, repository = await updated(
        world, bridges, tmp_path, comfyui_updates="true", homeassistant="true"
    )
    state = f"{BRIDGE}/comfyui/default"
    async with Peer(broker.url, client="operator") as peer:
        await peer.subscribe(f"{BRIDGE}/#", "homeassistant/#")
        device = await peer.next("homeassistant/device/comfy2mqtt-bridge/config")
        found = device.json["components"]["release-default"]
        assert (found["platform"], found["state_topic"]) == ("update", state)
        await peer.next(state, says(installed="0.9.0", latest="0.9.0"))
        # There is nothing to install yet.
        peer.publish(found["command_topic"], found["payload_install"])
        assert (await peer.next(ANSWER)).json["error"]["code"] == "conflict"

        repository.release("v0.10.0", main("0.10.0"))
        peer.publish(UPDATE, {"install": False})
        assert (await peer.next(ANSWER)).json["status"] == "ok"
        await peer.next(state, says(installed="0.9.0", latest="0.10.0"))
        doctor = (
            "doctor",
            "--workflows",
            str(bridge.workflows),
            "--data",
            str(bridge.settings["data"]),
        )
        # The program that answers as ComfyUI does asks for no secret.
        told = await shell(broker, *doctor, status=1)
        assert "its ComfyUI 'default' is release 0.9.0; 0.10.0 is out" in told
        assert "-> comfy2mqtt comfyui update" in told
        peer.publish(found["command_topic"], found["payload_install"])
        assert (await peer.next(ANSWER)).json["status"] == "ok"
        # The steps after it may be over before they are published.
        installing = await peer.next(state, says(step="installing"))
        assert (installing.json["state"], installing.json["version"]) == ("ready", "0.9.0")
        there = says(installed="0.10.0", latest="0.10.0", step=None)
        now = await peer.next(state, lambda m: there(m) and m.json["state"] == "ready")
        assert now.json["version"] == "0.10.0"

        # One that does not start costs nothing but a moment.
        repository.release("v0.11.0", main("0.11.0", start="no card"))
        # From the shell, as an operator does it.
        looked = await shell(broker, "comfyui", "update", "--look")
        assert "its ComfyUI 'default' is release 0.10.0, the newest" in looked
        await peer.next(state, says(installed="0.10.0", latest="0.11.0"))
        begun = await shell(broker, "comfyui", "update", "0.11.0", "--instance", "default")
        assert "it is installed now" in begun
        await peer.next(state, says(step="installing"))
        # States of before, which nobody has waited for, are without an error.
        failed = await peer.next(state, lambda m: "error" in m.json.get("release", {}))
        assert "0.11.0 is not installed" in failed.json["release"]["error"]
        assert says(installed="0.10.0", step=None)(failed)
        told = await shell(broker, *doctor, status=1)
        assert "BAD  its ComfyUI 'default' is release 0.10.0: 0.11.0 is not installed" in told

    await bridge.kill()
    await bridge.start()
    async with Peer(broker.url, client="later") as peer:
        await peer.subscribe(state)
        assert (await peer.next(state)).json["version"] == "0.10.0"


async def test_without_the_setting_no_repository_is_asked_and_no_release_installed(
    world: World, bridges: StartBridge, broker: Mosquitto, tmp_path: Path
) -> None:
    await updated(world, bridges, tmp_path, homeassistant="true")
    async with Peer(broker.url, client="operator") as peer:
        await peer.subscribe(f"{BRIDGE}/#", "homeassistant/#")
        device = await peer.next("homeassistant/device/comfy2mqtt-bridge/config")
        assert "release-default" not in device.json["components"]
        for order in ({}, {"install": False}, {"version": "0.9.0"}):
            peer.publish(UPDATE, order)
            assert (await peer.next(ANSWER)).json["error"]["code"] == "forbidden"
        assert "release" not in (await peer.next(f"{BRIDGE}/comfyui/default")).json
