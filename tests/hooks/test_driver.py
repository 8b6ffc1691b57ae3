"""Hooks and locks of a real bridge on a real broker; its ComfyUI is away: jobs only wait."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from bridge.mosquitto import Mosquitto
from tests.conftest import StartBridge
from tests.end_to_end import graphs
from tests.end_to_end.test_operator import BRIDGE, Operator
from tests.support.bridge import BridgeProcess
from tests.support.patience import PATIENCE_S
from tests.support.peer import Message, Peer

pytestmark = pytest.mark.broker

GPU = f"{BRIDGE}/gpu/card"


@pytest.fixture
async def peer(broker: Mosquitto) -> AsyncIterator[Peer]:
    async with Peer(broker.url) as peer:
        await peer.listen()
        await peer.subscribe(f"{BRIDGE}/#", "house/#")
        yield peer


async def lease(peer: Peer, holder: str | None, **fields: Any) -> Any:
    """Wait until this one has the GPU, as it is published, and return all that is said."""

    def fits(message: Message) -> bool:
        if not message.payload:
            return False
        said = message.json
        return bool(said.get("holder") == holder and said.items() >= fields.items())

    return (await peer.next(GPU, fits)).json


async def reason(peer: Peer, job_id: str, text: str) -> None:
    """Wait until a job says that it waits for this."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            said = (await peer.ask("status", job_id))["data"].get("reason", "")
            if text in said:
                return
            await asyncio.sleep(0.05)


async def hooks(peer: Peer, name: str, **fields: Any) -> Any:
    """Wait until the health of the bridge says this of a hook."""
    found = await peer.next(
        f"{BRIDGE}/health",
        lambda message: message.json.get("hooks", {}).get(name, {}).items() >= fields.items(),
    )
    return found.json["hooks"][name]


async def with_lock(detached: StartBridge, **settings: Any) -> BridgeProcess:
    process: BridgeProcess = await detached(
        {"colour": graphs.colour()}, comfyui_gpu="card", **settings
    )
    return process


async def test_a_program_asks_for_the_gpu_and_gives_it_back(
    detached: StartBridge, peer: Peer
) -> None:
    await with_lock(detached)
    operator = Operator(peer)
    await lease(peer, None)
    given = await operator.done("gpu/request", {"holder": "games", "for_s": 3600})
    assert (given["done"], given["lease"]["holder"]) == (True, "games")
    said = await lease(peer, "games")
    assert 3590 < said["until"] - said["since"] <= 3600
    await peer.ask("run/colour/j1")
    await reason(peer, "j1", "ComfyUI default waits for GPU 'card', which 'games' has")
    await lease(peer, "games", waiting=[{"holder": "bridge", "priority": 0}])
    assert (await operator.done("gpu/release", b"games"))["done"]
    await lease(peer, "bridge")
    await reason(peer, "j1", "ComfyUI default is unreachable")
    assert not (await operator.done("gpu/release", b"games"))["done"]


async def test_two_that_ask_at_once_get_it_one_after_the_other(
    detached: StartBridge, broker: Mosquitto, peer: Peer
) -> None:
    await with_lock(detached)
    await lease(peer, None)
    topic = f"{BRIDGE}/request/gpu/request"
    async with Peer(broker.url) as other:
        for each, name in ((peer, "one"), (other, "two")):
            each.publish(topic, {"holder": name, "priority": 5})
        first = (await peer.next(f"{BRIDGE}/response/gpu/request")).json["data"]
        second = (await peer.next(f"{BRIDGE}/response/gpu/request")).json["data"]
    assert (first["done"], second["done"]) == (True, False)
    holder, next_one = first["lease"]["holder"], second["lease"]["waiting"][0]["holder"]
    assert {holder, next_one} == {"one", "two"}
    operator = Operator(peer)
    await operator.done("gpu/release", {"holder": holder})
    await lease(peer, next_one, waiting=[])


