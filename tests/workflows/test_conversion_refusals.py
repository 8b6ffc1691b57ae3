"""Refusals of the conversion: always a ConversionError with a stable code, in bounded time."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.workflows.conversion import ConversionError, convert
from bridge.workflows.graph import WorkflowError
from bridge.workflows.objectinfo import ObjectInfo
from tests.vectors import comparison
from tests.vectors.drawing import INPUT_NODE, Drawing

pytestmark = pytest.mark.slow

MUTED = 2
LATER = "0.33.0"
SUBGRAPH = "3c1e9c1e-0000-4000-8000-000000000001"


def refusal(document: Any, version: str = LATER) -> ConversionError:
    with pytest.raises(ConversionError) as caught:
        convert(document, comparison.object_info(version))
    return caught.value


def lone(kind: str, **more: Any) -> Drawing:
    drawing = Drawing()
    drawing.node(7, kind, **more)
    return drawing


def test_an_unknown_class_is_refused_by_node_title_and_class() -> None:
    drawing = lone("NoSuchNode", title="My node", outputs={"IMAGE": "IMAGE"})
    drawing.node(8, "SaveImage", inputs={"images": "IMAGE"})
    drawing.link(7, 0, 8, "images")

    error = refusal(drawing.document())

    assert isinstance(error, WorkflowError)
    assert (error.code, error.node) == ("unknown_node", "7")
    assert (error.title, error.class_type) == ("My node", "NoSuchNode")
    assert str(error) == "node 7: the server has no node class 'NoSuchNode'"
    assert error.details == {
        "reason": "unknown_node",
        "node": "7",
        "title": "My node",
        "class_type": "NoSuchNode",
    }


def test_an_unknown_class_in_a_subgraph_is_refused_by_the_way_to_it() -> None:
    drawing = Drawing()
    drawing.node(3, SUBGRAPH)

    inner = lone("NoSuchNode", inputs={"image": "IMAGE"})
    inner.node(8, "EmptyImage", outputs={"IMAGE": "IMAGE"})
    inner.link(8, 0, 7, "image")

    error = refusal(drawing.document(inner.definition(SUBGRAPH)))

    assert (error.code, error.node) == ("unknown_node", "3:7")


def test_an_unknown_class_that_is_muted_does_no_harm() -> None:
    document = lone("NoSuchNode", mode=MUTED).document()

    assert convert(document, comparison.object_info(LATER)) == {}


@pytest.mark.parametrize("kind", ["Load3D", "WebcamCapture"])
def test_a_value_that_only_a_browser_can_make_is_refused(kind: str) -> None:
    error = refusal(lone(kind).document())

    assert (error.code, error.node, error.class_type) == ("needs_browser", "7", kind)


def test_a_3d_preview_needs_no_browser() -> None:
    camera = {"Camera Config": {"state": {"zoom": 2}}}
    document = lone("Preview3DAdvanced", properties=camera).document()

    inputs = convert(document, comparison.object_info(LATER))["7"]["inputs"]

    assert inputs["viewport_state"]["camera_info"] == {"zoom": 2}


def test_a_3d_preview_that_nobody_has_turned_has_the_camera_of_the_page() -> None:
    document = lone("Preview3DAdvanced").document()

    state = convert(document, comparison.object_info(LATER))["7"]["inputs"]["viewport_state"]

    assert state["camera_info"]["position"] == {"x": 10, "y": 10, "z": 10}
    assert (state["camera_info"]["fov"], state["image"]) == (35, "")


def test_a_link_that_is_not_there_is_refused() -> None:
    document = lone("SaveImage", inputs={"images": "IMAGE"}).document()
    document["nodes"][0]["inputs"][0]["link"] = 99

    error = refusal(document)

    assert (error.code, error.node) == ("broken_link", "7")
    assert "'images'" in str(error)


def test_a_link_from_a_node_that_is_not_there_is_refused() -> None:
    document = lone("SaveImage", inputs={"images": "IMAGE"}).document()
    document["nodes"][0]["inputs"][0]["link"] = 1
    document["links"] = [[1, 55, 0, 7, 0, "IMAGE"]]

    error = refusal(document)

    assert (error.code, error.node) == ("broken_link", "7")
    assert "55" in str(error)


@pytest.mark.parametrize("version", comparison.VERSIONS)
def test_reroutes_in_a_circle_are_refused(version: str) -> None:
    drawing = lone("SaveImage", inputs={"images": "IMAGE"})
    for node in (1, 2):
        drawing.node(node, "Reroute", inputs={"": "*"}, outputs={"": "IMAGE"})
    drawing.link(1, 0, 2, "")
    drawing.link(2, 0, 1, "")
    drawing.link(2, 0, 7, "images")

    assert refusal(drawing.document(), version).code == "cyclic_link"


@pytest.mark.parametrize("version", comparison.VERSIONS)
def test_a_subgraph_that_contains_itself_is_refused(version: str) -> None:
    one, two = Drawing(), Drawing()
    one.node(1, "two")
    two.node(2, "one")
    drawing = lone("one")

    error = refusal(drawing.document(one.definition("one"), two.definition("two")), version)

    assert error.code == "cyclic_subgraph"


def test_a_self_containing_subgraph_that_nobody_uses_does_no_harm() -> None:
    one = Drawing()
    one.node(1, "one")

    document = lone("Note").document(one.definition("one"))

    assert convert(document, comparison.object_info(LATER)) == {}


def test_two_nodes_with_one_id_are_refused() -> None:
    drawing = lone("Note")
    drawing.node(7, "Note")

    assert refusal(drawing.document()).code == "malformed"


def doubling() -> dict[str, Any]:
    levels = []
    for level in range(40):
        inner = Drawing()
        for node in range(2):
            inner.node(node, f"level{level + 1}")
        levels.append(inner.definition(f"level{level}"))
    levels.append(lone("ImageInvert").definition("level40"))
    return lone("level0").document(*levels)


def wide() -> dict[str, Any]:
    drawing = Drawing()
    for node in range(9_000):
        drawing.node(node, SUBGRAPH)
    many = {f"input{place}": "INT" for place in range(1_000)}
    return drawing.document(Drawing().definition(SUBGRAPH, many))


def shown() -> dict[str, Any]:
    drawing = Drawing()
    names = [["1", name] for name in ("seed", "steps", "cfg")] * 300
    for node in range(5_000):
        drawing.node(node + 10, SUBGRAPH, properties={"proxyWidgets": names})
    sampler = Drawing()
    sampler.node(1, "KSampler")
    return drawing.document(sampler.definition(SUBGRAPH))


def rerouted() -> dict[str, Any]:
    reroutes = Drawing()
    for node in range(4_000):
        reroutes.node(node, "Reroute", inputs={"": "*"}, outputs={"": "*"})
    for node in range(4_000, 8_000):
        reroutes.node(node, "SaveImage", inputs={"images": "IMAGE"})
    links = [[node, node - 1, 0, node, 0, "*"] for node in range(1, 4_000)]
    links += [[node, 3_999, 0, node, 0, "*"] for node in range(4_000, 8_000)]
    for drawn in reroutes.nodes[1:]:
        drawn["inputs"][0]["link"] = drawn["id"]
    return {**reroutes.document(), "links": links}


def noted(*ids: int) -> dict[str, Any]:
    return {"nodes": [{"id": node, "type": "Note"} for node in ids]}


# Small files that ask for far more than they hold. They are drawn where they are tested: at import
# they would cost every worker of the tests.
BOMBS: dict[str, Callable[[], dict[str, Any]]] = {
    "doubling at each of 40 levels": doubling,
    "9,000 nodes of 1,000 inputs": wide,
    "inputs made by 5,000 nodes": shown,
    "4,000 links through 4,000 reroutes": rerouted,
    "10,001 nodes": lambda: noted(*range(10_001)),
    "1,001 values": lambda: lone("KSampler", values=[0] * 1_001).document(),
    "nested texts": lambda: lone("CLIPTextEncode", values=["{" * 50_000]).document(),
    "comments that never close": lambda: lone("CLIPTextEncode", values=["/*" * 200_000]).document(),
    "a huge id": lambda: noted(10**40),
}
TAKEN = {"4,000 links through 4,000 reroutes", "nested texts", "comments that never close"}


@pytest.mark.parametrize("name", sorted(BOMBS))
@pytest.mark.parametrize("version", comparison.VERSIONS)
def test_a_file_that_asks_for_too_much_is_soon_done_with(version: str, name: str) -> None:
    document = BOMBS[name]()
    start = time.process_time()
    try:
        convert(document, comparison.object_info(version))
        code = None
    except ConversionError as error:
        code = error.code

    assert time.process_time() - start < 10
    assert (code is None) == (name in TAKEN)
    assert code in {None, "too_large", "malformed"}


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(min_value=-3, max_value=12)
    | st.integers()
    | st.floats()
    | st.text(max_size=3)
    | st.sampled_from([10**12, -(10**12), 10**400, -(10**400)])
    | st.sampled_from(["Reroute", "PrimitiveNode", "KSampler", "-1", "INT", "*", SUBGRAPH]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["id", "type", "link", "links", "name", "nodes", "widget", "mode"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(json_values)
def test_garbage_raises_only_a_conversion_error(document: Any) -> None:
    converts_or_refuses(document)


def converts_or_refuses(document: Any) -> None:
    for version in comparison.VERSIONS:
        try:
            prompt = convert(document, comparison.object_info(version))
        except ConversionError:
            continue
        assert all(entry["class_type"] for entry in prompt.values())


@cache
def sound() -> list[dict[str, Any]]:
    """Return templates that convert."""
    new, old = comparison.load("templates-0.33.0"), comparison.load("templates-0.3.75")
    names = ("video_kandinsky5_i2v", "api_google_gemini", "basic_switch_node")
    return [*(new[name] for name in names), old["video_wan_vace_14B_ref2v"]]


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the ways to everything inside a JSON value."""
    if isinstance(value, dict):
        inside: list[tuple[Any, Any]] = list(value.items())
    elif isinstance(value, list):
        inside = list(enumerate(value))
    else:
        return [path]
    return [path, *(way for key, each in inside for way in places(each, (*path, key)))]


