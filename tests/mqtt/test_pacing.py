import itertools
import math

import pytest

from bridge.mqtt.pacing import FIRST_RATE, Pacer
from bridge.tokenbucket import TokenBucket


class Quota:
    """A broker that takes so many messages a second, and what it refused so far."""

    def __init__(self, rate: float) -> None:
        self.taken = self.refused = 0
        self._bucket = TokenBucket.full(rate, 1.0, 0.0)

    def take(self, now: float) -> bool:
        if self._bucket.try_take(now):
            self.taken += 1
            return True
        self.refused += 1
        return False


def send(
    pacer: Pacer, quota: Quota, messages: int, *, in_flight: int = 20, at: float = 0.0
) -> float:
    """Send until all were taken, with answers after 10 ms; returns when that was."""
    now = at
    left = messages
    answers: list[tuple[float, bool]] = []
    for _ in itertools.count():
        for _, good in [each for each in answers if each[0] <= now]:
            if good:
                pacer.accepted()
            else:
                pacer.refused(now)
                left += 1
        answers = [each for each in answers if each[0] > now]
        if not left and not answers:
            return now
        if left and len(answers) < in_flight and pacer.wait_s(now) == 0:
            left -= 1
            answers.append((now + 0.01, quota.take(now)))
        else:
            may_send = pacer.wait_s(now) if left and len(answers) < in_flight else math.inf
            next_answer = min((at - now for at, _ in answers), default=math.inf)
            now += max(0.001, min(may_send, next_answer))
    raise AssertionError


def test_nothing_is_held_back_before_the_first_refusal() -> None:
    pacer = Pacer()
    assert all(pacer.wait_s(0.0) == 0 for _ in range(10_000))
    assert pacer.rate is None


@pytest.mark.parametrize("rate", [1.0, 10.0, 100.0, 500.0])
def test_a_burst_comes_through_any_quota_with_few_refusals(rate: float) -> None:
    quota = Quota(rate)
    send(Pacer(), quota, 1_000)
    assert quota.taken == 1_000
    assert quota.refused < 100


def test_a_quota_of_100_a_second_is_used_well() -> None:
    quota = Quota(100.0)
    assert send(Pacer(), quota, 1_000) < 1_000 / 100.0 * 1.6


def test_messages_that_left_before_a_hold_lower_the_rate_once() -> None:
    pacer = Pacer()
    for _ in range(20):
        pacer.refused(0.0)
    assert pacer.rate == FIRST_RATE
    assert 0 < pacer.wait_s(0.0) < 1


def test_a_hold_is_longer_each_time_until_something_is_taken() -> None:
    pacer = Pacer()
    now, holds = 0.0, []
    for _ in range(8):
        pacer.refused(now)
        holds.append(pacer.wait_s(now))
        now += holds[-1]
    assert holds == sorted(holds)
    assert holds[-1] == pytest.approx(15.0)
    pacer.accepted()
    pacer.refused(now)
    assert pacer.wait_s(now) < 1


def test_a_quota_that_is_gone_bounds_nothing_in_the_end() -> None:
    pacer = Pacer()
    pacer.refused(0.0)
    for now in range(1, 1_000):
        pacer.wait_s(float(now))
    assert pacer.rate is None


def test_a_rate_that_is_set_is_never_exceeded() -> None:
    pacer = Pacer(50.0)
    sent = sum(pacer.wait_s(each / 1_000) == 0 for each in range(10_000))
    assert sent <= 50 * 10 + 11
    assert sent > 450
    pacer.refused(10.0)
    for now in range(20, 1_000):
        pacer.wait_s(float(now))
    assert pacer.rate == 50.0
