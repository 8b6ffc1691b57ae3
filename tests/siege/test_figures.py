from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
from msgspec.structs import replace

from tests.siege.__main__ import tried
from tests.siege.figures import Finding, p95, put, table
from tests.siege.floods import BY_WEB, FLOODS

MB = 2**20


def test_the_slowest_twentieth() -> None:
    assert p95([1.0] * 95 + [9.0] * 5) == 1.0
    assert p95([1.0] * 94 + [9.0] * 6) == 9.0
    assert p95([3.0]) == 3.0
    assert p95([]) == math.inf


def test_a_finding_holds_where_the_honest_are_served_and_nothing_is_kept() -> None:
    held = Finding("f", "s", [0.001] * 20, None, [0.002] * 20, 100 * MB, 300 * MB, 110 * MB)
    assert held.held
    slow = Finding("f", "s", [0.001] * 20, None, [0.003] * 20, 100 * MB, 300 * MB, 110 * MB)
    assert not slow.held
    # That slow is everybody beside this flood, wherever it goes.
    assert replace(slow, past=[0.002] * 20).held
    assert not replace(slow, past=[0.001] * 20).held
    kept = Finding("f", "s", [0.001] * 20, None, [0.002] * 20, 100 * MB, 300 * MB, 200 * MB)
    assert not kept.held
    unserved = Finding("f", "s", [0.001] * 20, None, [], 100 * MB, 300 * MB, 110 * MB)
    assert not unserved.held


async def test_a_flood_beside_which_answers_take_long_comes_again() -> None:
    held = Finding("f", "s", [0.001], None, [0.002], 100 * MB, 300 * MB, 110 * MB)
    slow = replace(held, meanwhile=[0.003])
    kept = replace(slow, after=200 * MB)
    for findings in ([held], [slow, held], [slow, slow, slow], [kept], [slow, kept]):
        left = iter(findings)

        async def measure(left: Iterator[Finding] = left) -> Finding:
            return next(left)

        assert await tried(measure) == findings[-1]
        assert next(left, None) is None


def test_the_table_has_a_line_for_each_flood_and_goes_where_the_page_has_its_place() -> None:
    found = Finding(
        "A flood", "9 requests", [0.001], [0.0015], [0.002], 100 * MB, 130 * MB, 101 * MB
    )
    text = table([found, replace(found, past=None)])
    assert "| A flood | 9 requests | 1.0 ms | 1.5 ms | 2.0 ms | 1.3 | +30 MB | +1 MB |" in text
    assert "| A flood | 9 requests | 1.0 ms | | 2.0 ms | 2.0 | +30 MB | +1 MB |" in text
    page = "before\n<!-- siege -->\n\nold\n<!-- end of siege -->\nafter\n"
    assert put(page, "new\n") == "before\n<!-- siege -->\n\nnew\n\n<!-- end of siege -->\nafter\n"
    with pytest.raises(ValueError, match="siege"):
        put("nothing", "new")


def test_every_flood_says_what_it_is() -> None:
    assert set(FLOODS) >= BY_WEB
    assert all(each.__doc__ for each in FLOODS.values())
