"""Files in the folder become workflows: both formats, pictures, sidecars, while jobs run."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bridge.mosquitto import Mosquitto
from tests.conftest import StartBridge
from tests.end_to_end import graphs
from tests.support.bridge import BridgeProcess
from tests.support.peer import Peer

pytestmark = pytest.mark.comfyui

EVENTS = "comfy2mqtt/bridge/event"
# What `graphs.plain()` looks like as ComfyUI's page saves it, with a note and a muted node beside.
DRAWING: dict[str, Any] = {
    "last_node_id": 4,
    "last_link_id": 2,
    "nodes": [
        {
            "id": 1,
            "type": "EmptyImage",
            "pos": [0, 0],
            "mode": 0,
            "inputs": [],
            "outputs": [{"name": "IMAGE", "type": "IMAGE", "links": [1, 2]}],
            "widgets_values": [64, 64, 1, 255],
        },
        {
            "id": 2,
            "type": "SaveImage",
            "pos": [300, 0],
            "mode": 0,
            "inputs": [{"name": "images", "type": "IMAGE", "link": 1}],
            "outputs": [],
            "widgets_values": ["plain"],
        },
        {
            "id": 3,
            "type": "PreviewImage",
            "mode": 2,
            "inputs": [{"name": "images", "type": "IMAGE", "link": 2}],
            "outputs": [],
        },
        {"id": 4, "type": "Note", "widgets_values": ["for people"]},
    ],
    "links": [[1, 1, 0, 2, 0, "IMAGE"], [2, 1, 0, 3, 0, "IMAGE"]],
    "groups": [],
    "version": 0.4,
}


async def dry_run(peer: Peer, workflow: str, **inputs: Any) -> Any:
    """Return the prompt that a request would run."""
    request = {"workflow": workflow, "inputs": inputs, "dry_run": True}
    answer = await peer.ask("submit", request)
    assert answer["status"] == "ok", answer
    return answer["data"]["prompt"]


async def definition(peer: Peer, name: str, version: str | None = None) -> Any:
    """Wait for the next definition of a workflow, of another version than the given one."""
    topic = f"comfy2mqtt/workflow/{name}"
    message = await peer.next(topic, lambda m: m.payload != b"" and m.json["version"] != version)
    return message.json


def put(bridge: BridgeProcess, file: str, content: str | bytes) -> None:
    data = content.encode() if isinstance(content, str) else content
    (bridge.workflows / file).write_bytes(data)


async def test_both_formats_of_a_workflow_give_equal_prompts(
    attached: StartBridge, broker: Mosquitto
) -> None:
    await attached({"drawn": DRAWING, "plain": graphs.plain()})
    async with Peer(broker.url) as peer:
        await peer.listen()
        await peer.subscribe("comfy2mqtt/workflow/+")
        drawn = await dry_run(peer, "drawn", width=80)
        # A drawing's titles go with its prompt, as the page sends them; an API file may lack them.
        # Where the file gives a node none, it is the class's: EmptyImage, or Empty Image since.
        titles = [node.pop("_meta")["title"].replace(" ", "") for node in drawn.values()]
        assert sorted(titles) == ["EmptyImage", "SaveImage"]
        assert drawn == await dry_run(peer, "plain", width=80)
        assert drawn["1"]["inputs"]["width"] == 80
        pixels = []
        for name in ("drawn", "plain"):
            peer.request(f"run/{name}/{name}", {"width": 80, "Save Image.filename_prefix": "x"})
            answer = await peer.response("run")
            if name == "plain":  # a graph in API format need not have titles
                assert answer.json["error"]["code"] == "invalid_input"
                peer.request("run/plain/plain", {"width": 80, "2.filename_prefix": "x"})
            assert (await peer.result(name))["state"] == "succeeded"
            (output,) = peer.of_job(name, "output/0")
            pixels.append(output.payload.partition(b"IDAT")[2])
        assert pixels[0] == pixels[1]


async def test_a_picture_that_comfyui_saved_makes_itself_again(
    attached: StartBridge, broker: Mosquitto
) -> None:
    bridge = await attached({"plain": graphs.plain()})
    async with Peer(broker.url) as peer:
        await peer.listen()
        await peer.subscribe("comfy2mqtt/workflow/+")
        peer.request("run/plain/first", {"color": 0x123456, "width": 72})
        answer = await peer.response("run")
        assert answer.json["error"]["details"]["allowed"]  # `color` has no plain name
        peer.request("run/plain/first", {"1.color": 0x123456, "width": 72})
        await peer.result("first")
        picture = (await peer.job("first", "output/0")).payload
        put(bridge, "again.png", picture)
        described = await definition(peer, "again")
        assert described["inputs"]["properties"]["width"]["default"] == 72
        peer.request("run/again/second")
        assert (await peer.result("second"))["state"] == "succeeded"
        again = (await peer.job("second", "output/0")).payload
        assert again.partition(b"IDAT")[2] == picture.partition(b"IDAT")[2]


async def test_a_drawing_waits_for_the_first_comfyui(
    bridges: StartBridge, attached: StartBridge, broker: Mosquitto
) -> None:
    async with Peer(broker.url) as peer:
        await peer.listen()
        await peer.subscribe(EVENTS, "comfy2mqtt/workflow/+", "comfy2mqtt/bridge/state")
        alone = await bridges(
            "alone",
            workflows={"drawn": DRAWING},
            start=False,
            comfyui_url="http://127.0.0.1:9",
        )
        await alone.start(ready=False)
        event = (await peer.next(EVENTS)).json
        assert (event["type"], event["data"]) == ("workflow_waiting", {"file": "drawn.json"})
        await peer.next("comfy2mqtt/bridge/state", lambda m: m.payload == b"online")
        answer = await peer.ask("run/drawn")
        assert answer["error"]["code"] == "comfyui_unavailable"
        await alone.stop()
        await attached({"drawn": DRAWING})
        assert (await definition(peer, "drawn"))["runnable"] is True
        peer.request("run/drawn/j1", {"width": 32})
        assert (await peer.result("j1"))["state"] == "succeeded"


async def test_a_sidecar_at_work(attached: StartBridge, broker: Mosquitto) -> None:
    bridge = await attached({"colour": graphs.colour(), "other": graphs.plain()})
    async with Peer(broker.url) as peer:
        await peer.listen()
        await peer.subscribe(EVENTS, "comfy2mqtt/workflow/+", "comfy2mqtt/bridge/choices/+")
        before = await definition(peer, "colour")
        sizes = list(range(16, 96))
        put(
            bridge,
            "colour.toml",
            f"""
            title = "One colour"
            [inputs.size]
            choices = {sizes}
            [inputs.colour]
            rename = "paint"
            maximum = 0xffff
            [outputs.picture]
            rename = "canvas"
            [press.inputs]
            paint = 0xff
            """,
        )
        after = await definition(peer, "colour", before["version"])
        assert after["title"] == "One colour"
        properties = after["inputs"]["properties"]
        assert properties["paint"]["maximum"] == 0xFFFF
        assert properties["size"]["x-choices"] == "colour-size"
        listed = await peer.next("comfy2mqtt/bridge/choices/colour-size")
        assert listed.json == {"name": "colour-size", "choices": sizes}

        result = await run(peer, "pressed", b"")
        assert result["inputs"] == {"paint": 0xFF, "size": 64}
        assert [output["name"] for output in result["outputs"]] == ["canvas"]
        result = await run(peer, "given", {"paint": 5, "size": 17})
        assert result["inputs"] == {"paint": 5, "size": 17}
        for wrong in ({"colour": 5}, {"paint": 0x10000}, {"size": 96}):
            answer = await peer.ask("run/colour", wrong)
            assert answer["error"]["code"] == "invalid_input"

        put(bridge, "colour.toml", "title = 'x'\n[inputs.size]\nmaximun = 5")
        event = (await peer.next(EVENTS, timeout_s=2)).json
        assert event["data"]["file"] == "colour.toml"
        assert event["data"]["line"] == 3
        assert "inputs.size.maximun" in event["message"]
        assert (await run(peer, "still", {"paint": 6}))["workflow_version"] == after["version"]

        (bridge.workflows / "colour.toml").unlink()
        bare = await definition(peer, "colour", after["version"])
        assert bare["version"] == before["version"]
        await peer.next("comfy2mqtt/bridge/choices/colour-size", lambda m: m.payload == b"")


async def run(peer: Peer, job_id: str, payload: Any) -> Any:
    answer = await peer.ask(f"run/colour/{job_id}", payload)
    assert answer["status"] == "ok", answer
    result = await peer.result(job_id)
    assert result["state"] == "succeeded", result
    return result


async def test_jobs_keep_the_version_that_they_were_accepted_with(
    attached: StartBridge, broker: Mosquitto
) -> None:
    bridge = await attached({"slow": graphs.slow(1.0)})
    async with Peer(broker.url) as peer:
        await peer.listen()
        await peer.subscribe("comfy2mqtt/workflow/slow", EVENTS)
        first = await definition(peer, "slow")
        for index in range(4):  # one runs, one is ready at ComfyUI, two wait here
            assert (await peer.ask(f"run/slow/old{index}"))["status"] == "ok"
        bridge.add_workflow("slow", graphs.slow(0.05))
        second = await definition(peer, "slow", first["version"])
        assert (await peer.ask("run/slow/new"))["status"] == "ok"
        pinned = {"workflow": "slow", "workflow_version": first["version"], "job_id": "pinned"}
        assert (await peer.ask("submit", pinned))["status"] == "ok"
        put(bridge, "slow.json", "{\n{")
        event = (await peer.next(EVENTS)).json
        assert (event["data"]["file"], event["data"]["line"]) == ("slow.json", 2)
        (bridge.workflows / "slow.json").unlink()
        await peer.next("comfy2mqtt/workflow/slow", lambda m: m.payload == b"")
        refused = await peer.ask("submit", {**pinned, "job_id": "late"})
        assert refused["error"]["code"] == "unknown_workflow"
        for job_id in ("old0", "old1", "old2", "old3", "new", "pinned"):
            result = await peer.result(job_id)
            assert result["state"] == "succeeded"
            wanted = second if job_id == "new" else first
            assert result["workflow_version"] == wanted["version"]


async def test_a_version_that_is_not_kept_is_refused(
    attached: StartBridge, broker: Mosquitto
) -> None:
    await attached({"colour": graphs.colour()})
    async with Peer(broker.url) as peer:
        await peer.listen()
        request = {"workflow": "colour", "workflow_version": "0" * 12}
        answer = await peer.ask("submit", request)
        assert answer["error"]["code"] == "unknown_workflow"
        assert json.dumps(answer["error"]["details"]).count("version")
