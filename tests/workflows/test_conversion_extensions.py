"""Nodes that only the page, or an extension of it, knows."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.workflows.conversion import ConversionError, convert
from bridge.workflows.objectinfo import ObjectInfo
from tests.vectors import comparison
from tests.vectors.drawing import INPUT_NODE, Drawing

MUTED, BYPASSED = 2, 4
SUBGRAPH = "3c1e9c1e-0000-4000-8000-000000000001"
PAIRS = [("SetNode", "GetNode"), ("easy setNode", "easy getNode")]


def source(drawing: Drawing, identity: int = 1) -> None:
    drawing.node(identity, "EmptyImage", values=[64, 48, 1, 255], outputs={"IMAGE": "IMAGE"})


def saver(drawing: Drawing, identity: int = 9) -> None:
    drawing.node(identity, "SaveImage", values=["x"], inputs={"images": "IMAGE"})


def setter(drawing: Drawing, identity: int, name: str, kind: str = "SetNode", **more: Any) -> None:
    slots: dict[str, Any] = {"inputs": {"IMAGE": "IMAGE"}, "outputs": {"*": "*"}}
    drawing.node(identity, kind, values=[name], **slots, **more)


def getter(drawing: Drawing, identity: int, name: str, kind: str = "GetNode", **more: Any) -> None:
    drawing.node(identity, kind, values=[name], outputs={"IMAGE": "IMAGE"}, **more)


def saved(document: dict[str, Any], node: str = "9", version: str = "0.33.0") -> Any:
    """Return where the saved image comes from."""
    return convert(document, comparison.object_info(version))[node]["inputs"].get("images")


@pytest.mark.parametrize("version", comparison.VERSIONS)
@pytest.mark.parametrize(("sets", "gets"), PAIRS)
def test_a_value_that_is_got_is_the_one_that_was_set(sets: str, gets: str, version: str) -> None:
    drawing = Drawing()
    source(drawing)
    setter(drawing, 2, "img", sets)
    setter(drawing, 4, "other", sets)
    getter(drawing, 3, "img", gets)
    saver(drawing)
    drawing.link(1, 0, 2, "IMAGE")
    drawing.link(3, 0, 9, "images")

    prompt = convert(drawing.document(), comparison.object_info(version))

    assert prompt.keys() == {"1", "9"}
    assert prompt["9"]["inputs"]["images"] == ["1", 0]


def test_a_name_may_be_set_from_another_and_be_passed_on_by_the_setter() -> None:
    drawing = Drawing()
    source(drawing)
    setter(drawing, 2, "one")
    getter(drawing, 3, "one")
    setter(drawing, 4, "two")
    getter(drawing, 5, "two")
    saver(drawing)
    saver(drawing, 10)
    drawing.link(1, 0, 2, "IMAGE")
    drawing.link(3, 0, 4, "IMAGE")
    drawing.link(5, 0, 9, "images")
    drawing.link(4, 0, 10, "images")

    assert saved(drawing.document()) == ["1", 0]
    assert saved(drawing.document(), "10") == ["1", 0]


def test_a_setter_behind_a_bypassed_node_takes_what_that_passes_on() -> None:
    drawing = Drawing()
    source(drawing)
    drawing.node(
        6, "ImageInvert", inputs={"image": "IMAGE"}, outputs={"IMAGE": "IMAGE"}, mode=BYPASSED
    )
    setter(drawing, 2, "img")
    getter(drawing, 3, "img")
    saver(drawing)
    drawing.link(1, 0, 6, "image")
    drawing.link(6, 0, 2, "IMAGE")
    drawing.link(3, 0, 9, "images")

    assert saved(drawing.document()) == ["1", 0]


def test_a_name_that_nobody_sets_gives_nothing() -> None:
    drawing = Drawing()
    getter(drawing, 3, "img")
    setter(drawing, 2, "")
    getter(drawing, 4, "")
    saver(drawing)
    saver(drawing, 10)
    drawing.link(3, 0, 9, "images")
    drawing.link(4, 0, 10, "images")

    assert saved(drawing.document()) is None
    assert saved(drawing.document(), "10") is None


def test_a_name_that_is_set_from_itself_is_refused() -> None:
    drawing = Drawing()
    setter(drawing, 2, "img")
    getter(drawing, 3, "img")
    saver(drawing)
    drawing.link(3, 0, 2, "IMAGE")
    drawing.link(3, 0, 9, "images")

    with pytest.raises(ConversionError) as caught:
        saved(drawing.document())
    assert caught.value.code == "cyclic_link"


def test_a_subgraph_gets_what_is_set_outside_and_the_outside_what_is_set_inside() -> None:
    inner = Drawing()
    getter(inner, 3, "outside")
    saver(inner)
    source(inner, 4)
    setter(inner, 5, "inside")
    inner.link(3, 0, 9, "images")
    inner.link(4, 0, 5, "IMAGE")
    drawing = Drawing()
    drawing.node(20, SUBGRAPH)
    source(drawing)
    setter(drawing, 2, "outside")
    getter(drawing, 6, "inside")
    saver(drawing, 7)
    drawing.link(1, 0, 2, "IMAGE")
    drawing.link(6, 0, 7, "images")
    document = drawing.document(inner.definition(SUBGRAPH))

    assert saved(document, "20:9") == ["1", 0]
    assert saved(document, "7") == ["20:4", 0]


def test_each_subgraph_node_gets_what_is_set_in_itself() -> None:
    inner = Drawing()
    setter(inner, 2, "img")
    getter(inner, 3, "img")
    saver(inner)
    inner.link(INPUT_NODE, 0, 2, "IMAGE")
    inner.link(3, 0, 9, "images")
    drawing = Drawing()
    for host, node in ((20, 1), (21, 11)):
        source(drawing, node)
        drawing.node(host, SUBGRAPH, inputs={"image": "IMAGE"})
        drawing.link(node, 0, host, "image")
    document = drawing.document(inner.definition(SUBGRAPH, {"image": "IMAGE"}))

    assert saved(document, "20:9") == ["1", 0]
    assert saved(document, "21:9") == ["11", 0]


def test_other_reroutes_pass_on_what_they_are_given() -> None:
    drawing = Drawing()
    source(drawing)
    drawing.node(2, "Reroute (rgthree)", inputs={"": "*"}, outputs={"": "*"})
    saver(drawing)
    drawing.link(1, 0, 2, "")
    drawing.link(2, 0, 9, "images")

    assert saved(drawing.document()) == ["1", 0]


@pytest.mark.parametrize(
    "kind", ["Label (rgthree)", "Fast Groups Bypasser (rgthree)", "Somebody's note", "workflow>X"]
)
def test_what_nothing_is_linked_to_is_left_out(kind: str) -> None:
    drawing = Drawing()
    source(drawing)
    saver(drawing)
    drawing.node(2, kind, values=["x"], inputs={"any": "*"}, outputs={"OPT_CONNECTION": "*"})
    drawing.link(1, 0, 9, "images")

    assert convert(drawing.document(), comparison.object_info("0.33.0")).keys() == {"1", "9"}


def test_a_node_that_is_not_known_is_named_where_there_is_nothing_else() -> None:
    drawing = Drawing()
    drawing.node(2, "Unheard")

    with pytest.raises(ConversionError, match="no node class 'Unheard'"):
        convert(drawing.document(), comparison.object_info("0.33.0"))


def test_a_switch_of_the_page_does_no_harm_where_it_is_linked() -> None:
    drawing = Drawing()
    source(drawing)
    saver(drawing)
    drawing.node(2, "Fast Muter (rgthree)", inputs={"EmptyImage": "*"}, outputs={"OUT": "*"})
    drawing.link(1, 0, 9, "images")
    drawing.link(1, 0, 2, "EmptyImage")

    assert convert(drawing.document(), comparison.object_info("0.33.0")).keys() == {"1", "9"}


def test_a_class_of_the_server_is_none_of_the_page() -> None:
    raw = dict(comparison.object_info("0.33.0").raw)
    raw["GetNode"] = {"input": {"required": {}}, "output": ["IMAGE"], "name": "GetNode"}
    drawing = Drawing()
    getter(drawing, 3, "img")
    saver(drawing)
    drawing.link(3, 0, 9, "images")

    prompt = convert(drawing.document(), ObjectInfo(raw))

    assert prompt["9"]["inputs"]["images"] == ["3", 0]


def test_an_unknown_class_can_be_kept_with_what_the_file_has_of_it() -> None:
    drawing = Drawing()
    source(drawing)
    slots: dict[str, Any] = {"inputs": {"image": "IMAGE"}, "outputs": {"IMAGE": "IMAGE"}}
    drawing.node(2, "Unheard", values={"strength": 0.5, "points": [1, 2]}, title="T", **slots)
    drawing.link(1, 0, 2, "image")

    prompt = convert(drawing.document(), comparison.object_info("0.33.0"), keep_unknown=True)

    assert prompt["2"] == {
        "class_type": "Unheard",
        "inputs": {"strength": 0.5, "points": {"__value__": [1, 2]}, "image": ["1", 0]},
        "_meta": {"title": "T"},
    }
