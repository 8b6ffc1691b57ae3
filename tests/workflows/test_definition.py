from __future__ import annotations

import copy
from typing import Any

import pytest
from msgspec import UNSET

from bridge.contract.messages import MissingChoice, encode
from bridge.workflows.graph import WorkflowError
from bridge.workflows.kinds import BY_NODE, SEED_MAX
from bridge.workflows.objectinfo import ObjectInfo
from tests.workflows.graphs import INFO, NAMED, PLAIN, workflow


def properties(document: dict[str, Any], info: ObjectInfo | None = INFO) -> dict[str, Any]:
    found: dict[str, Any] = workflow(document, info).definition().inputs["properties"]
    return found


def test_our_nodes_name_the_inputs() -> None:
    found = workflow(NAMED)
    assert [(spec.name, spec.kind) for spec in found.inputs] == [
        ("prompt", "text"),
        ("seed", "seed"),
        ("steps", "integer"),
        ("cfg", "float"),
        ("tiled", "boolean"),
        ("picture", "image"),
        ("style", "image"),
    ]
    definition = found.definition()
    assert definition.inputs["required"] == ["picture"]  # no default, no example
    assert [output.name for output in definition.outputs] == ["result"]
    assert definition.runnable is True
    assert definition.missing is UNSET


def test_an_input_tells_what_it_takes() -> None:
    found = properties(NAMED)
    assert found["prompt"] == {
        "x-kind": "text",
        "type": "string",
        "maxLength": 20,
        "x-multiline": True,
        "title": "Prompt",
        "default": "a barn",
    }
    # The node says 5 to 1000; what takes its value, 1 to 100.
    assert found["steps"] == {
        "x-kind": "integer",
        "type": "integer",
        "minimum": 5,
        "maximum": 100,
        "default": 20,
    }
    assert "default" not in found["seed"]  # drawn anew where it is left out
    assert (found["seed"]["minimum"], found["seed"]["maximum"]) == (0, SEED_MAX)
    assert (found["cfg"]["minimum"], found["cfg"]["maximum"]) == (0.0, 30.0)


def test_without_our_nodes_every_literal_is_an_input_by_its_place() -> None:
    found = properties(PLAIN)
    assert {name: spec["x-kind"] for name, spec in found.items()} == {
        "1.ckpt": "choice",
        "2.seed": "seed",
        "2.steps": "integer",
        "2.cfg": "float",
        "2.sampler": "choice",
        "2.tiled": "boolean",
        "3.image": "image",
        "58:4.filename_prefix": "text",
    }
    assert found["1.ckpt"]["enum"] == ["a.safetensors", "b"]
    assert found["2.steps"]["title"] == "The sampler: steps"
    assert found["2.steps"]["description"] == "How many."


def test_without_object_info_kinds_come_from_the_values() -> None:
    found = workflow(PLAIN, None)
    kinds = {spec.name: spec.kind for spec in found.inputs}
    assert kinds["2.steps"] == "integer"
    assert kinds["2.cfg"] == "float"
    assert kinds["2.tiled"] == "boolean"
    assert kinds["1.ckpt"] == "text"
    assert found.definition().runnable is UNSET
    assert [output.name for output in found.outputs] == ["SaveImage"]


def test_what_is_missing_is_named() -> None:
    document = copy.deepcopy(PLAIN)
    document["1"]["inputs"]["ckpt"] = "gone.safetensors"
    document["5"] = {"class_type": "Unheard", "inputs": {}}
    document["6"] = {"class_type": "Unheard", "inputs": {}}
    definition = workflow(document).definition()
    assert definition.runnable is False
    assert definition.missing is not UNSET
    assert definition.missing.nodes == ["Unheard"]
    assert definition.missing.choices == [
        MissingChoice(
            node="1", input="ckpt", value="gone.safetensors", allowed=["a.safetensors", "b"]
        )
    ]


def test_a_picture_that_is_not_there_must_be_given() -> None:
    document = copy.deepcopy(PLAIN)
    document["3"]["inputs"]["image"] = "gone.png"
    definition = workflow(document).definition()
    assert definition.inputs["required"] == ["3.image"]
    assert definition.runnable is True


def test_outputs_of_one_name_are_told_apart() -> None:
    document = copy.deepcopy(PLAIN)
    document["9"] = {"class_type": "SaveImage", "inputs": {"images": ["2", 0]}}
    document["10"] = {"class_type": "OtherSave", "inputs": {"any": ["2", 0]}}
    assert [(output.name, output.kind) for output in workflow(document).outputs] == [
        ("SaveImage", "image"),
        ("SaveImage 9", "image"),
        ("OtherSave", "file"),
    ]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"2": {"class_type": "Comfy2MQTTSeedInput", "inputs": {"name": "prompt"}}}, "is taken"),
        ({"2": {"class_type": "Comfy2MQTTSeedInput", "inputs": {"name": "$x"}}}, r"begins with \$"),
    ],
)
def test_a_bad_name_is_refused(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(WorkflowError, match=reason) as caught:
        workflow({**NAMED, **change})
    assert caught.value.node == "2"


def test_a_graph_without_an_output_is_no_workflow() -> None:
    with pytest.raises(WorkflowError, match="no output node"):
        workflow({"1": PLAIN["1"]})


def test_a_definition_can_be_sent() -> None:
    for document in (NAMED, PLAIN):
        for info in (INFO, None):
            encode(workflow(document, info).definition())


def test_every_kind_that_has_a_node_has_a_class_in_our_package() -> None:
    import ast
    from pathlib import Path

    package = Path("custom_nodes/comfy2mqtt")
    names = {
        node.value
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert set(BY_NODE) <= names
