"""The measure: the official front end's conversions of all templates that the packages ship."""

from __future__ import annotations

import copy
import time
from collections import Counter
from functools import cache
from typing import Any

import pytest

from bridge.workflows.conversion import ConversionError, convert, is_ui_format
from tests.vectors import comparison

pytestmark = pytest.mark.slow

GIVEN = [
    (version, name)
    for version in comparison.VERSIONS
    for name in sorted(comparison.load(f"given-{version}"))
]
REFUSED = {
    # In two more, nothing is linked to the unknown nodes, so that they are left out.
    ("0.3.75", "unknown_node"): 11,
    ("0.33.0", "unknown_node"): 3,
    ("0.33.0", "needs_browser"): 4,
}
MUTED = 2


def template(version: str, name: str) -> Any:
    return comparison.load(f"templates-{version}")[name]


@cache
def converted(version: str, name: str) -> Any:
    """Convert a template, or return why it is refused; once for all tests."""
    try:
        return convert(template(version, name), comparison.object_info(version))
    except ConversionError as error:
        return error


def wanted(version: str) -> Any:
    return comparison.load(f"more-{version}") | comparison.load(f"given-{version}")


@pytest.mark.parametrize(("version", "name"), GIVEN)
def test_a_given_conversion_is_equal(version: str, name: str) -> None:
    want = comparison.load(f"given-{version}")[name]

    got = converted(version, name)

    assert comparison.differences(want, got, comparison.object_info(version)) == []


@pytest.mark.parametrize(
    ("version", "live"),
    # What 0.33.0 says was saved with sorted keys; live it comes in the server's own order.
    [("0.3.75", False), ("0.33.0", False), ("0.33.0", True)],
)
def test_all_other_templates_are_equal_too(version: str, *, live: bool) -> None:
    info = comparison.live_object_info() if live else comparison.object_info(version)
    wrong = {}
    for name, want in wanted(version).items():
        got = convert(template(version, name), info) if live else converted(version, name)
        if found := comparison.differences(want, got, info):
            wrong[name] = found

    assert wrong == {}
    assert len(wanted(version)) == {"0.3.75": 175, "0.33.0": 499}[version]


def test_every_template_is_converted_or_refused_with_node_and_reason() -> None:
    errors: list[tuple[str, ConversionError]] = []
    for version in comparison.VERSIONS:
        for name, document in comparison.load(f"templates-{version}").items():
            assert is_ui_format(document)
            found = converted(version, name)
            if isinstance(found, ConversionError):
                errors.append((version, found))

    assert Counter((version, error.code) for version, error in errors) == REFUSED
    assert all(error.class_type and error.node for _, error in errors)
    assert all(str(error).startswith(f"node {error.node}: ") for _, error in errors)


@pytest.mark.parametrize("version", comparison.VERSIONS)
def test_every_class_has_its_widgets_in_the_front_ends_order(version: str) -> None:
    info = comparison.live_object_info() if version == "0.33.0" else comparison.object_info(version)
    wrong = []
    for kind, values, inputs in comparison.load(f"layouts-{version}"):
        node = {"id": 1, "type": kind, "widgets_values": values}
        got = convert({"nodes": [node], "links": []}, info)["1"]
        sent = {name: value for name, value in got["inputs"].items() if value is not None}
        want = {"1": {"class_type": kind, "inputs": inputs}}
        wrong += comparison.differences(want, {"1": {**got, "inputs": sent}}, info)

    assert wrong == []


@pytest.mark.parametrize("version", comparison.VERSIONS)
def test_what_is_refused_converts_once_the_node_at_fault_is_muted(version: str) -> None:
    info = comparison.object_info(version)
    for name in comparison.load(f"templates-{version}").keys() - wanted(version).keys():
        document = copy.deepcopy(template(version, name))
        for _ in range(20):
            try:
                prompt = convert(document, info)
                break
            except ConversionError as error:
                mute(document, error.class_type)
        else:
            pytest.fail(f"{name} does not convert")
        # What is missing now is what the muted nodes gave; all that is there must be right.
        wrong = [each for each in comparison.problems(prompt, info) if "missing" not in each]
        assert wrong == [], name


def mute(document: Any, kind: str | None) -> None:
    for graph in (document, *document.get("definitions", {}).get("subgraphs", [])):
        for node in graph["nodes"]:
            if node["type"] == kind:
                node["mode"] = MUTED


@pytest.mark.parametrize("version", comparison.VERSIONS)
def test_links_and_literals_are_right_wherever_the_front_end_has_them_right(version: str) -> None:
    info = comparison.object_info(version)
    for name, want in wanted(version).items():
        known = set(comparison.problems(want, info))
        assert set(comparison.problems(converted(version, name), info)) <= known, name


def test_a_conversion_changes_nothing_and_always_gives_the_same() -> None:
    version, name = "0.33.0", "templates-car_product"
    document = template(version, name)
    before = copy.deepcopy(document)
    info = comparison.object_info(version)
    raw = copy.deepcopy(info.raw)

    first, second = convert(document, info), convert(document, info)

    assert first == second
    assert list(first) == list(second)
    assert document == before
    assert info.raw == raw


def test_the_largest_templates_convert_in_a_fraction_of_a_second() -> None:
    info = comparison.object_info("0.33.0")
    largest = sorted(comparison.load("templates-0.33.0").values(), key=size)[-5:]
    for document in largest:
        start = time.process_time()
        convert(document, info)
        # 10 ms where it was measured; the bound leaves room for a busy machine.
        assert time.process_time() - start < 0.5


def size(document: Any) -> int:
    graphs = [document, *document.get("definitions", {}).get("subgraphs", [])]
    return sum(len(graph["nodes"]) for graph in graphs)
