import random

import pytest

from bridge.retry import Backoff, retry


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


def test_a_reset_begins_again() -> None:
    backoff = Backoff(first=1, draw=highest)
    backoff.next()
    backoff.next()
    backoff.reset()
    assert backoff.next() == 1


def test_by_default_no_delay_is_longer_than_half_a_minute() -> None:
    backoff = Backoff()
    assert all(0.25 <= backoff.next() <= 30 for _ in range(100))


def test_two_do_not_retry_in_step() -> None:
    one, other = (Backoff(draw=random.Random(seed).uniform) for seed in (1, 2))
    assert all(one.next() != other.next() for _ in range(5))


class Flaky:
    """Fails so often, then succeeds."""

    def __init__(self, failures: int, error: Exception) -> None:
        self.failures = failures
        self.error = error
        self.attempts = 0

    async def __call__(self) -> str:
        self.attempts += 1
        if self.attempts <= self.failures:
            raise self.error
        return "done"


def at_once() -> Backoff:
    return Backoff(draw=lambda _low, _high: 0.0)


async def test_it_is_tried_until_it_succeeds_and_each_failure_is_reported() -> None:
    failed: list[tuple[str, int]] = []
    work = Flaky(3, OSError("disk full"))
    result = await retry(
        work,
        OSError,
        backoff=at_once(),
        failed=lambda error, attempt: failed.append((str(error), attempt)),
    )
    assert result == "done"
    assert failed == [("disk full", 1), ("disk full", 2), ("disk full", 3)]


async def test_another_error_is_raised_at_once() -> None:
    work = Flaky(1, LookupError())
    with pytest.raises(LookupError):
        await retry(work, OSError, backoff=at_once())
    assert work.attempts == 1


async def test_after_the_last_attempt_its_own_error_is_raised() -> None:
    work = Flaky(9, OSError("still away"))
    with pytest.raises(OSError, match="still away"):
        await retry(work, OSError, backoff=at_once(), attempts=3)
    assert work.attempts == 3


async def test_after_its_time_the_last_error_is_raised() -> None:
    work = Flaky(9, OSError("still away"))
    with pytest.raises(OSError, match="still away"):
        await retry(work, OSError, backoff=at_once(), within_s=0.0)
    assert work.attempts == 1


async def test_a_function_may_decide_which_errors_pass() -> None:
    work = Flaky(2, OSError(11, "busy"))
    result = await retry(
        work, lambda error: isinstance(error, OSError) and error.errno == 11, backoff=at_once()
    )
    assert result == "done"
