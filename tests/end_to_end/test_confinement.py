"""A request reaches what is its sender's, and nothing else: neither of others nor of the bridge."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from bridge.mosquitto import Mosquitto
from tests.conftest import StartBridge
from tests.end_to_end import graphs
from tests.support.comfyui import image, saved
from tests.support.peer import Peer

CLIENT = "comfy2mqtt/client"
FOREIGN = [
    f"{CLIENT}/bob/reply/x",
    f"{CLIENT}/bob/request/cancel",
    f"{CLIENT}/alice/request/run/colour",
    f"{CLIENT}/alice/response/run",
    f"{CLIENT}/alice/job/j9/result",
    f"{CLIENT}/alice/reply/",
    f"{CLIENT}/alice/reply",
    f"{CLIENT}/alice/reply/$x",
    f"{CLIENT}/alice/replyx/y",
    "comfy2mqtt/bridge/request/comfyui/restart",
    "comfy2mqtt/bridge/state",
    "comfy2mqtt/workflow/colour",
    "comfy2mqtt/display/hall/image",
    "cameras/door/snapshot",
    "$SYS/x",
]


@pytest.mark.comfyui
async def test_what_is_anothers_cannot_be_reached_by_its_name(
    attached: StartBridge, broker: Mosquitto
) -> None:
    await attached(
        {"colour": graphs.colour(), "echo": graphs.echo(), "slow": graphs.slow(30)},
        clients={"bob": {"input_topics": ["cameras/#"]}},
    )
    async with Peer(broker.url, client="bob") as bob, Peer(broker.url) as alice:
        await bob.listen()
        await alice.listen()
        await bob.ask("run/colour/done")
        await bob.result("done")
        picture = (await bob.job("done", "output/0")).payload
        assert (await bob.ask("upload/u1", picture))["data"]["complete"]
        await bob.ask("run/slow/runs")
        await bob.ask("upload/parts", {"size": 10, "sha256": "0" * 64})
        tries: list[tuple[str, Any, str]] = [
            ("status", b"done", "unknown_job"),
            ("recipe", b"done", "unknown_job"),
            ("fetch", {"job_id": "done"}, "unknown_job"),
            ("fetch", {"job_id": "done", "inline": True}, "unknown_job"),
            ("cancel", b"done", "unknown_job"),
            ("cancel", b"runs", "unknown_job"),
            ("run/echo", {"picture": {"job": "done"}}, "invalid_input"),
            ("run/echo", {"picture": {"upload": "u1"}}, "invalid_input"),
            ("run/echo", {"picture": {"topic": "cameras/door"}}, "forbidden"),
            ("upload/parts/0", b"x", "invalid_input"),
            ("upload/parts/fin", b"", "invalid_input"),
        ]
        for verb, payload, code in tries:
            answer = await alice.ask(verb, payload)
            assert answer.get("error", {}).get("code") == code, (verb, payload, answer)
        assert (await alice.ask("list"))["data"]["jobs"] == []
        assert (await alice.ask("ack", {"up_to": 10**9}))["data"]["acked"] == 0
        # The same id is another job in another tree.
        mine = await alice.ask("run/colour/done", {"colour": 7})
        assert mine["data"]["duplicate"] is False
        assert (await bob.ask("status", b"runs"))["data"]["state"] in ("queued", "running")
        assert (await bob.ask("status", b"done"))["data"]["acked"] is False
        kept = (await bob.ask("fetch", {"job_id": "done", "inline": True}))["data"]["base64"]
        assert base64.b64decode(kept) == picture
        bob.request("cancel", b"runs")
        assert (await bob.result("runs"))["state"] == "cancelled"
        assert (await alice.result("done"))["state"] == "succeeded"


@pytest.mark.broker
async def test_no_response_topic_leads_out_of_the_own_replies(
    detached: StartBridge, broker: Mosquitto
) -> None:
    await detached({"colour": graphs.colour()})
    async with Peer(broker.url) as alice, Peer(broker.url, client="spy") as spy:
        await alice.listen()
        await spy.subscribe("#")
        for number, topic in enumerate(FOREIGN):
            for verb in (f"run/colour/j{number}", "run/nothing", "list"):
                answer = await alice.ask(verb, ResponseTopic=topic, CorrelationData=b"mark")
                assert answer["error"]["code"] == "forbidden", (topic, answer)
        alice.publish("comfy2mqtt/last", b"")
        await spy.next("comfy2mqtt/last")
        assert (await alice.ask("list"))["data"]["jobs"] == []
        told = [each.topic for each in spy.messages if each.properties.get("CorrelationData")]
        assert set(told) == {
            *(f"{CLIENT}/alice/response/{verb}" for verb in ("run", "list")),
            *(f"{CLIENT}/alice/request/run/colour/j{number}" for number in range(len(FOREIGN))),
            *(f"{CLIENT}/alice/request/{verb}" for verb in ("run/nothing", "list")),
        }


@pytest.mark.broker
async def test_the_bridge_does_not_set_itself_off(detached: StartBridge, broker: Mosquitto) -> None:
    """Messages that it publishes for a client are no requests, however the client names things."""
    await detached({"request": saved(image()), "run": graphs.colour()})
    async with Peer(broker.url, client="request") as peer, Peer(broker.url, client="spy") as spy:
        await peer.listen()
        await spy.subscribe("comfy2mqtt/client/#")
        for job_id in ("request", "run", "submit", "client"):
            answer = await peer.ask(
                f"run/run/{job_id}",
                {"$meta": {"request": "run"}},
                ResponseTopic=f"{CLIENT}/request/reply/request/run/run",
            )
            assert answer["status"] == "ok"
        jobs = (await peer.ask("list"))["data"]["jobs"]
        assert {job["job_id"] for job in jobs} == {"request", "run", "submit", "client"}
        asked = [each for each in spy.messages if "/request/request/" in each.topic]
        assert len(asked) == 5