async def test_what_is_retained_malformed_or_meant_to_harm_changes_nothing(
    detached: StartBridge, peer: Peer
) -> None:
    await with_lock(detached)
    await lease(peer, None)
    operator = Operator(peer)
    verb = "gpu/request"
    assert await operator.refused(verb, {"holder": "games"}, retain=True) == "bad_request"
    assert await operator.refused(verb, b'{"holder": "ga') == "bad_request"
    assert await operator.refused(verb, b"\xff\xfe") == "bad_request"
    assert await operator.refused(verb, b"") == "bad_request"
    assert await operator.refused(verb, b"[" * 9999) == "bad_request"
    assert await operator.refused(verb, {"holder": "bridge"}) == "bad_request"
    assert await operator.refused(verb, {"holder": "a/#"}) == "bad_request"
    assert await operator.refused(verb, {"holder": "games", "for_s": 1e300}) == "bad_request"
    assert await operator.refused(verb, {"holder": "games", "gpu": "other"}) == "bad_request"
    assert await operator.refused(verb, b"games", ResponseTopic="house/x") == "forbidden"
    # What somebody else retains where the bridge publishes is no lease.
    peer.publish(f"{BRIDGE}/gpu/other", {"gpu": "other", "holder": "games"}, retain=True)
    peer.publish(GPU, {"gpu": "card", "holder": "games", "until": 9e9}, retain=True)
    given = await operator.done(verb, {"holder": "films"})
    assert (given["done"], given["lease"]["holder"]) == (True, "films")
    for number in range(100):
        await operator.done(verb, {"holder": f"p{number}"})
    assert await operator.refused(verb, {"holder": "too-many"}) == "busy"


async def test_without_a_name_there_is_no_lock(detached: StartBridge, peer: Peer) -> None:
    await detached({"colour": graphs.colour()})
    assert await Operator(peer).refused("gpu/request", b"games") == "bad_request"


async def test_a_bridge_that_is_killed_has_no_lease_and_loses_nobody_elses(
    detached: StartBridge, broker: Mosquitto, peer: Peer
) -> None:
    bridge = await with_lock(detached)
    operator = Operator(peer)
    await peer.ask("run/colour/j1")
    held = await lease(peer, "bridge")
    # A program need not know that the bridge died: the broker drops it, and it says so itself.
    assert held["until"] - held["since"] <= 61
    await bridge.kill()
    async with Peer(broker.url) as late:
        await late.subscribe(GPU)
        kept = await late.next(GPU)
        assert 0 < kept.properties["MessageExpiryInterval"] <= 60
    await bridge.start(ready=False)
    await lease(peer, "bridge")  # its job waits still
    waiting = await operator.done("gpu/request", {"holder": "games", "priority": 9})
    assert not waiting["done"]
    given = await lease(peer, "games")  # nothing runs there: at once
    await operator.done("gpu/request", {"holder": "films", "priority": 9})
    await bridge.kill()
    await bridge.start(ready=False)
    films = [{"holder": "films", "priority": 9}, {"holder": "bridge", "priority": 0}]
    again = await lease(peer, "games", waiting=films)
    assert abs(again["until"] - given["until"]) < 5
    await reason(peer, "j1", "which 'games' has")


async def test_a_bridge_that_stops_gives_its_gpu_back(
    detached: StartBridge, broker: Mosquitto, peer: Peer
) -> None:
    bridge = await with_lock(detached)
    await peer.ask("run/colour/j1")
    await lease(peer, "bridge")
    assert await bridge.stop() == 0
    await lease(peer, None)
    async with Peer(broker.url) as late:
        await late.subscribe(GPU)
        assert "holder" not in (await late.next(GPU)).json


