"""Inputs and outputs that a file's author has chosen in the App Mode of ComfyUI's page."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.contract.errors import InvalidInput
from bridge.workflows import binding, source
from bridge.workflows.graph import WorkflowError
from bridge.workflows.objectinfo import ObjectInfo
from bridge.workflows.workflow import Workflow
from tests.vectors import comparison
from tests.vectors.drawing import INPUT_NODE, Drawing

SUBGRAPH = "3c1e9c1e-0000-4000-8000-000000000001"
ROOT = "9132f036-0000-4000-8000-000000000002"


def built(document: dict[str, Any], sidecar: str | None = None) -> Workflow:
    beside = None if sidecar is None else sidecar.encode()
    file = source.read("demo.app.json", msgspec.json.encode(document), beside)
    return file.build("demo", comparison.object_info("0.33.0"))


def document(inputs: Any, outputs: Any, title: str | None = None) -> dict[str, Any]:
    """Two sources in the root, one in a subgraph, an own text, and three savers."""
    inner = Drawing()
    inner.node(
        4,
        "EmptyImage",
        values=[64, 48, 1, 255],
        widgets={"width": "INT"},
        outputs={"IMAGE": "IMAGE"},
    )
    inner.link(INPUT_NODE, 0, 4, "width")
    inner.leave(4, 0, 0)
    drawing = Drawing()
    for node in (1, 2):
        drawing.node(node, "EmptyImage", values=[32, 16, 1, 0], outputs={"IMAGE": "IMAGE"})
    drawing.node(3, SUBGRAPH, widgets={"width": "INT"}, outputs={"out0": "IMAGE"}, values=[512])
    titled: dict[str, Any] = {} if title is None else {"title": title}
    drawing.node(5, "PrimitiveString", values=["x"], outputs={"STRING": "STRING"}, **titled)
    drawing.node(6, "PreviewAny", inputs={"source": "*"})
    drawing.link(5, 0, 6, "source")
    for node, saver in ((1, 7), (2, 8), (3, 9)):
        drawing.node(saver, "SaveImage", values=["f"], inputs={"images": "IMAGE"})
        drawing.link(node, 0, saver, "images")
    found = drawing.document(inner.definition(SUBGRAPH, {"width": "INT"}, outputs=1))
    return {**found, "id": ROOT, "extra": {"linearData": {"inputs": inputs, "outputs": outputs}}}


def test_the_authors_inputs_and_outputs_are_the_definitions_in_their_order() -> None:
    found = built(document([["2", "height"], [1, "height"], ["1", "width"]], ["8", 7]))
    assert [(spec.name, str(spec.target)) for spec in found.inputs] == [
        ("height", "2.height"),
        ("height_2", "1.height"),
        ("width", "1.width"),
    ]
    assert [output.node for output in found.outputs] == ["8", "7"]
    # What nobody wants is not made.
    assert found.graph.nodes.keys() >= {"7", "8"}
    assert not {"6", "9"} & found.graph.nodes.keys()


def test_other_inputs_are_reached_by_their_place_and_by_their_plain_name() -> None:
    found = built(document([["2", "height"]], []))
    assert [spec.name for spec in found.inputs] == ["height"]
    assert found.find_input("1.width") is not None
    assert found.find_input("batch_size") == found.find_input("1.batch_size")
    assert {output.node for output in found.outputs} == {"6", "7", "8", "9"}


@pytest.mark.parametrize(
    ("entry", "place"),
    [
        (["4", "height"], "3:4.height"),
        (["3", "width"], "3:4.width"),
        ([f"{ROOT}:1:width", "width"], "1.width"),
        ([f"{ROOT}:3:width", "width"], "3:4.width"),
        ([f"{SUBGRAPH}:4:height", "height"], "3:4.height"),
    ],
)
def test_a_widget_inside_a_subgraph_is_found(entry: list[Any], place: str) -> None:
    found = built(document([entry], ["9"]))
    assert [str(spec.target) for spec in found.inputs] == [place]


@pytest.mark.parametrize(("title", "name"), [(None, "text"), ("Mood", "mood"), ("雪 景", "雪_景")])
def test_an_input_whose_name_says_nothing_is_called_as_its_node(
    title: str | None, name: str
) -> None:
    found = built(document([["5", "value"]], ["6"], title))
    assert [spec.name for spec in found.inputs] == [name]


def test_a_sidecar_goes_above_what_the_author_chose() -> None:
    sidecar = '[inputs.height]\nrename = "rows"\n[inputs.batch_size]\nfix = 1'
    found = built(document([["2", "height"]], []), sidecar)
    assert [spec.name for spec in found.inputs] == ["rows"]
    assert found.find_input("1.batch_size") is None


def declared(name: str, inputs: dict[str, Any], *, output: str | None = None) -> dict[str, Any]:
    """A class of ours, as a server declares it."""
    return {
        "input": {"required": inputs},
        "input_order": {"required": list(inputs)},
        "output": [] if output is None else [output],
        "output_node": output is None,
        "name": name,
        "python_module": "custom_nodes.comfy2mqtt",
    }


def test_our_own_nodes_go_above_what_the_author_chose() -> None:
    kept = "Comfy2MQTTImageOutput"
    given = "Comfy2MQTTIntegerInput"
    classes = {
        kept: declared(kept, {"images": ["IMAGE"], "name": ["STRING", {}]}),
        given: declared(given, {"name": ["STRING", {}], "value": ["INT", {}]}, output="INT"),
    }
    drawn = document([["2", "height"]], ["8"])
    drawing = Drawing()
    drawing.node(20, kept, values=["final"], inputs={"images": "IMAGE"})
    drawn["nodes"] += drawing.nodes
    drawn["links"].append([90, 1, 0, 20, 0, "IMAGE"])
    drawing.nodes[0]["inputs"][0]["link"] = 90
    info = ObjectInfo({**comparison.object_info("0.33.0").raw, **classes})

    def names() -> tuple[list[str], list[str]]:
        file = source.read("demo.app.json", msgspec.json.encode(drawn))
        found = file.build("demo", info)
        return [each.name for each in found.inputs], [each.node for each in found.outputs]

    assert names() == (["height"], ["8", "20"])
    drawn["nodes"].append({"id": 21, "type": given, "widgets_values": ["rows", 3]})
    assert names() == (["rows"], ["8", "20"])


@pytest.mark.parametrize(
    ("inputs", "outputs"), [([], []), (None, 5), ([["99", "x"], 5, []], ["99", None]), ({}, {})]
)
def test_what_chooses_nothing_changes_nothing(inputs: Any, outputs: Any) -> None:
    plain = document([], [])
    del plain["extra"]
    assert built(document(inputs, outputs)).inputs == built(plain).inputs
    assert built(document(inputs, outputs)).outputs == built(plain).outputs


JSON = st.recursive(
    st.none() | st.integers() | st.sampled_from(["1", "3", "width", f"{ROOT}:3:width", ":::"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.just("inputs"), inner),
    max_leaves=8,
)


@given(JSON, JSON)
def test_any_choice_is_taken_or_refused(inputs: Any, outputs: Any) -> None:
    with suppress(WorkflowError):
        found = built(document(inputs, outputs))
        assert found.outputs
        names = [spec.name for spec in found.inputs]
        assert len(set(names)) == len(names)


def fed(kind: str = "PrimitiveNode") -> dict[str, Any]:
    """One value that a primitive node hands to two sources."""
    drawing = Drawing()
    drawing.node(1, kind, values=[40, "fixed"], outputs={"INT": "INT"}, title="Side")
    for node in (2, 3):
        drawing.node(
            node,
            "EmptyImage",
            values=[32, 16, 1, 0],
            widgets={"width": "INT"},
            outputs={"IMAGE": "IMAGE"},
        )
        drawing.link(1, 0, node, "width")
        drawing.node(node + 5, "SaveImage", values=["f"], inputs={"images": "IMAGE"})
        drawing.link(node, 0, node + 5, "images")
    return {**drawing.document(), "extra": {"linearData": {"inputs": [[1, "value"]]}}}


def test_a_primitive_that_is_chosen_is_what_it_feeds() -> None:
    found = built(fed())
    assert [(spec.name, spec.default) for spec in found.inputs] == [("width", 40)]
    bound = binding.bind(found, {"width": 48}, randint=lambda low, _: low)
    assert [bound.prompt[node]["inputs"]["width"] for node in ("2", "3")] == [48, 48]
    assert bound.inputs == {"width": 48}
    assert [bound.names[f"{node}.width"] for node in ("2", "3")] == ["width", "width"]


def test_a_sidecar_sets_all_places_that_a_primitive_feeds() -> None:
    found = built(fed(), "[inputs.width]\nfix = 24")
    assert [found.graph.nodes[node].inputs["width"] for node in ("2", "3")] == [24, 24]
    found = built(fed(), '[outputs."Save Image 8"]\nhide = true\n[inputs.width]\ndefault = 24')
    assert found.graph.nodes["2"].inputs["width"] == 24


def test_the_choices_of_a_combo_that_people_type_in_are_those_of_its_input() -> None:
    drawing = Drawing()
    drawing.node(1, "CustomCombo", values=["b", 1, "a", "b", "c", ""], outputs={"STRING": "STRING"})
    drawing.node(2, "PreviewAny", inputs={"source": "*"})
    drawing.link(1, 0, 2, "source")
    found = built({**drawing.document(), "extra": {"linearData": {"inputs": [[1, "choice"]]}}})
    (spec,) = found.inputs
    assert (spec.kind, spec.choices, found.runnable) == ("choice", ("a", "b", "c"), True)
    bound = binding.bind(found, {spec.name: "c"}, randint=lambda low, _: low)
    assert (bound.prompt["1"]["inputs"]["choice"], bound.prompt["1"]["inputs"]["index"]) == ("c", 2)
    with pytest.raises(InvalidInput, match="not one of the choices"):
        binding.bind(found, {spec.name: "d"}, randint=lambda low, _: low)
