"""Each part ends in the middle of a job, and starts again, beside a whole Home Assistant.

With the integration, a bridge that starts its ComfyUI itself, and a broker. Home Assistant is a
process of its own, and is asked as its pages ask it.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from bridge.mosquitto import Mosquitto
from tests.conftest import StartBridge
from tests.end_to_end import graphs
from tests.end_to_end.test_faults import children, is_comfyui, is_running
from tests.end_to_end.test_supervision import with_faults
from tests.peers.homeassistant_integration.environment import Place
from tests.peers.homeassistant_integration.server import Server, serving, set_up
from tests.support.bridge import BridgeProcess
from tests.support.peer import Peer

pytestmark = [pytest.mark.peers, pytest.mark.comfyui, pytest.mark.timeout(900)]

CLIENT = "homeassistant"
TASK, EVENT, PICTURE = "ai_task.slow_painter", "event.slow_job_ended", "image.slow_last_picture"
STATUS = f"comfy2mqtt/client/{CLIENT}/job/+/status"
# Where an automation tells which job ended.
ENDED = "test/ended"


async def report_ends(server: Server, peer: Peer) -> None:
    """Add an automation that reports each job's end, by a trigger of the workflow's device."""
    trigger = {"trigger": "device", "domain": "comfy2mqtt", "device_id": await server.device(EVENT)}
    publish = {"topic": ENDED, "payload": "{{ trigger.event.data.job_id }}", "qos": 1}
    await server.automate(
        "ended",
        triggers=[{**trigger, "type": "job_succeeded"}],
        actions=[{"action": "mqtt.publish", "data": publish}],
    )
    await peer.subscribe(ENDED)


async def one_end_for_each(broker: Mosquitto, peer: Peer) -> None:
    """Assert that each job has succeeded, is acknowledged, and was reported once."""
    async with Peer(broker.url, client=CLIENT) as other:
        await other.listen()
        other.request("list", {"peek": True, "transaction": "test"})
        answer = await other.next(
            f"comfy2mqtt/client/{CLIENT}/response/list",
            lambda message: message.json.get("transaction") == "test",
        )
    jobs = {job["job_id"]: job for job in answer.json["data"]["jobs"]}
    assert all(job["state"] == "succeeded" and job["acked"] for job in jobs.values()), jobs
    tellings = Counter(message.payload.decode() for message in peer.all(ENDED))
    assert tellings == dict.fromkeys(jobs, 1)


async def two_wait(
    server: Server, broker: Mosquitto, happens: Callable[[], Awaitable[Any]]
) -> None:
    """Let an AI task and an action wait for jobs; something happens while the first one runs."""
    async with Peer(broker.url, client=CLIENT) as peer:
        await peer.subscribe(STATUS)
        words = {"task_name": "a barn", "instructions": "red", "entity_id": TASK}
        painted = asyncio.create_task(server.response("ai_task.generate_image", **words))
        made = asyncio.create_task(server.response("comfy2mqtt.run_slow", seed=7))
        await peer.next(STATUS, is_running)
    await happens()
    result = await made
    assert (result["state"], result["inputs"]) == ("succeeded", {"seed": 7})
    # The link is signed: nobody has to be signed in to follow it.
    data = await server.body("GET", (await painted)["url"], signed_in=False)
    with Image.open(io.BytesIO(data)) as picture:
        assert (picture.format, picture.size) == ("PNG", (64, 64))


async def test_no_part_that_ends_in_the_middle_of_a_job_costs_the_job_or_its_end(
    place: Place, bridges: StartBridge, broker: Mosquitto, tmp_path: Path
) -> None:
    settings = {**with_faults(tmp_path), "silence_s": 60}
    bridge: BridgeProcess = await bridges(workflows={"slow": graphs.slow(3.0)}, **settings)
    assert broker.port is not None
    with place.sources() as sources:
        async with serving(place, sources, tmp_path / "home.log") as server:
            await set_up(server, broker.port, discovery=False)
            await server.add_task("slow", "Painter")
            await server.until_state(TASK, "unknown")
            async with Peer(broker.url) as peer:
                await report_ends(server, peer)
                await two_wait(server, broker, lambda: comfyui_is_killed(bridge))
                await two_wait(server, broker, lambda: bridge_is_killed(bridge, server))
                for end in (server.stop, server.kill):
                    await home_assistant_ends(server, broker, peer, end)
                await one_end_for_each(broker, peer)
            async with AsyncExitStack() as stack:
                later: list[Peer] = []

                async def broker_is_killed() -> None:
                    await broker.kill()
                    await server.until_state(TASK, "unavailable")
                    await broker.start()
                    # At once: nobody else is connected yet.
                    later.append(await stack.enter_async_context(Peer(broker.url)))
                    await later[0].subscribe(ENDED)

                await two_wait(server, broker, broker_is_killed)
                tellings = [(await later[0].next(ENDED)).payload for _ in range(2)]
                assert len(set(tellings)) == len(later[0].all(ENDED)) == 2


async def comfyui_is_killed(bridge: BridgeProcess) -> None:
    (pid,) = (pid for pid in children(bridge.pid) if is_comfyui(pid))
    os.kill(pid, signal.SIGKILL)


async def bridge_is_killed(bridge: BridgeProcess, server: Server) -> None:
    await bridge.kill()
    await server.until_state(TASK, "unavailable")
    await bridge.start()


async def home_assistant_ends(
    server: Server, broker: Mosquitto, report_ends: Peer, end: Callable[[], Awaitable[None]]
) -> None:
    """A job ends while Home Assistant is away: its event and its picture are there afterwards."""
    async with Peer(broker.url, client=CLIENT) as peer:
        await peer.listen()
        await server.call("comfy2mqtt.run", workflow="slow")
        running = await peer.next(STATUS, is_running)
        await end()
        job_id = running.topic.split("/")[-2]
        result = await peer.result(job_id)
    assert result["state"] == "succeeded"
    assert not [each for each in report_ends.all(ENDED) if each.payload == job_id.encode()]
    await server.start()
    await report_ends.next(ENDED, lambda message: message.payload == job_id.encode())
    assert (await server.state(EVENT))["attributes"]["job_id"] == job_id
    data = await server.body("GET", f"/api/image_proxy/{PICTURE}")
    assert hashlib.sha256(data).hexdigest() == result["outputs"][0]["sha256"]


# Of two bridges that have a workflow of one name.
FIRST, SECOND = "comfy2mqtt", "studio"
ACCEPTED = "+/client/homeassistant/job/+/status"


async def test_an_action_is_of_the_same_bridge_after_a_restart_whichever_bridge_is_there_first(
    place: Place, detached: StartBridge, broker: Mosquitto, tmp_path: Path
) -> None:
    workflows = {"slow": graphs.slow(1.0)}
    first = await detached(workflows, name=FIRST)
    await detached(workflows, name=SECOND, base_topic=SECOND)
    assert broker.port is not None

    with place.sources() as sources:
        async with (
            serving(place, sources, tmp_path / "home.log") as server,
            Peer(broker.url) as peer,
        ):
            await peer.subscribe(ACCEPTED)

            async def actions() -> set[str]:
                found = await server.ask("GET", "/api/services")
                (ours,) = (each["services"] for each in found if each["domain"] == "comfy2mqtt")
                return {each for each in ours if each.startswith("run_")}

            async def base_of(action: str) -> str:
                """Run it, and return the base of the bridge that has accepted the job."""
                peer.forget()
                await server.call(f"comfy2mqtt.{action}")
                return (await peer.next(ACCEPTED)).topic.partition("/")[0]

            await set_up(server, broker.port, discovery=False)
            await server.flow("comfy2mqtt", {"base": SECOND, "client": CLIENT})
            assert await actions() == {"run_slow", "run_slow_2"}
            for end in (server.stop, server.kill):
                await end()
                await first.stop()
                await server.start()
                # The name of the bridge that is away is not given to the other one.
                assert await actions() == {"run_slow_2"}
                await first.start(ready=False)

                async def all_there() -> bool:
                    return await actions() == {"run_slow", "run_slow_2"}

                await server.until(all_there)
                assert await base_of("run_slow") == FIRST
                assert await base_of("run_slow_2") == SECOND
