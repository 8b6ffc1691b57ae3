from __future__ import annotations

import pytest

from bridge.sinks import schedule
from bridge.sinks.schedule import LONGEST_PAUSE_S, PAUSES_S, judge


@pytest.mark.parametrize("status", [200, 201, 204])
def test_what_a_server_took_is_delivered(status: int) -> None:
    assert judge(status, "", None, None) is None


@pytest.mark.parametrize("status", [408, 423, 425, 429, 500, 502, 503, 504, 507])
def test_a_server_that_is_out_of_sorts_is_asked_again(status: int) -> None:
    refused = judge(status, "", None, None)
    assert refused is not None
    assert refused.passes


@pytest.mark.parametrize("status", [301, 307, 400, 401, 403, 404, 405, 409, 410, 412, 413, 501])
def test_a_server_that_says_no_is_not(status: int) -> None:
    refused = judge(status, "", None, "5")
    assert refused is not None
    assert not refused.passes
    assert refused.after_s is None


def test_a_refusal_says_what_the_server_answered() -> None:
    refused = judge(403, "Forbidden", "AccessDenied", None)
    assert str(refused) == "the server answers 403 Forbidden (AccessDenied)"
    assert "redirects are not followed" in str(judge(302, "Found", None, None))


@pytest.mark.parametrize(
    ("header", "after_s"),
    [(None, None), ("3", 3.0), ("x", None), ("-1", None), ("²", None), ("9" * 30, LONGEST_PAUSE_S)],
)
def test_a_server_that_asks_for_a_pause_gets_one_within_reason(
    header: str | None, after_s: float | None
) -> None:
    refused = judge(503, "", None, header)
    assert refused is not None
    assert refused.after_s == after_s


def test_a_large_output_has_longer() -> None:
    small = schedule.longest(0, 10.0)
    assert small == 10.0 + 2 * schedule.STALL_S
    assert schedule.longest(10 * 1024 * 1024, 10.0) == small + 160.0


def test_a_webhook_is_sent_ten_times_with_longer_and_longer_pauses() -> None:
    found = [schedule.next_attempt(failed, 500) for failed in range(1, 12)]
    assert found == [*PAUSES_S, None, None]
    assert sorted(PAUSES_S) == list(PAUSES_S)


def test_a_receiver_that_is_gone_for_good_is_left_alone() -> None:
    assert schedule.next_attempt(1, 410) is None
    assert schedule.next_attempt(1, 404) == PAUSES_S[0]
    assert schedule.next_attempt(1, None) == PAUSES_S[0]
