"""A result says what happened at ComfyUI: what was new, what was blocked, and who stopped it."""

from __future__ import annotations

import pytest

from bridge.comfyui.client import ComfyClient
from bridge.mosquitto import Mosquitto
from tests.conftest import StartBridge
from tests.end_to_end import graphs
from tests.end_to_end.test_faults import is_running
from tests.support.comfyui import Server, image, our_output, then
from tests.support.peer import Peer

pytestmark = pytest.mark.comfyui


async def test_reused_is_false_where_an_output_node_makes_something_itself(
    attached: StartBridge, broker: Mosquitto
) -> None:
    made = {"2": {"class_type": "TestMakeAndShow", "inputs": {"image": ["1", 0], "text": "a"}}}
    await attached({"made": {**image(seed=77_001), **made}})
    async with Peer(broker.url) as peer:
        await peer.listen()
        for job_id, text, reused in (
            ("first", "a", False),
            ("other", "b", False),  # all before the output node came from the cache
            ("again", "b", True),
        ):
            await peer.ask(
                "submit",
                {"workflow": "made", "job_id": job_id, "inputs": {"prompt": text, "seed": 77}},
            )
            result = await peer.result(job_id)
            assert (result["state"], result["reused"]) == ("succeeded", reused), job_id


async def test_a_run_whose_outputs_were_all_blocked_says_so(
    attached: StartBridge, broker: Mosquitto
) -> None:
    blocked = then(image(size=16), "TestBlock")
    last = max(blocked, key=int)
    saved = {
        "90": {"class_type": "SaveImage", "inputs": {"images": [last, 0], "filename_prefix": "b"}}
    }
    shown = {"91": {"class_type": "PreviewImage", "inputs": {"images": [last, 0]}}}
    workflows = {
        "saved": {**blocked, **saved, **shown},
        "ours": our_output(then(image(size=16), "TestBlock")),
        "half": {
            **blocked,
            **saved,
            "92": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
        },
        "said": our_output(then(image(size=16), "TestBlock", message="no face was found")),
    }
    await attached(workflows)
    async with Peer(broker.url) as peer:
        await peer.listen()
        for name in workflows:
            peer.request(f"run/{name}/{name}")
        for name, count in (("saved", 2), ("ours", 1)):
            result = await peer.result(name)
            assert (result["state"], result["outputs"]) == ("succeeded", [])
            reasons = [each["error"]["details"]["reason"] for each in result["missing"]]
            assert reasons == ["blocked"] * count
        half = await peer.result("half")
        assert (half["state"], len(half["outputs"])) == ("succeeded", 1)
        assert "missing" not in half
        said = await peer.result("said")
        assert (said["state"], said["error"]["code"]) == ("failed", "execution_error")
        assert "no face was found" in said["error"]["message"]


async def test_a_job_that_somebody_interrupts_at_comfyui_says_so(
    attached: StartBridge, broker: Mosquitto, comfyui: Server
) -> None:
    await attached({"slow": graphs.slow(30.0)})
    async with Peer(broker.url) as peer, ComfyClient(comfyui.url) as page:
        await peer.listen()
        peer.request("run/slow/j1")
        await peer.job("j1", "status", is_running)
        (running,) = (await page.queue()).running
        await page.interrupt(running)
        result = await peer.result("j1")
        assert (result["state"], result["error"]["code"]) == ("cancelled", "interrupted")


async def test_what_a_node_says_of_the_machine_reaches_no_client(
    attached: StartBridge, broker: Mosquitto, comfyui: Server
) -> None:
    said = f"\x1b[31mcannot read '{comfyui.output}/a b/x.png'\x1b[0m"
    await attached({"raise": our_output(then(image(size=16), "TestRaise", message=said))})
    async with Peer(broker.url) as peer:
        await peer.listen()
        peer.request("run/raise/j1")
        error = (await peer.result("j1"))["error"]
        assert error["message"].endswith("cannot read '.../x.png'")
        traceback = "".join(error["details"]["traceback"])
        assert 'File ".../execution.py"' in traceback
        assert str(comfyui.output) not in str(error)


async def test_captions_3d_files_and_cameras_come_as_they_are(
    attached: StartBridge, broker: Mosquitto, comfyui: Server
) -> None:
    crate = b"glTF\x02\0\0\0\x10\0\0\0odd!"
    folder = comfyui.output / "3d"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "crate.glb").write_bytes(crate)
    caption = {  # shared/cases/caption-bmw.json
        "1": {"class_type": "PrimitiveString", "inputs": {"value": "BMW on a road, at dusk"}},
        "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}},
        "3": {
            "class_type": "EmptyImage",
            "inputs": {"width": 16, "height": 16, "batch_size": 1, "color": 255},
        },
        "9": {"class_type": "SaveImage", "inputs": {"images": ["3", 0], "filename_prefix": "f"}},
    }
    view = {
        "class_type": "Preview3D",
        "inputs": {"model_file": "3d/crate.glb", "bg_image": ["3", 0]},
    }
    gone = {"class_type": "Preview3D", "inputs": {"model_file": "3d/gone.ply"}}
    await attached({"caption": caption, "crate": {"1": view, "2": gone, "3": caption["3"]}})
    async with Peer(broker.url) as peer:
        await peer.listen()
        output = {"format": "webp"}
        await peer.ask("submit", {"workflow": "caption", "job_id": "c", "output": output})
        result = await peer.result("c")
        assert [(each["kind"], each["content_type"]) for each in result["outputs"]] == [
            ("image", "image/webp"),
            ("text", "text/plain; charset=utf-8"),
        ]
        assert (await peer.job("c", "output/1")).payload == b"BMW on a road, at dusk"
        peer.request("run/crate/m")
        result = await peer.result("m")
        assert result["state"] == "succeeded"
        assert [each["content_type"] for each in result["outputs"]] == [
            "model/gltf-binary",
            "image/png",
        ]
        assert (await peer.job("m", "output/0")).payload == crate
        assert [each["filename"] for each in result["missing"]] == ["gone.ply"]
