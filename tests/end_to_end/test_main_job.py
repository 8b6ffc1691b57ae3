"""The main job: a request in, an image out, on a real broker and a real ComfyUI."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from bridge.mosquitto import Mosquitto
from tests.conftest import StartBridge
from tests.end_to_end import graphs
from tests.support.comfyui import image, saved, then
from tests.support.peer import Message, Peer

pytestmark = pytest.mark.comfyui

TREE = "comfy2mqtt/client/alice"

WORKFLOWS = Path("workflows")


def demo() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((WORKFLOWS / "demo.json").read_text())
    return found


def check_bytes(message: Message, info: dict[str, Any]) -> Image.Image:
    """The bytes are those that the result tells of, and an image of that size."""
    assert len(message.payload) == info["size"]
    assert hashlib.sha256(message.payload).hexdigest() == info["sha256"]
    picture = Image.open(io.BytesIO(message.payload))
    assert picture.size == (info["width"], info["height"])
    return picture


@pytest.mark.parametrize("version", [4, 5])
async def test_a_picture_comes_with_progress_and_previews(
    attached: StartBridge, broker: Mosquitto, version: int
) -> None:
    await attached({"demo": demo()})
    async with Peer(broker.url, version=version) as peer:
        await peer.listen()
        inputs = {"prompt": "a red barn", "width": 512, "height": 256, "steps": 20}
        answer = await peer.ask(
            "submit",
            {
                "workflow": "demo",
                "inputs": inputs,
                "job_id": "j1",
                "transaction": "t1",
                "meta": {"room": [1, 2]},
                "preview": True,
            },
        )
        assert answer["status"] == "ok"
        assert answer["data"]["job_id"] == "j1"
        result = await peer.result("j1")

        assert result["state"] == "succeeded"
        assert result["inputs"].items() >= inputs.items()
        assert result["attempts"] == 1
        assert result["comfyui_version"]
        (info,) = result["outputs"]
        (output,) = peer.of_job("j1", "output/0")
        assert info["topic"] == output.topic
        assert check_bytes(output, info).size == (512, 256)

        statuses = [message.json for message in peer.of_job("j1", "status")]
        assert [status["state"] for status in statuses] == ["queued", "running"]
        numbers = [status["n"] for status in statuses] + [result["n"]]
        assert numbers == sorted(set(numbers))
        percents = [message.json["percent"] for message in peer.of_job("j1", "progress")]
        assert len(percents) > 1
        assert percents == sorted(percents)
        previews = peer.of_job("j1", "preview")
        assert previews
        for preview in previews:
            Image.open(io.BytesIO(preview.payload)).load()

        assert peer.of_job("j1")[-1].topic.endswith("/result")
        for message in peer.messages:
            if not message.topic.endswith(("/preview", "/output/0")):
                body = message.json.get("data", message.json)
                assert body["job_id"] == "j1"
                assert body["workflow"] == "demo"
                assert body["transaction"] == "t1"
                assert body["meta"] == {"room": [1, 2]}
        if version == 5:
            assert output.properties["ContentType"] == "image/png"
            assert output.user["sha256"] == info["sha256"]
            assert (output.user["job_id"], output.user["name"]) == ("j1", info["name"])
            assert previews[0].user["job_id"] == "j1"


async def test_an_image_goes_in_and_the_same_comes_out(
    attached: StartBridge, broker: Mosquitto
) -> None:
    await attached({"echo": graphs.echo()})
    picture = Image.effect_noise((300, 200), 90).convert("RGB")
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    async with Peer(broker.url) as peer:
        await peer.listen()
        peer.request("run/echo/raw", buffer.getvalue())
        result = await peer.result("raw")
        assert (
            result["inputs"]["picture"]["sha256"] == hashlib.sha256(buffer.getvalue()).hexdigest()
        )
        back = check_bytes(await peer.job("raw", "output/0"), result["outputs"][0])
        assert back.tobytes() == picture.tobytes()


async def test_run_takes_what_a_button_or_a_shell_can_send(
    attached: StartBridge, broker: Mosquitto
) -> None:
    workflow = demo()
    for node in workflow.values():
        if node["inputs"].get("name") in ("width", "height"):
            node["inputs"]["value"] = 64
        if node["inputs"].get("name") == "steps":
            node["inputs"]["value"] = 1
    await attached({"small": workflow})
    async with Peer(broker.url, version=4) as peer:
        await peer.listen()
        seeds = set()
        for payload, prompt in ((b"", None), (b"a mill", "a mill"), (b'{"prompt": "x"}', "x")):
            answer = await peer.ask("run/small", payload)
            result = await peer.result(answer["data"]["job_id"])
            assert result["state"] == "succeeded"
            seeds.add(result["inputs"]["seed"])
            if prompt is not None:
                assert result["inputs"]["prompt"] == prompt
        assert len(seeds) == 3  # pressing a button twice gives two pictures


async def test_a_response_topic_gets_the_result_or_the_picture(
    attached: StartBridge, broker: Mosquitto
) -> None:
    await attached({"colour": graphs.colour()})
    async with Peer(broker.url) as peer:
        await peer.listen()
        here = "comfy2mqtt/client/alice/reply/here"
        options = {"ResponseTopic": here, "CorrelationData": b"\xffc"}
        peer.request("run/colour/j1", {"colour": 77}, **options)
        reply = await peer.next(here)
        assert reply.properties["CorrelationData"] == b"\xffc"
        assert reply.payload == (await peer.job("j1", "result")).payload

        trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        options["UserProperty"] = [("reply", "output"), ("traceparent", trace)]
        peer.request("run/colour/j2", {"colour": 78}, **options)
        reply = await peer.next(here)
        assert reply.payload == (await peer.job("j2", "output/0")).payload
        assert reply.properties["CorrelationData"] == b"\xffc"
        assert (await peer.job("j2", "result")).user["traceparent"] == trace
        assert peer.of_job("j2", "output/0")[0].user["traceparent"] == trace
        assert len(peer.all(here)) == 2

        peer.request("run/colour/j3", {"colour": "blue"}, **options)
        refusal = (await peer.next(here)).json
        assert refusal["state"] == "failed"
        assert refusal["error"]["code"] == "invalid_input"

        # Where the picture does not come, the result does, and says how to get it.
        for job_id, output in (("j4", {"deliver": "fetch"}), ("j5", {"max_packet": 1024})):
            inputs = {"colour": 79, "size": 512, "$output": output}
            peer.request(f"run/colour/{job_id}", inputs, **options)
            reply = await peer.next(here)
            assert reply.json["job_id"] == job_id
            assert "topic" not in reply.json["outputs"][0]

        # Asked for again after its end, the stored result comes to where it is now awaited.
        again = {"ResponseTopic": f"{here}/again", "CorrelationData": b"2"}
        peer.request("run/colour/j1", {"colour": 77}, **again)
        reply = await peer.next(f"{here}/again")
        assert reply.payload == peer.of_job("j1", "result")[0].payload
        assert reply.properties["CorrelationData"] == b"2"

        # What makes no job is answered there as well.
        for verb, payload, status in (
            ("status", b"j1", "ok"),
            ("status", b"nobody", "error"),
            ("run/colour", {"$dry_run": True}, "ok"),
        ):
            peer.request(verb, payload, ResponseTopic=f"{here}/other")
            reply = await peer.next(f"{here}/other")
            assert reply.json["status"] == status
            assert reply.payload == peer.all(f"{TREE}/response/{verb.split('/')[0]}")[-1].payload


async def test_nobody_is_written_to_in_anothers_name(
    attached: StartBridge, broker: Mosquitto
) -> None:
    await attached({"colour": graphs.colour()})
    async with Peer(broker.url) as peer, Peer(broker.url, client="bob") as bob:
        await peer.listen()
        await bob.subscribe("comfy2mqtt/client/bob/#")
        for topic in (
            "comfy2mqtt/client/bob/reply/x",
            "comfy2mqtt/client/alice/request/run/colour",
        ):
            answer = await peer.ask("run/colour", b"", ResponseTopic=topic)
            assert answer["error"]["code"] == "forbidden"
            assert answer["error"]["details"]["allowed"] == "comfy2mqtt/client/alice/reply/"
        assert bob.messages == []


async def test_a_plain_workflow_runs_and_its_literals_can_be_set(
    attached: StartBridge, broker: Mosquitto
) -> None:
    bridge = await attached({"plain": graphs.plain()})
    async with Peer(broker.url) as peer:
        await peer.listen()
        answer = await peer.ask("run/plain/j1", {"1.width": 80, "1.color": 0x00FF00})
        assert answer["status"] == "ok", answer
        result = await peer.result("j1")
        (info,) = result["outputs"]
        assert info["filename"].startswith("plain")
        picture = check_bytes(await peer.job("j1", "output/0"), info)
        assert picture.size == (80, 64)
        assert picture.convert("RGB").getpixel((0, 0)) == (0, 255, 0)
    assert bridge.log


async def test_a_fully_cached_run_still_gives_its_output_and_says_so(
    attached: StartBridge, broker: Mosquitto
) -> None:
    await attached({"colour": graphs.colour(), "plain": graphs.plain()})
    async with Peer(broker.url) as peer:
        await peer.listen()
        for workflow, inputs in (("colour", {"colour": 4711}), ("plain", {"1.color": 4711})):
            pictures = []
            for count, reused in ((1, False), (2, True)):
                job_id = f"{workflow}-{count}"
                peer.request(f"run/{workflow}/{job_id}", inputs)
                result = await peer.result(job_id)
                assert result["state"] == "succeeded"
                assert result["reused"] is reused
                output = await peer.job(job_id, "output/0")
                pictures.append(check_bytes(output, result["outputs"][0]).tobytes())
            assert pictures[0] == pictures[1]


async def test_definitions_are_retained_and_follow_the_folder(
    attached: StartBridge, broker: Mosquitto
) -> None:
    bridge = await attached({"colour": graphs.colour()})
    async with Peer(broker.url) as peer:
        await peer.subscribe("comfy2mqtt/workflow/+", "comfy2mqtt/bridge/event")
        topic = "comfy2mqtt/workflow/colour"
        definition = (await peer.next(topic, lambda message: "runnable" in message.json)).json
        assert definition["runnable"] is True
        assert definition["inputs"]["properties"]["size"]["maximum"] == 4096
        assert definition["outputs"][0]["name"] == "picture"

        bridge.add_workflow("my second", graphs.plain())
        second = await peer.next("comfy2mqtt/workflow/my_second", timeout_s=2)
        assert "1.color" in second.json["inputs"]["properties"]

        bridge.add_workflow("colour", graphs.colour(5))
        changed = await peer.next(topic, lambda m: m.json["version"] != definition["version"], 2)
        assert changed.json["inputs"]["properties"]["colour"]["default"] == 5

        (bridge.workflows / "broken.json").write_text('{"1": {"inputs": {}}}')
        event = (await peer.next("comfy2mqtt/bridge/event", timeout_s=2)).json
        assert (event["type"], event["data"]["node"]) == ("workflow_broken", "1")

        (bridge.workflows / "my second.json").unlink()
        await peer.next("comfy2mqtt/workflow/my_second", lambda m: m.payload == b"", 2)

    async with Peer(broker.url) as late:
        await late.subscribe("comfy2mqtt/workflow/+", "comfy2mqtt/bridge/info")
        kept = await late.next("comfy2mqtt/workflow/colour")
        assert kept.retain
        assert kept.json["version"] == changed.json["version"]
        info = (await late.next("comfy2mqtt/bridge/info")).json
        assert info["contract"] == 1
        assert set(info["features"]) >= {"run", "submit", "upload", "recipe"}
        assert late.all("comfy2mqtt/workflow/my_second") == []


async def test_a_dry_run_answers_what_would_run_and_runs_nothing(
    attached: StartBridge, broker: Mosquitto
) -> None:
    lacking = graphs.plain()
    lacking["3"] = {"class_type": "Unheard", "inputs": {}}
    await attached({"colour": graphs.colour(), "lacking": lacking})
    async with Peer(broker.url) as peer:
        await peer.listen()
        would = (await peer.ask("run/colour", {"colour": 7, "$dry_run": True}))["data"]
        assert would["prompt"]["1"]["inputs"]["value"] == 7
        assert (would["runnable"], would["position"]) == (True, 0)
        would = (await peer.ask("run/lacking", {"$dry_run": True}))["data"]
        assert would["runnable"] is False
        assert would["missing"]["nodes"] == ["Unheard"]
        wrong = await peer.ask("run/colour", {"colour": "x", "$dry_run": True})
        assert wrong["error"]["code"] == "invalid_input"
        assert (await peer.ask("list"))["data"]["jobs"] == []


async def test_a_recipe_run_again_gives_the_same_bytes(
    attached: StartBridge, broker: Mosquitto
) -> None:
    small = demo()
    for node in small.values():
        if node["inputs"].get("name") in ("width", "height"):
            node["inputs"]["value"] = 64
    bridge = await attached({"small": small})
    async with Peer(broker.url) as peer:
        await peer.listen()
        await peer.ask("run/small/j1", b"a mill")
        first = await peer.result("j1")
        recipe = (await peer.ask("recipe", b"j1"))["data"]
        assert recipe["inputs"] == first["inputs"]
        await peer.subscribe("comfy2mqtt/workflow/again")
        bridge.add_workflow("again", recipe["prompt"])
        await peer.next("comfy2mqtt/workflow/again")
        await peer.ask("run/again/j2", {"seed": recipe["inputs"]["seed"]})
        second = await peer.result("j2")
        assert second["outputs"][0]["sha256"] == first["outputs"][0]["sha256"]


async def test_a_small_device_gets_small_packets_and_fetches_in_parts(
    attached: StartBridge, broker: Mosquitto
) -> None:
    failing = then(image(), "TestRaise", message="x" * 3000)
    await attached({"colour": graphs.colour(), "failing": saved(failing)})
    async with Peer(broker.url, version=4) as peer:
        await peer.listen()
        small = {"max_packet": 1200}
        await peer.ask("run/colour/j1", {"colour": 3, "size": 512, "$output": small})
        result = await peer.result("j1")
        (info,) = result["outputs"]
        assert info["size"] > 1200
        assert "topic" not in info
        for inline in (False, True):
            data = b""
            offset: int | None = 0
            while offset is not None:
                part = {"job_id": "j1", "offset": offset, "inline": inline}
                answer = (await peer.ask("fetch", part))["data"]
                if inline:
                    data += base64.b64decode(answer["base64"])
                else:
                    data += (await peer.job("j1", f"part/0/{offset}")).payload
                offset = answer.get("next")
            assert hashlib.sha256(data).hexdigest() == info["sha256"]
        await peer.ask("run/failing/j2", {"$output": small, "$preview": True})
        assert (await peer.result("j2"))["state"] == "failed"
        assert all(len(message.payload) < 1200 for message in peer.messages)
        # Also what the device sent itself does not come back to it in one piece.
        await peer.ask("run/colour/j3", {"colour": 4, "$output": small, "$meta": "m" * 3000})
        assert "meta" not in await peer.result("j3")


async def test_inline_workflows_run_for_those_who_may(
    attached: StartBridge, broker: Mosquitto
) -> None:
    await attached({"colour": graphs.colour()}, clients={"alice": {"inline": True}})
    async with Peer(broker.url) as peer, Peer(broker.url, client="bob") as bob:
        await peer.listen()
        await bob.listen()
        request = {"prompt": graphs.colour(), "inputs": {"colour": 8}, "job_id": "j1"}
        refused = await bob.ask("submit", request)
        assert refused["error"]["code"] == "forbidden"
        assert refused["error"]["details"]["setting"] == "clients.bob.inline"
        assert (await peer.ask("submit", request))["data"]["workflow"] == "inline"
        result = await peer.result("j1")
        assert result["inputs"]["colour"] == 8
        await peer.job("j1", "output/0")
        other = {**request, "prompt": graphs.plain(), "inputs": {}}
        assert (await peer.ask("submit", other))["error"]["code"] == "conflict"
        broken = await peer.ask("submit", {"prompt": {"1": {"inputs": {}}}})
        assert broken["error"]["details"]["node"] == "1"
