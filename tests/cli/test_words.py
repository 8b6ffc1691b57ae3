from __future__ import annotations

import pytest
from msgspec import UNSET

from bridge.cli.words import duration, size, waiting


def test_why_a_job_waits_and_for_how_long_is_reported() -> None:
    assert waiting("running") == "running"
    assert waiting("queued", 0) == "queued"
    told = waiting("queued", 2, "no ComfyUI is ready", 130.0)
    assert told == "queued, 2 before it, no ComfyUI is ready, done in about 2 min 10 s"
    assert waiting("waiting", UNSET, "waits for job 'a'") == "waiting, waits for job 'a'"


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (-1, "0 s"),
        (5.4, "5 s"),
        (60, "1 min"),
        (725, "12 min"),
        (7260, "2 h 1 min"),
        (172_800, "2 days"),
    ],
)
def test_a_time_is_reported_in_units_that_fit(seconds: float, told: str) -> None:
    assert duration(seconds) == told


def test_bytes_are_reported_in_a_unit_that_fits() -> None:
    assert [size(each) for each in (12, 2_500, 3_000_000, 5_000_000_000)] == [
        "12 bytes",
        "2.5 kB",
        "3.0 MB",
        "5.0 GB",
    ]
