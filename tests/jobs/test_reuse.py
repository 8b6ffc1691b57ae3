"""Outputs that count as reused, and the error of a run that put out nothing."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.contract.retained import OutputDefinition
from bridge.jobs.job import Plan
from bridge.jobs.reuse import not_given, nothing_new


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


PROMPT = {
    "1": node("CheckpointLoaderSimple", ckpt_name="a"),
    "2": node("KSampler", model=["1", 0], seed=1),
    "3": node("SaveImage", images=["2", 0], filename_prefix="x"),
    "4": node("KSampler (Efficient)", model=["1", 0], seed=1),
    "5": node("SaveText", text="only a text"),
}


def plan(*outputs: str) -> Plan:
    return Plan(
        PROMPT,
        {},
        {},
        [OutputDefinition(name=f"o{each}", kind="image", node=each) for each in outputs],
    )


@pytest.mark.parametrize(
    ("outputs", "cached", "ran", "reused"),
    [
        (["3"], {"1", "2"}, {"3"}, True),  # the picture was there; its file was written again
        (["3"], {"1", "2", "3"}, set(), True),
        (["3"], {"1"}, {"2", "3"}, False),
        (["3"], set(), {"1", "2", "3"}, False),
        (["4"], {"1"}, {"4"}, False),  # an output node that samples makes a picture
        (["3", "4"], {"1", "2"}, {"3", "4"}, False),
        (["3"], {"1"}, {"3"}, False),  # frames were missed: the sampler was not cached, so it ran
        (["4"], {"1"}, set(), False),
        (["5"], {"1"}, {"5"}, False),  # nothing before it: it made its text itself
        (["3"], {"1", "2"}, {"3", "2.0.0.1"}, False),  # a node that another was expanded to
    ],
)
def test_reused_is_true_only_where_nothing_was_made_again(
    outputs: list[str], cached: set[str], ran: set[str], *, reused: bool
) -> None:
    assert nothing_new(plan(*outputs), cached=cached, ran=ran) is reused


def test_outputs_that_were_all_blocked_are_named_with_the_reason() -> None:
    saver, own = not_given(plan("3", "4"))
    assert (saver.name, saver.error.details["reason"]) == ("o3", "blocked")
    assert "node 3 (SaveImage) put out nothing" in saver.error.message
    assert "ExecutionBlocker" in saver.error.message
    assert "reported nothing" in own.error.message
