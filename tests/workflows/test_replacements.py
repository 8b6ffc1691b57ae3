"""Node classes that the server has replaced by others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from bridge.contract.retained import Missing
from bridge.workflows import source
from bridge.workflows.catalogue import NodeCatalogue
from bridge.workflows.library import Library
from bridge.workflows.objectinfo import ObjectInfo
from bridge.workflows.replacements import Replacements
from bridge.workflows.workflow import Workflow
from tests.vectors.drawing import Drawing
from tests.workflows.graphs import INFO as BASE

NEW = {
    "input": {
        "required": {
            "picture": ["IMAGE"],
            "size": ["INT", {"default": 8}],
            "mode": [["sharp", "soft"]],
        }
    },
    "output": ["MASK", "IMAGE"],
}
RULES: dict[str, Any] = {
    "OldScale": [
        {"new_node_id": "NotInstalled", "old_node_id": "OldScale"},
        {
            "new_node_id": "NewScale",
            "old_node_id": "OldScale",
            "old_widget_ids": ["length", "method"],
            "input_mapping": [
                {"new_id": "picture", "old_id": "image"},
                {"new_id": "size", "old_id": "length"},
                {"new_id": "mode", "set_value": "soft"},
            ],
            "output_mapping": [{"new_idx": 1, "old_idx": 0}],
        },
    ],
    "OldSave": [{"new_node_id": "SaveImage", "old_node_id": "OldSave"}],
}
API: dict[str, Any] = {
    "1": {"class_type": "LoadImage", "inputs": {"image": "there.png"}},
    "2": {
        "class_type": "OldScale",
        "inputs": {"image": ["1", 0], "length": 64, "method": "x"},
        "_meta": {"title": "Scale"},
    },
    "3": {"class_type": "OldSave", "inputs": {"images": ["2", 0], "filename_prefix": "p"}},
}


def info(rules: Any = None, **more: Any) -> ObjectInfo:
    raw = {**BASE.raw, "NewScale": NEW, **more}
    return ObjectInfo.decode(msgspec.json.encode(raw), msgspec.json.encode(rules or RULES))


def drawn() -> dict[str, Any]:
    drawing = Drawing()
    drawing.node(1, "LoadImage", values=["there.png"], outputs={"IMAGE": "IMAGE", "MASK": "MASK"})
    drawing.node(
        2, "OldScale", values=[64, "x"], inputs={"image": "IMAGE"}, outputs={"IMAGE": "IMAGE"}
    )
    drawing.node(3, "OldSave", values=["p"], inputs={"images": "IMAGE"})
    drawing.link(1, 0, 2, "image")
    drawing.link(2, 0, 3, "images")
    return drawing.document()


def built(document: Any, known: ObjectInfo) -> Workflow:
    return source.read("demo.json", msgspec.json.encode(document)).build("demo", known)


@pytest.mark.parametrize("document", [API, drawn()])
def test_the_new_class_stands_in_place_of_the_old_in_both_formats(document: Any) -> None:
    found = built(document, info())
    scale, saver = found.graph.nodes["2"], found.graph.nodes["3"]
    assert scale.class_type == "NewScale"
    assert scale.inputs == {"picture": ["1", 0], "size": 64, "mode": "soft"}
    assert (saver.class_type, saver.inputs["images"]) == ("SaveImage", ["2", 1])
    assert saver.inputs["filename_prefix"] == "p"
    assert found.missing == Missing()
    assert [output.kind for output in found.outputs] == ["image"]


@pytest.mark.parametrize("document", [API, drawn()])
def test_a_class_that_is_installed_stays(document: Any) -> None:
    old = {
        "input": {
            "required": {"image": ["IMAGE"], "length": ["INT", {}], "method": ["STRING", {}]}
        },
        "output": ["IMAGE"],
    }
    found = built(document, info(OldScale=old))
    assert found.graph.nodes["2"].inputs == {"image": ["1", 0], "length": 64, "method": "x"}


@pytest.mark.parametrize("document", [API, drawn()])
def test_a_class_whose_replacement_is_not_installed_is_missing(document: Any) -> None:
    rules = {"OldScale": [{"new_node_id": "NotInstalled"}], "OldSave": RULES["OldSave"]}
    found = built(document, info(rules))
    assert found.missing is not None
    assert found.missing.nodes == ["OldScale"]


@pytest.mark.parametrize(
    "told",
    [
        b"",
        b"not json",
        b"[]",
        b'{"OldSave": 5, "OldScale": [7, {}, {"new_node_id": 1}]}',
        # A value that ComfyUI would take for a link.
        msgspec.json.encode(
            {
                "OldSave": [
                    {
                        "new_node_id": "SaveImage",
                        "input_mapping": [{"new_id": "x", "set_value": ["1", 0]}],
                    }
                ]
            }
        ),
    ],
)
def test_what_cannot_be_read_replaces_nothing(told: bytes) -> None:
    known = Replacements.decode(told)
    assert [known.find(old, {"SaveImage", "NewScale"}) for old in RULES] == [None, None]


def test_a_pool_has_the_replacements_of_all() -> None:
    one = info({"OldScale": RULES["OldScale"]})
    two = info({"OldSave": RULES["OldSave"]})
    merged = NodeCatalogue({"one": one, "two": two}).merged
    assert merged is not None
    assert built(API, merged).missing == Missing()


async def test_they_are_kept_for_times_without_the_server(tmp_path: Path) -> None:
    folder = tmp_path / "workflows"
    folder.mkdir()
    (folder / "demo.json").write_bytes(msgspec.json.encode(API))
    raw = msgspec.json.encode({**BASE.raw, "NewScale": NEW})
    library = Library(folder, tmp_path / "cache", ["one"])
    await library.open()
    assert await library.update("one", raw, msgspec.json.encode(RULES)) is not None
    assert await library.update("one", raw, msgspec.json.encode(RULES)) is None
    again = Library(folder, tmp_path / "cache", ["one"])
    await again.open()
    assert again.get("demo").graph.nodes["2"].class_type == "NewScale"
    # A server that knows none any more.
    assert await again.update("one", raw) is not None
    missing = again.get("demo").missing
    assert missing is not None
    assert missing.nodes == ["OldScale", "OldSave"]
