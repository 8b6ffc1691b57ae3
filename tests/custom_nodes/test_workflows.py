from __future__ import annotations

import json
from io import BytesIO
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from tests.custom_nodes.comfyui import ROOT

if TYPE_CHECKING:
    from tests.custom_nodes.comfyui import ComfyUI, Graph

SHIPPED = ("demo", "txt2img", "img2img")


def shipped(name: str) -> Graph:
    graph: Graph = json.loads((ROOT / "workflows" / f"{name}.json").read_text(encoding="utf-8"))
    return graph


def random_txt2img() -> Graph:
    path = ROOT / "tests" / "support" / "workflows" / "random_txt2img.json"
    graph: Graph = json.loads(path.read_text(encoding="utf-8"))
    return graph


def set_values(graph: Graph, **values: object) -> Graph:
    """Bind our inputs by their names, as the bridge does."""
    for name, value in values.items():
        key = "image" if name == "image" else "value"
        (found,) = [
            n["inputs"]
            for n in graph.values()
            if n["inputs"].get("name") == name and key in n["inputs"]
        ]
        found[key] = value
    return graph


@pytest.mark.parametrize("name", SHIPPED)
def test_every_node_is_titled_and_every_input_described(name: str) -> None:
    names = []
    for node in shipped(name).values():
        assert node["_meta"]["title"]
        if node["class_type"].startswith("Comfy2MQTT") and "name" in node["inputs"]:
            assert node["inputs"]["title"]
            assert node["inputs"]["description"]
            if node["class_type"] != "Comfy2MQTTImageOutput":
                names.append(node["inputs"]["name"])
    assert len(set(names)) == len(names) >= 5


def test_the_tested_graph_is_the_shipped_one_but_for_its_checkpoint() -> None:
    tested, ours = random_txt2img(), shipped("txt2img")
    layer = tested.pop("15")
    assert layer["class_type"] == "CLIPSetLastLayer"
    for encoder in ("9", "10"):
        tested[encoder]["inputs"]["clip"] = layer["inputs"]["clip"]
    tested["8"]["inputs"]["ckpt_name"] = ours["8"]["inputs"]["ckpt_name"]
    values = {
        n["inputs"]["name"]: n["inputs"]["value"] for n in ours.values() if "value" in n["inputs"]
    }
    assert set_values(tested, **values) == ours


@pytest.mark.comfyui
async def test_the_demo_paints_with_progress_and_previews(comfyui: ComfyUI) -> None:
    run = await comfyui.run(set_values(shipped("demo"), width=128, height=96, seed=3))
    (made,) = run.outputs
    assert (made.header["name"], made.header["width"], made.header["height"]) == ("image", 128, 96)
    assert Image.open(BytesIO(made.data)).format == "PNG"
    assert len(run.of("progress")) == len(run.previews) == 20


@pytest.mark.comfyui
async def test_text_to_image_runs_the_real_sampler_with_previews(comfyui: ComfyUI) -> None:
    graph = set_values(random_txt2img(), prompt="a lighthouse", seed=7, steps=3)
    run = await comfyui.run(graph)
    assert [(d["value"], d["max"]) for d in run.of("progress")] == [(1, 3), (2, 3), (3, 3)]
    assert [header["node_id"] for header, _ in run.previews] == ["12"] * 3
    (made,) = run.outputs
    assert (made.header["width"], made.header["height"]) == (64, 64)


@pytest.mark.comfyui
async def test_image_to_image_starts_from_the_image_given(comfyui: ComfyUI) -> None:
    stream = BytesIO()
    Image.new("RGB", (96, 48), "navy").save(stream, "PNG")
    image = await comfyui.put_media(stream.getvalue())
    tested, random = shipped("img2img"), random_txt2img()
    tested["99"] = random["15"] | {"inputs": {"stop_at_clip_layer": -12, "clip": ["9", 1]}}
    tested["9"] = random["8"]
    for encoder in ("10", "11"):
        tested[encoder]["inputs"]["clip"] = ["99", 0]
    run = await comfyui.run(set_values(tested, image=image, width=64, steps=4, denoise=0.5, seed=1))
    assert len(run.of("progress")) == 4
    (made,) = run.outputs
    assert (made.header["width"], made.header["height"]) == (64, 32)
