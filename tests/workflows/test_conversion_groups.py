"""Legacy group nodes: what the official page makes of them, and where it fails what it is to do.

`groups.json.gz` has small files that were made for this, `groups-*.json.gz` what the page made of
them, with the front ends 1.32.9 and 1.58.1 in headless Chromium (1.49.6 gives the same).
"""

from __future__ import annotations

import copy
from typing import Any

import pytest

from bridge.workflows.conversion import ConversionError, convert
from bridge.workflows.objectinfo import ObjectInfo
from tests.vectors import comparison

# Where the page loses a link or a value, so that a prompt cannot run, or runs with another value
# than the drawing has: what is meant is done.
PAGE_FAILS = {
    # A link from group to group.
    ("0.3.75", "row"),
    # A link from outside to an input that was a widget.
    ("0.3.75", "converted"),
    ("0.33.0", "converted"),
    # The value of a primitive inside.
    ("0.33.0", "primitive"),
    # Links over reroutes inside.
    ("0.3.75", "reroutes"),
    ("0.33.0", "reroutes"),
    # A group within a group: its nodes, and the values after them.
    ("0.3.75", "nested"),
    ("0.33.0", "nested"),
    # A link over a bypassed node inside.
    ("0.3.75", "inner_bypassed"),
}
GIVEN = [
    (version, name)
    for version in comparison.VERSIONS
    for name in comparison.load(f"groups-{version}")
]


def info(version: str) -> ObjectInfo:
    return comparison.live_object_info() if version == "0.33.0" else comparison.object_info(version)


def converted(name: str, version: str = "0.33.0") -> Any:
    return convert(comparison.load("groups")[name], info(version))


@pytest.mark.parametrize(("version", "name"), GIVEN)
def test_a_group_is_expanded_as_the_page_does(version: str, name: str) -> None:
    want = comparison.load(f"groups-{version}")[name]
    found = comparison.differences(want, converted(name, version), info(version))
    assert bool(found) == ((version, name) in PAGE_FAILS), found


@pytest.mark.parametrize(
    ("name", "node", "inputs"),
    [
        ("row", "105:103", {"image": ["102:101", 0]}),
        ("converted", "102:100", {"width": ["1", 0], "height": 16, "batch_size": 1, "color": 0}),
        ("primitive", "102:101", {"width": 96, "height": 96, "batch_size": 1, "color": 0}),
        ("reroutes", "104:101", {"image": ["1", 0]}),
        ("reroutes", "104:103", {"image": ["104:101", 0], "blur_radius": 5, "sigma": 2.0}),
        ("nested", "102:101", {"image": ["102:105:104", 0], "blur_radius": 4, "sigma": 0.5}),
        ("inner_bypassed", "103:102", {"image": ["103:100", 0], "blur_radius": 4, "sigma": 0.5}),
    ],
)
def test_what_a_drawing_says_is_done_also_where_the_page_loses_it(
    name: str, node: str, inputs: dict[str, Any]
) -> None:
    assert converted(name)[node]["inputs"] == inputs


def test_the_nodes_of_a_group_are_those_that_are_named_when_one_is_missing() -> None:
    document = comparison.load("groups")["unknown"]
    with pytest.raises(ConversionError) as caught:
        convert(document, info("0.33.0"))
    assert caught.value.class_type == "NoSuchThing"
    prompt = convert(document, info("0.33.0"), keep_unknown=True)
    assert {entry["class_type"] for entry in prompt.values()} == {
        "EmptyImage",
        "NoSuchThing",
        "SaveImage",
    }


def test_a_group_that_contains_itself_is_refused() -> None:
    document = copy.deepcopy(comparison.load("groups")["nested"])
    document["extra"]["groupNodes"]["My Group"]["nodes"][1]["type"] = "workflow>Nest"
    with pytest.raises(ConversionError) as caught:
        convert(document, info("0.33.0"))
    assert caught.value.code == "cyclic_subgraph"


@pytest.mark.parametrize(
    "raw",
    [None, [], {"My Group": None}, {"My Group": {"nodes": 5}}, {"My Group": {"nodes": [{}]}}],
)
def test_a_group_that_cannot_be_read_is_a_class_that_nobody_has(raw: Any) -> None:
    document = copy.deepcopy(comparison.load("groups")["plain"])
    document["extra"]["groupNodes"] = raw
    with pytest.raises(ConversionError) as caught:
        convert(document, info("0.33.0"))
    assert (caught.value.code, caught.value.class_type) == ("unknown_node", "workflow>My Group")


def test_links_of_a_group_that_lead_nowhere_are_passed_over() -> None:
    document = copy.deepcopy(comparison.load("groups")["plain"])
    group = document["extra"]["groupNodes"]["My Group"]
    group["links"] += [[0, 0, 9, 0], "x", [None, 0, 1, 0], [True], [0, 0, 1, 99, 1, "IMAGE"]]
    # From an output for which there is no memory, and one for which there is no number.
    group["links"] += [[0, 10**12, 1, 0, 1, "IMAGE"], [0, 10**30, 1, 0, 1, "IMAGE"]]
    group["external"] += [[], "x", [7, 7, "IMAGE"]]
    want = comparison.load("groups-0.33.0")["plain"]
    assert comparison.differences(want, convert(document, info("0.33.0")), info("0.33.0")) == []


def test_a_link_from_an_output_that_a_group_does_not_show_is_none() -> None:
    document = copy.deepcopy(comparison.load("groups")["plain"])
    document["links"][0][2] = 5
    prompt = convert(document, info("0.33.0"))
    assert "images" not in prompt["9"]["inputs"]


@pytest.mark.slow
def test_many_groups_within_groups_cost_no_more_than_is_allowed() -> None:
    empty = comparison.load("groups")["plain"]["extra"]["groupNodes"]["My Group"]["nodes"][0]
    groups = {"g0": {"nodes": [empty] * 8, "links": []}}
    for level in range(1, 12):
        inner = {**empty, "type": f"workflow>g{level - 1}", "widgets_values": []}
        groups[f"g{level}"] = {"nodes": [inner] * 8, "links": []}
    document = {
        "nodes": [{"id": 1, "type": "workflow>g11"}],
        "links": [],
        "extra": {"groupNodes": groups},
    }
    with pytest.raises(ConversionError) as caught:
        convert(document, info("0.33.0"))
    assert caught.value.code == "too_large"
