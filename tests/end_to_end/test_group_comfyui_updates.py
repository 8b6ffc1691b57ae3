"""Updates of ComfyUI in a group of bridges, each of which has an install of its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.comfyui.test_updates import main
from tests.comfyui.worlds import World, whole_world, world
from tests.conftest import StartBridge
from tests.end_to_end.group import BRIDGE, LEASE_S, member
from tests.end_to_end.test_comfyui_updates import ANSWER, UPDATE, managing, releases, says
from tests.support.bridge import BridgeProcess
from tests.support.peer import Message, Peer

__all__ = ["whole_world", "world"]  # fixtures
pytestmark = [
    pytest.mark.broker,
    pytest.mark.postgresql,
    pytest.mark.slow,
    pytest.mark.timeout(300),
]

Join = Callable[[str], Awaitable[BridgeProcess]]


def state(name: str) -> str:
    return f"{BRIDGE}/comfyui/{name}-default"


def runs(version: str, **release: Any) -> Callable[[Message], bool]:
    """Return whether a ComfyUI is ready with a release, and nothing is being installed."""
    is_shown = says(installed=version, step=None, **release)

    def is_it(message: Message) -> bool:
        found = message.json
        is_there = (found["state"], found.get("version")) == ("ready", version)
        return is_there and bool(is_shown(message))

    return is_it


async def test_each_bridge_of_a_group_updates_its_own_comfyui(
    world: World, bridges: StartBridge, journal: str, watcher: Peer, tmp_path: Path
) -> None:
    repository = releases(tmp_path)
    together = {"journal": journal, "lease_s": LEASE_S, "comfyui_updates": "true"}
    a, _ = [
        await managing(world, bridges, repository, tmp_path / name, member=name, **together)
        for name in ("a", "b")
    ]
    for name in ("a", "b"):
        await watcher.next(state(name), runs("0.9.0", latest="0.9.0"))

    # All look where none is named, and one answers.
    repository.release("v0.10.0", main("0.10.0"))
    watcher.publish(UPDATE, {"install": False})
    assert (await watcher.next(ANSWER)).json["status"] == "ok"
    for name in ("a", "b"):
        await watcher.next(state(name), runs("0.9.0", latest="0.10.0"))

    # The one that is named is updated alone, whichever bridge takes requests.
    before = len(watcher.all(state("a")))
    watcher.publish(UPDATE, {"instance": "b-default"})
    assert list((await watcher.next(ANSWER)).json["data"]["instances"]) == ["b-default"]
    await watcher.next(state("b"), runs("0.10.0", latest="0.10.0"))
    since = watcher.all(state("a"))[before:]
    assert all(runs("0.9.0", latest="0.10.0")(each) for each in since)

    # A bridge that is killed while it installs has the release before, and the group works.
    watcher.publish(UPDATE, {"instance": "a-default"})
    await watcher.next(state("a"), says(step="installing"))
    await a.kill()
    await member(watcher, "a", b"offline")
    await a.start(ready=False)
    await watcher.next(state("a"), runs("0.9.0", latest="0.10.0"))

    # All are updated where none is named.
    repository.release("v0.11.0", main("0.11.0"))
    watcher.publish(UPDATE, {"install": False})
    for name in ("a", "b"):
        await watcher.next(state(name), says(latest="0.11.0"))
    watcher.publish(UPDATE, {})
    for name in ("a", "b"):
        await watcher.next(state(name), runs("0.11.0", latest="0.11.0"))
    # Each command was answered once.
    assert [each.json["status"] for each in watcher.all(ANSWER)] == ["ok"] * 5
