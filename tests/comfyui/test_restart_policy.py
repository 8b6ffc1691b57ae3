from __future__ import annotations

import random

from bridge.comfyui.supervisor import RestartPolicy
from bridge.retry import Backoff


def policy(limit: int = 3) -> RestartPolicy:
    backoff = Backoff(1, 30, draw=random.Random(1).uniform)
    return RestartPolicy(limit=limit, stable_after_s=60, pause_s=300, backoff=backoff)


def test_early_deaths_in_a_row_are_a_crash_loop() -> None:
    restarts = policy()
    assert [restarts.died(up_s=1).crash_loop for _ in range(6)] == [False, False, True] * 2


def test_the_pause_of_a_crash_loop_is_the_configured_one() -> None:
    restarts = policy(limit=1)
    assert restarts.died(up_s=0).delay_s == 300


def test_a_death_after_a_long_life_starts_the_count_anew() -> None:
    restarts = policy()
    told = [restarts.died(up_s=up_s) for up_s in (1, 1, 3600, 1)]
    assert [restart.crash_loop for restart in told] == [False] * 4
    assert told[2].delay_s <= 1


def test_what_cannot_succeed_waits_at_once() -> None:
    assert policy().died(up_s=0, hopeless=True).crash_loop
