from bridge.mqtt import Backoff


def highest(low: float, high: float) -> float:
    del low
    return high


def lowest(low: float, high: float) -> float:
    del high
    return low


def test_delays_double_up_to_the_cap() -> None:
    backoff = Backoff(first=1, cap=5, draw=highest)
    assert [backoff.next() for _ in range(5)] == [1, 2, 4, 5, 5]


def test_jitter_takes_at_most_half_of_a_delay() -> None:
    backoff = Backoff(first=1, cap=5, draw=lowest)
    assert [backoff.next() for _ in range(4)] == [0.5, 1, 2, 2.5]


def test_a_reset_begins_anew() -> None:
    backoff = Backoff(first=1, draw=highest)
    backoff.next()
    backoff.next()
    backoff.reset()
    assert backoff.next() == 1


def test_by_default_no_delay_is_longer_than_half_a_minute() -> None:
    backoff = Backoff()
    assert all(0.25 <= backoff.next() <= 30 for _ in range(100))