async def test_an_mqtt_hook_is_answered_and_then_the_job_goes_on(
    detached: StartBridge, peer: Peer
) -> None:
    call = {"topic": "house/gpu", "payload": {"free": 1}, "answer": "house/told", "expect": "ok"}
    hook = {"name": "house", "before_busy": call, "on_error": "wait"}
    peer.publish("house/told", b"ok", retain=True)  # it answers nobody
    await detached({"colour": graphs.colour()}, hook=[hook])
    await peer.ask("run/colour/j1")
    asked = await peer.next("house/gpu")
    assert asked.json == {"free": 1}
    await reason(peer, "j1", "ComfyUI default waits for hook 'house'")
    correlation = asked.properties["CorrelationData"]
    assert asked.properties["ResponseTopic"] == "house/told"
    peer.publish("house/told", b"ok", CorrelationData=b"another call's")
    peer.publish("house/told", b"no\nroom", CorrelationData=correlation)
    failed = await hooks(peer, "house", state="preparing")
    while "error" not in failed:
        failed = await hooks(peer, "house", state="preparing")
    assert failed["error"] == "house/told: answered 'no room', not 'ok'"
    await reason(peer, "j1", "hook 'house', which fails and is called again: house/told: answered")
    await peer.next("house/gpu")
    peer.publish("house/told", b"ok")  # as a program without MQTT 5 does
    await hooks(peer, "house", state="busy")
    await reason(peer, "j1", "ComfyUI default is unreachable")


async def test_a_hook_that_never_answers_is_waited_for_no_longer_than_it_may(
    detached: StartBridge, broker: Mosquitto, peer: Peer
) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()  # until the other side has had enough
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    url = "http://{}:{}".format(*server.sockets[0].getsockname())
    hook = {"name": "llm", "preset": "ollama", "url": url, "timeout_s": 0.2}
    async with server:
        bridge = await detached({"colour": graphs.colour()}, hook=[hook])
        await peer.ask("run/colour/j1")
        told = await hooks(peer, "llm", state="busy")
        assert told["error"] == "no answer within 0.2 s"
        await reason(peer, "j1", "ComfyUI default is unreachable")
        environment = {
            "COMFY2MQTT_MQTT_URL": broker.url,
            "COMFY2MQTT_COMFYUI_URL": "http://127.0.0.1:9",
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "COMFY2MQTT_DATA": str(bridge.folder / "data"),
        }
        doctor = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "bridge", "doctor"),
            stdout=asyncio.subprocess.PIPE,
            env=environment,
        )
        said, _ = await doctor.communicate()
        assert b"its hook 'llm' is busy: no answer within 0.2 s" in said
        await bridge.kill()


async def test_what_a_killed_bridge_had_prepared_its_next_start_gives_back(
    detached: StartBridge, peer: Peer
) -> None:
    hook = {
        "name": "house",
        "before_busy": {"topic": "house/busy"},
        "after_idle": {"topic": "house/idle"},
        "idle_s": 0,
    }
    bridge = await detached({"colour": graphs.colour()}, hook=[hook])
    await peer.ask("run/colour/j1")
    await peer.next("house/busy")
    await bridge.kill()
    state = json.loads(await asyncio.to_thread((bridge.folder / "data/hooks.json").read_bytes))
    assert state["prepared"] == ["house"]
    peer.request("cancel", "j1")  # the broker keeps it for the bridge
    await bridge.start(ready=False)
    await peer.result("j1")
    await peer.next("house/idle")
    await hooks(peer, "house", state="idle")


async def test_a_bridge_that_stops_gives_back_what_it_had_prepared(
    detached: StartBridge, peer: Peer
) -> None:
    hook = {"name": "house", "after_idle": {"topic": "house/idle"}, "idle_s": 3600}
    sleeps = {"name": "sleep", "after_idle": {"command": ["touch", "asleep"]}, "idle_s": 3600}
    bridge = await detached({"colour": graphs.colour()}, hook=[hook, sleeps])
    await peer.ask("run/colour/j1")
    await hooks(peer, "sleep", state="busy")
    assert await bridge.stop() == 0
    await peer.next("house/idle")
    # Who starts it again would have to wake the machine.
    assert not await asyncio.to_thread((bridge.folder / "asleep").exists)


async def test_a_file_of_an_earlier_process_that_is_damaged_costs_one_line(
    detached: StartBridge, peer: Peer
) -> None:
    bridge = await with_lock(detached)
    await lease(peer, None)
    await Operator(peer).done("gpu/request", b"games")
    await lease(peer, "games")
    await bridge.kill()
    await asyncio.to_thread(
        (bridge.folder / "data/hooks.json").write_bytes, b'{"prepared": ["\xff"]}'
    )
    await bridge.start(ready=False)
    await lease(peer, None)
    assert "it is ignored" in bridge.log
