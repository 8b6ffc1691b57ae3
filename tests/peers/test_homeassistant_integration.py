"""The integration in the newest Home Assistant, where there is or can be a Python for it.

By its own checks with a bridge that does what is wanted of it, by Home Assistant's types, and once
with everything real.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge.mosquitto import Mosquitto
from tests.comfyui.test_updates import main
from tests.comfyui.worlds import World, whole_world, world
from tests.conftest import StartBridge
from tests.end_to_end import graphs
from tests.end_to_end.conftest import journal, start, watcher
from tests.end_to_end.group import Start
from tests.end_to_end.test_comfyui_updates import Updated, updated
from tests.peers.homeassistant_integration import environment
from tests.peers.homeassistant_integration.environment import Place
from tests.peers.test_homeassistant import Control, home, photo
from tests.support.bridge import BridgeProcess
from tests.support.confined import Confined
from tests.support.peer import Peer

__all__ = ["journal", "start", "watcher", "whole_world", "world"]  # fixtures
pytestmark = [pytest.mark.peers, pytest.mark.timeout(900)]

# The bound rises with the figure.
COVERED_PERCENT = "98"
HERE = Path("tests") / "peers" / "homeassistant_integration"


@pytest.fixture
def sources(place: Place) -> Iterator[Path]:
    with place.sources() as folder:
        yield folder


def checks(place: Place, *words: str) -> tuple[str, ...]:
    """Return the command of a pytest in Home Assistant's environment."""
    return (place.python, "-m", "pytest", "-c", "pytest.ini", *words)


class ControlOfBoth(Control):
    """Stops and starts the broker, too."""

    def __init__(self, bridge: BridgeProcess, broker: Mosquitto) -> None:
        super().__init__(bridge)
        self._broker = broker

    async def _obey(self, order: str) -> Any:
        match order.split():
            case ["broker", "stop" | "start" as verb]:
                await getattr(self._broker, verb)()
                return None
        return await super()._obey(order)


class ControlOfReleases(Control):
    """Makes releases of ComfyUI, and has the bridge look for them."""

    def __init__(self, stand: Updated) -> None:
        super().__init__(stand.bridge)
        self._repository = stand.repository

    async def _obey(self, order: str) -> Any:
        match order.split():
            case ["release", version, *faults]:
                program = main(version, start="no card" if faults else "")
                await asyncio.to_thread(self._repository.release, f"v{version}", program)
                async with Peer(self._bridge.settings["mqtt_url"], client="operator") as peer:
                    peer.publish("comfy2mqtt/bridge/request/comfyui/update", {"install": False})
                return None
        return await super()._obey(order)


class ControlOfExpiry(Control):
    """Has a job end, and its result deleted: the bridge does that when it starts."""

    async def _obey(self, order: str) -> Any:
        match order.split():
            case ["expire", job_id]:
                async with Peer(self._bridge.settings["mqtt_url"], client="homeassistant") as peer:
                    await peer.listen()
                    await peer.ask("cancel", job_id)
                    # Its result may expire at the broker before it is delivered.
                    while (await self._job(peer, job_id))["state"] != "cancelled":
                        pass
                    await self._bridge.stop()
                    await self._bridge.start(ready=False)
                    while "result" in await self._job(peer, job_id):
                        pass
                return None
        return await super()._obey(order)

    async def _job(self, peer: Peer, job_id: str) -> dict[str, Any]:
        return dict((await peer.ask("status", job_id))["data"])


class ControlOfGroup(Control):
    """Kills and starts the bridges of a group by their names."""

    def __init__(self, bridges: dict[str, BridgeProcess]) -> None:
        super().__init__(bridges["a"])
        self._bridges = bridges

    async def _obey(self, order: str) -> Any:
        match order.split():
            case ["kill", name]:
                await self._bridges[name].kill()
            case ["start", name]:
                await self._bridges[name].start(ready=False)
            case ["inputs", _, job_id]:
                return await super()._obey(f"inputs {job_id}")
            case _:
                raise AssertionError(order)
        return None


async def run(place: Place, folder: Path, log: Path, *args: str, **variables: str) -> None:
    with log.open("wb") as written:
        process = await asyncio.create_subprocess_exec(
            *place.command(folder, *args),
            env=environment.environment(**variables),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=written,
            stderr=written,
        )
        status = await process.wait()
    assert status == 0, (await asyncio.to_thread(log.read_text, errors="replace"))[-8000:]


async def test_it_does_what_it_should_whatever_the_bridge_does(
    place: Place, sources: Path, tmp_path: Path
) -> None:
    coverage = ("--cov", "custom_components.comfy2mqtt", "--cov-branch", "--cov-fail-under")
    await run(
        place,
        sources / HERE,
        tmp_path / "checks.log",
        *checks(place, "-n", "2", "--quiet", *coverage, COVERED_PERCENT),
    )


async def test_it_is_typed_by_home_assistants_own_types(
    place: Place, sources: Path, tmp_path: Path
) -> None:
    await run(
        place,
        sources,
        tmp_path / "types.log",
        *(place.python, "-m", "mypy", "--strict", "--python-version", environment.WANTED),
        *("--follow-imports", "silent", "--package", "custom_components.comfy2mqtt"),
    )


