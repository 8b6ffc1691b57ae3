from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.custom_nodes.comfyui import Refused
from tests.custom_nodes.graphs import node, output, value_graph

if TYPE_CHECKING:
    from tests.custom_nodes.comfyui import ComfyUI

pytestmark = pytest.mark.comfyui


@pytest.mark.parametrize(
    ("kind", "value", "shown"),
    [
        ("Text", "two\nlines, ünd \N{SAILBOAT}", "two\nlines, ünd \N{SAILBOAT}"),
        ("Integer", -7, "-7"),
        ("Integer", 2**64 - 1, str(2**64 - 1)),
        ("Integer", -(2**63), str(-(2**63))),
        ("Float", 0.1, "0.1"),
        ("Float", 1e300, "1e+300"),
        ("Boolean", True, "True"),
        ("Boolean", False, "False"),
        ("Seed", 2**64 - 1, str(2**64 - 1)),
    ],
)
async def test_a_value_is_given_on_as_it_is(
    comfyui: ComfyUI, kind: str, value: object, shown: str
) -> None:
    run = await comfyui.run(value_graph(kind, value=value, title="A title", description="Why."))
    assert run.ui("2") == {"text": [shown]}


@pytest.mark.parametrize(
    ("kind", "inputs", "message"),
    [
        ("Text", {"value": "abcd", "max_length": 3}, "4 characters is longer than the 3 allowed"),
        ("Integer", {"value": 11, "maximum": 10}, "11 is above the maximum 10"),
        ("Integer", {"value": -1, "minimum": 0}, "-1 is below the minimum 0"),
        ("Float", {"value": 1.5, "maximum": 1.0}, "1.5 is above the maximum 1.0"),
        ("Float", {"value": -0.5, "minimum": 0.0}, "-0.5 is below the minimum 0.0"),
        ("Float", {"value": "nan"}, "nan is not a finite number"),
    ],
)
async def test_a_value_outside_its_limits_fails_the_job_with_its_name(
    comfyui: ComfyUI, kind: str, inputs: dict[str, Any], message: str
) -> None:
    run = await comfyui.run(value_graph(kind, **inputs))
    assert run.error["exception_type"].endswith(".ValueOutOfLimits")
    assert f"Input 'wanted': {message}" in run.error["exception_message"].replace("a text of ", "")


@pytest.mark.parametrize(
    ("kind", "inputs"),
    [
        ("Text", {"value": "abc", "max_length": 3}),
        ("Integer", {"value": 10, "minimum": 10, "maximum": 10, "step": 5}),
        ("Float", {"value": 1.0, "minimum": 1.0, "maximum": 1.0, "step": 0.5}),
    ],
)
async def test_limits_include_their_ends(
    comfyui: ComfyUI, kind: str, inputs: dict[str, Any]
) -> None:
    assert (await comfyui.run(value_graph(kind, **inputs))).succeeded


@pytest.mark.parametrize(
    ("kind", "value", "problem"),
    [
        ("Integer", 2**64, "value_bigger_than_max"),
        ("Integer", -(2**63) - 1, "value_smaller_than_min"),
        ("Seed", -1, "value_smaller_than_min"),
        ("Seed", 2**64, "value_bigger_than_max"),
    ],
)
async def test_more_than_sixty_four_bits_are_refused_before_the_job_is_queued(
    comfyui: ComfyUI, kind: str, value: int, problem: str
) -> None:
    with pytest.raises(Refused) as caught:
        await comfyui.submit(value_graph(kind, value=value))
    (error,) = caught.value.answer["node_errors"]["1"]["errors"]
    assert (error["type"], error["extra_info"]["input_name"]) == (problem, "value")


async def test_a_linked_value_is_checked_as_well(comfyui: ComfyUI) -> None:
    graph = value_graph("Integer", value=["3", 0], maximum=5)
    graph["3"] = node("Comfy2MQTTIntegerInput", name="other", value=6)
    assert "6 is above the maximum 5" in (await comfyui.run(graph)).error["exception_message"]


async def test_values_drive_other_nodes(comfyui: ComfyUI) -> None:
    graph = {
        "1": node("Comfy2MQTTIntegerInput", name="width", value=48),
        "2": node("Comfy2MQTTSeedInput", name="seed", value=3),
        "3": node(
            "TestImage", width=["1", 0], height=32, channels=3, count=1, seed=["2", 0], kind="noise"
        ),
        "4": output("3"),
    }
    (made,) = (await comfyui.run(graph)).outputs
    assert (made.header["width"], made.header["height"]) == (48, 32)


async def test_every_input_of_every_node_says_what_it_is_for(comfyui: ComfyUI) -> None:
    async with comfyui.http.get("/object_info") as response:
        info = await response.json()
    ours = {name: node for name, node in info.items() if name.startswith("Comfy2MQTT")}
    assert len(ours) == 19
    for name, described in ours.items():
        assert described["category"] == "comfy2mqtt"
        assert described["description"]
        for group in ("required", "optional"):
            for key, (_, options) in described["input"].get(group, {}).items():
                assert options["tooltip"], (name, key)
