"""What is made of figures, without measuring any."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from tests.bench.figures import Spread, compare, p50, percentile
from tests.bench.plot import svg
from tests.bench.report import Aim, Machine, Report, Row, markdown, put
from tests.bench.soak import BOUNDS, Level, has_grown
from tests.bench.suite import SUITE

MACHINE = Machine("a processor", 2, "a system", 0.5, {"comfy2mqtt": "1"})


def test_a_ratio_is_taken_round_by_round_and_a_row_shows_its_median() -> None:
    found = compare([[2.0], [9.0], [4.0]], [[1.0], [3.0], [4.0]], p50)
    assert found.ratio == Spread(2.0, 1.0, 3.0)
    row = Row.compared("a job", "ms", found, Aim(1.5))
    line = markdown(Report("now", MACHINE, 3, [row])).splitlines()[-1]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells == [
        *("a job", "**2.00**", "1.00 to 3.00", "at most 1.50: missed", "4.00 ms", "3.00 ms"),
    ]


def test_a_percentile_lies_between_two_values() -> None:
    assert percentile([4.0, 1.0, 3.0, 2.0], 50) == 2.5
    with pytest.raises(ValueError, match="no values"):
        percentile([], 50)


def test_a_table_goes_where_a_page_has_a_place_for_it() -> None:
    page = "before\n<!-- table -->\nold\n<!-- end of table -->\nafter\n"
    once = put(page, "new\n")
    assert once == "before\n<!-- table -->\n\nnew\n\n<!-- end of table -->\nafter\n"
    assert put(once, "new\n") == once
    with pytest.raises(ValueError, match="end of table"):
        put("no place", "new\n")


def test_what_failed_is_told_below_the_table() -> None:
    told = markdown(Report("now", MACHINE, 1, [], {"pool": "it did not start"}))
    assert "Not measured: pool: it did not start" in told


def test_a_plot_has_a_line_for_each_row_with_points() -> None:
    rows = [
        Row(what=what, unit="ms", value=Spread.of([2.0]), points=[(1.0, 2.0), (1000.0, 3.0)])
        for what in ("clients & more", "workflows")
    ]
    drawn = ET.fromstring(svg(rows))  # noqa: S314 - our own
    assert len(drawn.findall("{*}polyline")) == 2


def test_growth_is_what_goes_on_until_the_end() -> None:
    memory = BOUNDS[0]

    def levels(*sizes: int) -> list[Level]:
        return [Level(size, 1, 1, 1) for size in sizes]

    assert not has_grown(levels(10, 60, 70, 70, 70, 71, 72), memory)
    assert has_grown(levels(10, 20, 30, 40, 50, 60, 70), memory)


def test_each_measurement_has_a_name_of_its_own() -> None:
    names = [measurement.name for measurement in SUITE]
    assert len(set(names)) == len(names)
