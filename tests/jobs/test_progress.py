from __future__ import annotations

from typing import Any

from bridge.jobs.progress import Meter
from tests.support.steps import steps

GRAPH: dict[str, dict[str, Any]] = {
    "1": {"inputs": {}},
    "2": {"inputs": {"steps": 4}},
    "3": {"inputs": {}},
}


def test_a_percentage_counts_the_graphs_own_nodes_once() -> None:
    meter = Meter(GRAPH)
    assert meter.cached(["1", "1", "not of the graph"]).percent == round(100 / 22, 1)
    assert meter.step("2", 2, 4).percent == 50.0
    assert meter.node("made while it runs").percent == round(100 * 21 / 22, 1)
    assert meter.step("2", 1, 4).percent == round(100 * 21 / 22, 1)  # it never goes back
    assert meter.node("3").percent == round(100 * 21 / 22, 1)


def test_nodes_that_are_made_while_it_runs_make_no_step_slower() -> None:
    few, many = Meter(GRAPH), Meter(GRAPH)
    for meter, made in ((few, 10), (many, 1000)):
        for number in range(made):
            meter.step(f"2.{number}", 1, 2)
    assert steps(lambda: many.step("2.x", 1, 2)) <= steps(lambda: few.step("2.x", 1, 2))
