"""Reports of figures, without measuring any."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from tests.bench import flames
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


def test_what_failed_stands_below_the_table() -> None:
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


FOLDED = """
thread (7): MainThread;main (bridge/a.py:1);Runner.run (asyncio/runners.py:118);\
publish (bridge/mqtt/link.py:9);write (socket.py:3) 30
thread (7): MainThread;main (bridge/a.py:1);Runner.run (asyncio/runners.py:118);\
publish (bridge/mqtt/link.py:12) 60
thread (7): MainThread;main (bridge/a.py:1);Runner.run (asyncio/runners.py:118);seldom (b.py:1) 0
thread (8): journal;Thread.run (threading.py:975);Database._next_group (bridge/a.py:4) 70
thread (8): journal;Thread.run (threading.py:975);commit <&> (bridge/jobs/sqlite.py:4) 10
thread (9): uvloop_0;Thread.run (threading.py:975);watch (watchfiles/main.py:160) 20
""".strip()


def test_a_flame_graph_has_a_box_for_each_function_as_wide_as_its_share() -> None:
    found = list(flames.boxes(flames.read(FOLDED)))
    assert [(box.frame.partition(" (")[0], box.depth, box.left, box.looks) for box in found] == [
        ("thread MainThread", 0, 0, 90),
        ("publish", 1, 0, 90),
        ("write", 2, 0, 30),
        ("seldom", 1, 90, 0),
        ("thread journal", 0, 90, 10),
        ("commit <&>", 1, 90, 10),
    ]
    drawn = ET.fromstring(flames.svg(found))  # noqa: S314 - our own
    titles = [title.text for title in drawn.iter("{http://www.w3.org/2000/svg}title")]
    assert "publish (bridge/mqtt/link.py): 90.0 %" in titles
    assert not any(title and "seldom" in title for title in titles)


def test_a_look_counts_for_the_innermost_folder_of_the_bridge() -> None:
    found = flames.rooms(flames.read(FOLDED))
    assert found == {"mqtt": 90, "jobs": 10, "the event loop and libraries alone": 0}
    cost = flames.Cost(processor_ms=2.0, switches=20.0, calls={"sendto": 7.25})
    lines = flames.table(found, cost).splitlines()
    assert "| mqtt | 90.0 % | 1.80 ms |" in lines
    assert "| ... `sendto` | | 7.2 |" in lines
