"""Pictures that ComfyUI's page takes of its 3D view: a request or a sidecar gives them."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from bridge.contract.errors import InvalidInput
from bridge.workflows import binding, source
from bridge.workflows.graph import NodeInput
from bridge.workflows.sidecar import SidecarError
from bridge.workflows.workflow import Workflow
from tests.vectors import comparison
from tests.vectors.drawing import Drawing

PICTURE = {"base64": base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()}
# The templates that no conversion alone can do.
TEMPLATES = (
    "api_hunyuan3d_model2uv",
    "api_hunyuan3d_part",
    "api_hunyuan3d_retopo_uv",
    "api_hunyuan3d_smart_topology",
)


def built(document: Any, sidecar: str | None = None) -> Workflow:
    beside = None if sidecar is None else sidecar.encode()
    file = source.read("demo.json", json.dumps(document).encode(), beside)
    return file.build("demo", comparison.live_object_info())


def viewed() -> dict[str, Any]:
    drawing = Drawing()
    camera = {"Camera Config": {"state": {"zoom": 2}}}
    drawing.node(
        1,
        "Load3D",
        values=["none", "", 64, 48],
        outputs={"image": "IMAGE", "mask": "MASK"},
        properties=camera,
    )
    drawing.node(2, "SaveImage", values=["x"], inputs={"images": "IMAGE"})
    drawing.link(1, 0, 2, "images")
    return drawing.document()


def bound(workflow: Workflow, **given: Any) -> binding.BoundPrompt:
    return binding.bind(workflow, given, randint=lambda low, _: low)


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_templates_with_such_a_picture_take_it_as_an_input(name: str) -> None:
    found = built(comparison.load("templates-0.1.123")[name])
    (spec,) = (each for each in found.inputs if each.target.input == "image")
    assert (spec.kind, spec.required, spec.via) == ("image", True, "upload")
    assert "page" in (spec.description or "")
    assert spec.name in found.definition().inputs["required"]


def test_without_the_picture_the_error_says_whose_it_is() -> None:
    with pytest.raises(InvalidInput, match="picture that ComfyUI's page takes") as caught:
        bound(built(viewed()))
    assert caught.value.details["input"] == "image"


def test_a_request_gives_the_picture_and_the_camera_stays_where_it_was() -> None:
    given = bound(built(viewed()), image=PICTURE)
    (media,) = given.media
    assert media.spec.target == NodeInput("1", "image")
    binding.place(given.prompt, media.spec.target, media.spec.via, ["ab"], "png")
    value = given.prompt["1"]["inputs"]["image"]
    assert [value[each] for each in ("image", "mask", "normal")] == ["comfy2mqtt/ab.png"] * 3
    assert (value["recording"], value["camera_info"]) == ("", {"zoom": 2})


@pytest.mark.parametrize("key", ["fix", "default"])
def test_a_sidecar_names_a_file_of_the_input_folder(key: str) -> None:
    found = built(viewed(), f'[inputs.image]\n{key} = "3d/view.png"')
    value = bound(found).prompt["1"]["inputs"]["image"]
    assert (value["image"], value["camera_info"]) == ("3d/view.png", {"zoom": 2})
    assert bound(found).media == []


@pytest.mark.parametrize("value", ['"../x.png"', '"/etc/x.png"', '""', "5", '"a//b"'])
def test_a_sidecar_names_no_other_files(value: str) -> None:
    with pytest.raises(SidecarError, match=r"inputs\.image\.fix: expected the name of a file"):
        built(viewed(), f"[inputs.image]\nfix = {value}")


def test_a_picture_of_a_camera_is_one_too() -> None:
    drawing = Drawing()
    drawing.node(1, "WebcamCapture", values=["", 0, 0, True], outputs={"IMAGE": "IMAGE"})
    drawing.node(2, "SaveImage", values=["x"], inputs={"images": "IMAGE"})
    drawing.link(1, 0, 2, "images")
    given = bound(built(drawing.document()), image=PICTURE)
    (media,) = given.media
    binding.place(given.prompt, media.spec.target, media.spec.via, ["ab"], "png")
    assert given.prompt["1"]["inputs"]["image"] == "comfy2mqtt/ab.png"


def test_a_picture_that_the_page_has_sent_already_is_the_default() -> None:
    taken = {"image": "threed/s.png [temp]", "mask": "threed/m.png [temp]", "normal": "n"}
    api = {
        "1": {
            "class_type": "Load3D",
            "inputs": {"model_file": "none", "image": taken, "width": 8, "height": 8},
        },
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "x"}},
    }
    found = built(api)
    assert not any(spec.required for spec in found.inputs)
    assert bound(found).prompt["1"]["inputs"]["image"] == taken
