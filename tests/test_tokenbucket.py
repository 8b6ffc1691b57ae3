from hypothesis import given
from hypothesis import strategies as st

from bridge.tokenbucket import TokenBucket


@given(gaps=st.lists(st.floats(0, 2), min_size=1, max_size=100), rate=st.floats(0.5, 100))
def test_over_time_no_more_is_taken_than_the_rate(gaps: list[float], rate: float) -> None:
    now = 0.0
    bucket = TokenBucket.full(rate, 4.0, now)
    for gap in gaps:
        now += gap
        now += bucket.take(now)  # the debt is waited for
    assert len(gaps) <= max(1.0, rate * 4) + rate * now + 1


def test_who_keeps_to_the_rate_never_waits() -> None:
    bucket = TokenBucket.full(10.0, 4.0, 0.0)
    assert [bucket.take(each / 10) for each in range(1000)] == [0.0] * 1000


def test_a_burst_is_granted_then_one_token_for_each_interval() -> None:
    bucket = TokenBucket.full(2.0, 5.0, 0.0)
    assert [bucket.try_take(0.0) for _ in range(11)] == [True] * 10 + [False]
    assert bucket.wait_s(0.0) == 0.5
    assert bucket.wait_s(0.25) == 0.25
    assert bucket.try_take(0.5)
    assert not bucket.try_take(0.5)


def test_a_slow_rate_holds_one_token_at_least() -> None:
    bucket = TokenBucket.full(0.01, 1.0, 0.0)
    assert bucket.try_take(0.0)
    assert not bucket.try_take(99.0)
    assert bucket.try_take(100.0)