@cache
def ways() -> list[list[tuple[Any, ...]]]:
    """Return the ways to everything inside each of those templates."""
    return [places(document) for document in sound()]


@settings(max_examples=150)
@given(st.data())
def test_a_template_with_anything_in_any_place_converts_or_is_refused(data: st.DataObject) -> None:
    which = data.draw(st.integers(min_value=0, max_value=len(sound()) - 1))
    document = copy.deepcopy(sound()[which])
    for _ in range(data.draw(st.integers(min_value=1, max_value=3))):
        way = data.draw(st.sampled_from(ways()[which]))
        put(document, way, data.draw(json_values))

    converts_or_refuses(document)


def put(document: Any, way: tuple[Any, ...], value: Any) -> None:
    """Set what the way leads to, as far as earlier changes have left it there."""
    for key in way[:-1]:
        try:
            document = document[key]
        except (KeyError, IndexError, TypeError):
            return
    if way and isinstance(document, dict | list):
        try:
            document[way[-1]] = value
        except (IndexError, TypeError):
            return


def test_numbers_that_are_no_floats_spoil_nothing_else() -> None:
    huge = 10**400
    limits = {"min": 0, "max": 10, "default": huge}
    branch = {"key": "on", "inputs": {"required": {"a": ["INT", limits], "b": ["INT", limits]}}}
    chooser = {
        "mode": ["COMFY_DYNAMICCOMBO_V3", {"options": [branch]}],
        "z": ["FLOAT", {}],
    }
    # In the order of the alphabet, which the server did not write them in.
    order = {"required": ["z", "mode"]}
    declared = {"input": {"required": chooser}, "input_order": order, "output_matchtypes": []}
    info = ObjectInfo({"Chooser": declared})
    drawing = Drawing()
    drawing.node(1, "PrimitiveNode", values=[huge], outputs={"FLOAT": "FLOAT"})
    drawing.node(2, "Chooser", values=[0.5, "on", 1, huge], widgets={"z": "FLOAT"})
    drawing.link(1, 0, 2, "z")

    inputs = convert(drawing.document(), info)["2"]["inputs"]
    assert inputs == {"z": huge, "mode": "on", "mode.a": 1, "mode.b": huge}


def test_a_subgraphs_link_to_an_input_that_its_node_lacks_is_refused() -> None:
    inner = Drawing()
    inner.node(1, "ImageInvert", inputs={"image": "IMAGE"})
    inner.link(INPUT_NODE, 4, 1, "image")
    drawing = Drawing()
    drawing.node(3, SUBGRAPH)

    error = refusal(drawing.document(inner.definition(SUBGRAPH, {"image": "IMAGE"})))

    assert (error.code, error.node) == ("broken_link", "3")
