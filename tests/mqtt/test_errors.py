"""The limits that follow from a broker's end of a connection for a packet."""

from __future__ import annotations

import pytest

from bridge.mqtt import lower_limit


@pytest.mark.parametrize(
    ("largest", "limit"), [(0, None), (1, None), (2, 1), (5000, 4096), (149_504, 131_072)]
)
def test_it_is_the_next_power_of_two_below_what_was_too_large(
    largest: int, limit: int | None
) -> None:
    assert lower_limit(largest) == limit


def test_it_falls_at_each_further_refusal() -> None:
    assert lower_limit(131_072) == 65_536
