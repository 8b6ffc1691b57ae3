"""Axes: the inputs in which the jobs of a set differ."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.contract import expansion, requests
from bridge.contract.errors import BadRequest, TooLarge
from bridge.contract.messages import Submit, encode


def submit(**fields: Any) -> Submit:
    found = requests.decode("submit", encode({"workflow": "demo", **fields}))
    assert isinstance(found, Submit)
    return found


def count(asked: Submit, limit: int = 1000, **totals: int) -> int:
    return expansion.count(asked, totals, limit, "clients.alice.max_set")


def axes(asked: Submit, **totals: int) -> list[list[dict[str, Any]]]:
    count(asked, **totals)
    return expansion.axes(asked, totals, lambda name, number: [len(name)] * number)


def test_each_is_one_axis_of_what_it_lists() -> None:
    asked = submit(each=[{"prompt": "a"}, {}, {"prompt": "b", "steps": 3}])
    assert count(asked) == 3
    assert axes(asked) == [[{"prompt": "a"}, {}, {"prompt": "b", "steps": 3}]]


def test_an_entry_of_each_maps_over_another_set() -> None:
    entry = {"image": {"set": "a", "output": 1}, "prompt": "x"}
    asked = submit(each=[{"prompt": "first"}, entry, {"image": {"set": "b"}}])
    assert expansion.sets_named(asked) == ["a", "b"]
    assert count(asked, a=2, b=1) == 4
    assert axes(asked, a=2, b=1) == [
        [
            {"prompt": "first"},
            {"image": {"job": "a-0", "output": 1}, "prompt": "x"},
            {"image": {"job": "a-1", "output": 1}, "prompt": "x"},
            {"image": {"job": "b-0", "output": 0}},
        ]
    ]


def test_other_tables_of_an_entry_are_values() -> None:
    value = {"x": {"set": "a", "more": 1}, "y": {"job": "j"}, "z": "set"}
    assert expansion.sets_named(submit(each=[value])) == []
    assert axes(submit(each=[value])) == [[value]]


@pytest.mark.parametrize(
    "entry",
    [
        {"x": {"set": "no id"}},
        {"x": {"set": 3}},
        {"x": {"set": "a", "output": -1}},
        {"x": {"set": "a"}, "y": {"set": "b"}},
    ],
)
def test_an_entry_that_maps_over_what_is_no_set_is_refused_with_its_place(entry: Any) -> None:
    with pytest.raises(BadRequest) as refused:
        expansion.sets_named(submit(each=[{}, entry]))
    assert refused.value.details["field"] == "each[1].x"


def test_a_repeat_is_as_many_jobs_alike() -> None:
    assert count(submit(repeat=4)) == 4
    assert axes(submit(repeat=2)) == [[{}, {}]]


def test_a_grid_has_an_axis_for_each_input_in_the_order_given() -> None:
    asked = submit(grid={"steps": [10, 20, 30], "sampler": ["euler", "heun"]})
    assert count(asked) == 6
    assert axes(asked) == [
        [{"steps": 10}, {"steps": 20}, {"steps": 30}],
        [{"sampler": "euler"}, {"sampler": "heun"}],
    ]


def test_a_grid_of_more_jobs_than_can_be_written_is_refused_as_any_that_is_too_large() -> None:
    widest = {"from": 0, "to": 1e308, "step": 1e-308}
    with pytest.raises(TooLarge) as caught:
        count(submit(grid={f"i{number}": widest for number in range(9)}))
    encode(caught.value.wire())


def test_the_last_axis_varies_fastest() -> None:
    places = [expansion.coordinates(index, [2, 3]) for index in range(6)]
    assert places == [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2]]


@given(st.lists(st.integers(1, 5), min_size=1, max_size=4))
def test_every_combination_is_one_place(sizes: list[int]) -> None:
    total = 1
    for size in sizes:
        total *= size
    places = [tuple(expansion.coordinates(index, sizes)) for index in range(total)]
    assert len(set(places)) == total
    assert all(at < size for place in places for at, size in zip(place, sizes, strict=True))


@pytest.mark.parametrize(
    ("axis", "values"),
    [
        ({"from": 1, "to": 5}, [1, 2, 3, 4, 5]),
        ({"from": 10, "to": 30, "step": 10}, [10, 20, 30]),
        ({"from": 10, "to": 29, "step": 10}, [10, 20]),
        ({"from": 0.1, "to": 0.3, "step": 0.1}, [0.1, 0.2, 0.3]),
        ({"from": 3, "to": 1, "step": -1}, [3, 2, 1]),
        ({"from": 7, "to": 7}, [7]),
        ({"from": 1, "to": 2, "step": 0.5}, [1.0, 1.5, 2.0]),
    ],
)
def test_a_range_has_its_end_and_no_rounding(axis: Any, values: list[float]) -> None:
    found = [each["x"] for each in axes(submit(grid={"x": axis}))[0]]
    assert found == values
    assert [type(each) for each in found] == [type(each) for each in values]


def test_seeds_are_drawn_and_another_sets_outputs_are_named() -> None:
    asked = submit(grid={"seed": {"seeds": 2}, "image": {"set": "s1", "output": 1}})
    assert expansion.sets_named(asked) == ["s1"]
    assert axes(asked, s1=2) == [
        [{"seed": 4}, {"seed": 4}],
        [{"image": {"job": "s1-0", "output": 1}}, {"image": {"job": "s1-1", "output": 1}}],
    ]


@pytest.mark.parametrize(
    "axis",
    [
        {"from": 1},
        {"to": 1},
        {"from": 1, "to": 5, "step": 0},
        {"from": 1, "to": 5, "step": -1},
        {"from": 5, "to": 1},
        {"from": 1, "to": 2, "seeds": 3},
        {"seeds": 3, "set": "s1"},
        {},
        [],
    ],
)
def test_an_axis_that_is_none_is_refused_with_its_name(axis: Any) -> None:
    with pytest.raises(BadRequest) as refused:
        count(submit(grid={"steps": [1], "cfg": axis}), s1=1)
    assert refused.value.details["field"] == "grid.cfg"


@pytest.mark.parametrize(
    "fields",
    [
        {"repeat": 11},
        {"each": [{}] * 11},
        {"each": [{"x": {"set": "s"}}] * 4},
        {"grid": {"a": [1, 2, 3, 4], "b": [1, 2, 3]}},
        {"grid": {"a": {"from": 0, "to": 1e300, "step": 1e-300}}},
        {"grid": {"a": {"seeds": 2**62}, "b": {"from": -(2**60), "to": 2**60}}},
        {"repeat": 2**62},
    ],
)
def test_too_many_jobs_are_refused_before_any_is_made(fields: dict[str, Any]) -> None:
    with pytest.raises(TooLarge) as refused:
        count(submit(**fields), limit=10, s=3)
    assert refused.value.details["limit"] == 10
    assert refused.value.details["size"] > 10
    assert refused.value.details["setting"] == "clients.alice.max_set"


def test_a_jobs_id_is_made_of_its_sets_and_read_again() -> None:
    assert expansion.job_id("a-b", 7) == "a-b-7"
    assert expansion.of_job_id("a-b-7") == ("a-b", 7)
    for other in ("a", "-7", "a-", "a-x", "a-²"):
        assert expansion.of_job_id(other) is None
