"""Outputs delivered elsewhere, on the whole stack, also by a bridge that is killed meanwhile."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

import pytest
from aiohttp import web

from bridge.mosquitto import Mosquitto
from bridge.sinks import signature
from tests.conftest import StartBridge
from tests.end_to_end import graphs
from tests.sinks.servers import created, never, receiving
from tests.support.patience import PATIENCE_S
from tests.support.peer import Peer

RIGHTS = {
    "sink_hosts": ["127.0.0.1"],
    "sink_folders": ["photos"],
    "sink_topics": ["home/#"],
}


@pytest.mark.comfyui
async def test_outputs_are_where_the_result_says_and_the_webhook_is_signed(
    attached: StartBridge, broker: Mosquitto, tmp_path: Path
) -> None:
    (tmp_path / "photos").mkdir()
    photos = {"name": "photos", "path": str(tmp_path / "photos"), "file": "{client}/{job_id}.png"}
    async with receiving() as receiver, Peer(broker.url) as peer:
        bridge = await attached(
            {"colour": graphs.colour()}, clients={"alice": RIGHTS}, sink_folder=[photos]
        )
        await peer.listen()
        await peer.subscribe("home/#")
        put = [
            {"url": receiver.url("/dav/?token=secret"), "headers": {"Authorization": "Basic eA=="}},
            {"url": "folder:photos"},
            {"url": "mqtt:home/{client}/frame"},
            {"url": receiver.url("/gone"), "output": 7},
        ]
        hook = {"url": receiver.url("/hook")}
        asked = {"workflow": "colour", "job_id": "j1", "put": put, "webhook": hook}
        await peer.ask("submit", asked)
        result = await peer.result("j1")
        digest = result["outputs"][0]["sha256"]
        *held, lacking = result["delivered"]
        assert held == [
            {"output": 0, "url": receiver.url("/dav/j1-0.png")},
            {"output": 0, "url": "folder:photos/alice/j1.png"},
            {"output": 0, "url": "mqtt:home/alice/frame"},
        ]
        assert lacking["error"]["code"] == "delivery_failed"
        message = await peer.next("home/alice/frame")
        assert message.user["sha256"] == digest
        file = (tmp_path / "photos/alice/j1.png").read_bytes()
        while not any(each.path == "/hook" for each in receiver.taken):
            receiver.came.clear()
            await receiver.came.wait()
        sent = {each.path: each for each in receiver.taken}
        for data in (message.payload, file, sent["/dav/j1-0.png?token=secret"].body):
            assert hashlib.sha256(data).hexdigest() == digest
        taken = sent["/hook"]
        body = json.loads(taken.body)
        assert (body["type"], body["data"]) == ("job.succeeded", result)
        key = bytes.fromhex((bridge.folder / "data/webhook.key").read_text())
        secret = base64.b64decode(signature.secret_of(key, "alice").removeprefix("whsec_"))
        at = int(taken.headers["webhook-timestamp"])
        assert taken.headers["webhook-signature"] == signature.signature(
            secret, taken.headers["webhook-id"], at, taken.body
        )


@pytest.mark.comfyui
async def test_a_bridge_that_is_killed_in_the_middle_delivers_after_its_start(
    attached: StartBridge, broker: Mosquitto, tmp_path: Path
) -> None:
    tally = tmp_path / "tally"
    async with receiving() as receiver, Peer(broker.url) as peer:
        bridge = await attached(
            {"tallied": graphs.tallied(tally)}, clients={"alice": RIGHTS}, stop_s=0
        )
        await peer.listen()
        receiver.answer = never
        put, hook = [{"url": receiver.url("/x")}], {"url": receiver.url("/hook")}
        await peer.ask("submit", {"workflow": "tallied", "job_id": "j1", "put": put})
        failing = {"workflow": "tallied", "repeat": 2, "set_id": "s1", "webhook": hook}
        await peer.ask("submit", failing)
        await peer.next("comfy2mqtt/client/alice/set/s1/result")
        while {each.path for each in receiver.taken} != {"/x", "/hook"}:
            receiver.came.clear()
            await receiver.came.wait()
        assert peer.of_job("j1", "result") == []
        await bridge.kill()
        receiver.answer = created
        receiver.taken.clear()
        await bridge.start()
        result = await peer.result("j1")
        assert result["delivered"] == [{"output": 0, "url": receiver.url("/x")}]
        while len({each.path for each in receiver.taken}) < 2:
            receiver.came.clear()
            await receiver.came.wait()
        sent = {each.path: each.body for each in receiver.taken}
        assert hashlib.sha256(sent["/x"]).hexdigest() == result["outputs"][0]["sha256"]
        body = json.loads(sent["/hook"])
        assert (body["type"], body["data"]["set_id"]) == ("set.succeeded", "s1")
        assert len(tally.read_text().splitlines()) == 3  # nothing ran twice


@pytest.mark.comfyui
async def test_a_sidecars_sinks_need_no_right_and_a_clients_own_do(
    attached: StartBridge, broker: Mosquitto
) -> None:
    async with receiving() as receiver, Peer(broker.url) as peer:
        bridge = await attached({"plain": graphs.plain()}, start=False)
        sidecar = f'put = [{{url = "{receiver.url("/{job_id}")}"}}]'
        (bridge.workflows / "plain.toml").write_text(sidecar)
        await bridge.start()
        await peer.listen()
        answer = await peer.ask("submit", {"workflow": "plain", "put": [{"url": "mqtt:x"}]})
        assert answer["error"]["details"]["setting"] == "clients.alice.sink_topics"
        receiver.answer = lambda _: web.Response(status=403)
        await peer.ask("submit", {"workflow": "plain", "job_id": "j1"})
        (delivered,) = (await peer.result("j1", PATIENCE_S))["delivered"]
        assert delivered["error"]["message"] == "the server answers 403 Forbidden"
        assert [each.path for each in receiver.taken] == ["/j1"]


@pytest.mark.broker
async def test_a_webhook_is_sent_of_a_job_that_never_ran_too(
    detached: StartBridge, broker: Mosquitto
) -> None:
    async with receiving() as receiver, Peer(broker.url) as peer:
        await detached({"plain": graphs.plain()}, clients={"alice": RIGHTS})
        await peer.listen()
        hook = {"url": receiver.url("/hook")}
        await peer.ask("submit", {"workflow": "plain", "job_id": "j1", "webhook": hook})
        inward = {"url": receiver.url("/hook", host="localhost")}
        answer = await peer.ask("submit", {"workflow": "plain", "webhook": inward})
        assert answer["error"]["details"]["setting"] == "clients.alice.sink_hosts"
        await peer.ask("cancel", {"job_id": "j1"})
        result = await peer.result("j1")
        await receiver.came.wait()
        (taken,) = receiver.taken
        body = json.loads(taken.body)
        assert (body["type"], body["data"]) == ("job.cancelled", result)