async def test_the_newest_home_assistant_takes_all_that_discovery_announces(
    place: Place, sources: Path, detached: StartBridge, broker: Mosquitto, tmp_path: Path
) -> None:
    demo = json.loads((Path("workflows") / "demo.json").read_text())
    many = home()
    styles = "\n".join(f"style{number}" for number in range(600))
    many["13"]["inputs"] |= {"value": "style0", "choices": styles}
    workflows = {"home": home(), "photo": photo(), "demo": demo, "many": many}
    bridge = await detached(workflows, homeassistant="true")
    async with ControlOfBoth(bridge, broker).serve() as port:
        await run(
            place,
            sources / HERE,
            tmp_path / "discovery.log",
            *checks(place, "--durations=8", "real_discovery.py"),
            COMFY2MQTT_TEST_BROKER=str(broker.port),
            COMFY2MQTT_TEST_CONTROL=str(port),
        )


async def test_a_result_that_the_bridge_keeps_no_longer_still_has_its_event(
    place: Place, sources: Path, detached: StartBridge, broker: Mosquitto, tmp_path: Path
) -> None:
    bridge = await detached({"home": home()}, keep_results_s="0.001")
    async with ControlOfExpiry(bridge).serve() as port:
        await run(
            place,
            sources / HERE,
            tmp_path / "expiry.log",
            *checks(place, "real_week.py"),
            COMFY2MQTT_TEST_BROKER=str(broker.port),
            COMFY2MQTT_TEST_CONTROL=str(port),
        )


# Jobs of anna's whose results the broker does not take.
WITHHELD = ("withheld1", "withheld2", "awaited")


class Withholding(Confined):
    """A broker whose ACL lets the bridge publish no result of some jobs."""

    def _write_configuration(self, port: int) -> Path:
        path = super()._write_configuration(port)
        lines = [f"topic deny comfy2mqtt/client/anna/job/{each}/result" for each in WITHHELD]
        with (self.files / "comfy2mqtt.acl").open("a") as acl:
            acl.write("\n".join(("", "user comfy2mqtt", *lines, "")))
        return path


async def test_a_broker_that_drops_what_is_asked_or_answered_loses_no_result(
    place: Place, sources: Path, detached: StartBridge, tmp_path: Path
) -> None:
    async with Withholding(tmp_path / "confined", "anna") as confined:
        await detached({"home": home()}, mqtt_url=confined.url_of("comfy2mqtt"))
        await run(
            place,
            sources / HERE,
            tmp_path / "acl.log",
            *checks(place, "real_acl.py"),
            COMFY2MQTT_TEST_BROKER=str(confined.port),
            COMFY2MQTT_TEST_USER="anna",
            COMFY2MQTT_TEST_PASSWORD=confined.password["anna"],
            COMFY2MQTT_TEST_WITHHELD=" ".join(WITHHELD),
        )


@pytest.mark.comfyui
async def test_a_real_home_assistant_finds_a_real_bridge_and_gets_pictures(
    place: Place, sources: Path, attached: StartBridge, broker: Mosquitto, tmp_path: Path
) -> None:
    demo = json.loads((Path("workflows") / "demo.json").read_text())
    workflows = {"home": home(), "photo": photo(), "slow": graphs.slow(2.0), "demo": demo}
    bridge = await attached(workflows, homeassistant="true")
    async with Control(bridge).serve() as port:
        await run(
            place,
            sources / HERE,
            tmp_path / "real.log",
            *checks(place, "-x", "real_run.py"),
            COMFY2MQTT_TEST_BROKER=str(broker.port),
            COMFY2MQTT_TEST_CONTROL=str(port),
        )


@pytest.fixture
async def stand(world: World, bridges: StartBridge, tmp_path: Path) -> Updated:
    """A bridge whose ComfyUI can be updated."""
    return await updated(world, bridges, tmp_path, comfyui_updates="true", homeassistant="true")


@pytest.mark.slow
async def test_a_real_home_assistant_offers_and_installs_releases_of_comfyui(
    place: Place, sources: Path, stand: Updated, broker: Mosquitto, tmp_path: Path
) -> None:
    async with ControlOfReleases(stand).serve() as port:
        await run(
            place,
            sources / HERE,
            tmp_path / "update.log",
            *checks(place, "-x", "--show-capture=no", "real_update.py"),
            COMFY2MQTT_TEST_BROKER=str(broker.port),
            COMFY2MQTT_TEST_CONTROL=str(port),
        )


@pytest.mark.comfyui
@pytest.mark.postgresql
async def test_a_real_home_assistant_misses_no_bridge_of_a_group(
    place: Place, sources: Path, start: Start, broker: Mosquitto, tmp_path: Path
) -> None:
    workflows = {"home": home(), "photo": photo()}
    bridges = {
        name: await start(name, workflows=workflows, homeassistant="true") for name in ("a", "b")
    }
    async with ControlOfGroup(bridges).serve() as port:
        await run(
            place,
            sources / HERE,
            tmp_path / "group.log",
            *checks(place, "-x", "--show-capture=no", "real_group.py"),
            COMFY2MQTT_TEST_BROKER=str(broker.port),
            COMFY2MQTT_TEST_CONTROL=str(port),
        )
