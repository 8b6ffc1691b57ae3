"""Graphs in API format, drawn as ComfyUI's page would save them."""

from __future__ import annotations

import copy
from typing import Any

import msgspec
import pytest

from bridge.workflows import definition, graph
from bridge.workflows.conversion import ConversionError, convert, is_ui_format
from bridge.workflows.drawing import draw
from bridge.workflows.objectinfo import ObjectInfo
from tests.vectors import comparison
from tests.workflows.graphs import INFO, PLAIN


@pytest.mark.slow
def test_what_is_drawn_of_every_template_converts_to_the_same_graph() -> None:
    info = comparison.object_info("0.3.75")
    drawn = 0
    for name, document in comparison.load("templates-0.3.75").items():
        try:
            prompt = convert(document, info)
        except ConversionError:
            continue
        drawn += 1
        again = convert(draw(graph.parse(prompt), info), info)
        assert comparison.differences(_as_drawn(prompt), again, info) == [], name
    assert drawn == 177


def _as_drawn(prompt: Any) -> dict[str, Any]:
    """Return a prompt with the ids that the drawing gives to nodes of subgraphs: the next free."""
    following = max((int(each) for each in prompt if each.isdecimal()), default=0)
    ids = {}
    for each in prompt:
        following += not each.isdecimal()
        ids[each] = each if each.isdecimal() else str(following)
    found = {}
    for each, node in prompt.items():
        inputs = {
            name: [ids[value[0]], value[1]] if isinstance(value, list) else value
            for name, value in node["inputs"].items()
        }
        found[ids[each]] = {**node, "inputs": inputs}
    return found


def reading(module: str = "custom_nodes.pack") -> ObjectInfo:
    """Return declarations in which the sampler reads the workflow."""
    raw = copy.deepcopy(dict(INFO.raw))
    raw["Sampler"]["input"]["hidden"] = {"extra_pnginfo": "EXTRA_PNGINFO"}
    raw["Sampler"]["python_module"] = module
    return ObjectInfo(raw)


def test_a_graph_is_drawn_for_nodes_of_packs_that_read_the_workflow() -> None:
    parsed = graph.parse(PLAIN)
    found = definition.build("demo", "v1", parsed, reading())
    assert found.drawing is not None
    drawn = msgspec.json.decode(found.drawing)
    assert is_ui_format(drawn)
    assert {node["type"] for node in drawn["nodes"]} == {
        node["class_type"] for node in PLAIN.values()
    }
    assert [node.get("title") for node in drawn["nodes"]] == [None, "The sampler", None, None]
    assert definition.build("demo", "v1", parsed, reading("nodes")).drawing is None
    assert definition.build("demo", "v1", parsed, INFO).drawing is None
    assert definition.build("demo", "v1", parsed, None).drawing is None


def test_what_lacks_a_class_is_not_drawn_as_it_is_not_run() -> None:
    lacking = graph.parse({**PLAIN, "9": {"class_type": "Unheard", "inputs": {"any": ["2", 0]}}})
    assert definition.build("demo", "v1", lacking, reading()).drawing is None


def test_nodes_of_an_unknown_class_are_drawn_with_their_links() -> None:
    document = {**PLAIN, "9": {"class_type": "Unheard", "inputs": {"any": ["2", 3], "x": 5}}}
    drawn = draw(graph.parse(document), INFO)
    (unknown,) = [node for node in drawn["nodes"] if node["id"] == 9]
    assert [slot["name"] for slot in unknown["inputs"]] == ["any"]
    (link,) = [each for each in drawn["links"] if each[3] == 9]
    assert link[1:5] == [2, 3, 9, 0]


def test_a_file_of_the_page_goes_as_it_is_unless_it_is_too_large() -> None:
    file = draw(graph.parse(PLAIN), INFO)
    found = definition.build("demo", "v1", graph.parse(PLAIN), INFO, drawing=file)
    assert found.drawing == msgspec.json.encode(file)
    large = {**file, "extra": {"note": "x" * definition.MAX_DRAWING}}
    assert definition.build("demo", "v1", graph.parse(PLAIN), INFO, drawing=large).drawing is None
