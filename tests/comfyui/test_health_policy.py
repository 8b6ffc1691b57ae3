"""Frozen and idle ComfyUIs, by the states that they were in."""

from __future__ import annotations

from bridge.comfyui.health_policy import UNLOAD_RETRY_S, Health, HealthPolicy
from bridge.comfyui.state import InstanceState, StateName


def state(name: StateName, since: float = 0.0) -> InstanceState:
    return InstanceState(state=name, since=since)


def test_it_may_go_without_an_answer_for_two_minutes_or_as_long_as_a_prompt_may_be_silent() -> None:
    assert HealthPolicy(silence_s=600).answer_s == 120
    assert HealthPolicy(silence_s=2).answer_s == 2


def test_one_that_is_away_for_too_long_is_frozen() -> None:
    health = Health(HealthPolicy(silence_s=60))
    health.observe(state("unreachable"), 10.0)
    assert (health.due(10.0), health.wait_s(10.0)) == (None, 60.0)
    health.observe(state("unreachable"), 50.0)  # another detail of it changed
    assert (health.due(69.0), health.wait_s(69.0)) == (None, 1.0)
    assert health.due(70.0) == "frozen"


def test_one_that_comes_back_is_not() -> None:
    health = Health(HealthPolicy(silence_s=60, idle_unload_s=0))
    health.observe(state("unreachable", 1), 0.0)
    health.observe(state("ready", 2), 59.0)
    assert (health.due(100.0), health.wait_s(100.0)) == (None, None)
    health.observe(state("unreachable", 3), 100.0)
    assert health.due(159.0) is None


def test_one_is_idle_once_each_time_that_it_has_nothing_to_do() -> None:
    health = Health(HealthPolicy(idle_unload_s=30))
    health.observe(state("ready", 1), 0.0)
    assert (health.due(29.0), health.wait_s(29.0)) == (None, 1.0)
    assert health.due(30.0) == "idle"
    health.unloaded(30.0, succeeded=True)
    assert (health.due(1000.0), health.wait_s(1000.0)) == (None, None)
    health.observe(state("busy", 2), 1000.0)
    assert health.wait_s(1000.0) is None
    health.observe(state("ready", 3), 1001.0)
    assert health.due(1031.0) == "idle"


def test_what_could_not_be_unloaded_is_unloaded_later() -> None:
    health = Health(HealthPolicy(idle_unload_s=30))
    health.observe(state("ready"), 0.0)
    health.unloaded(30.0, succeeded=False)
    assert (health.due(30.0), health.wait_s(30.0)) == (None, UNLOAD_RETRY_S)
    assert health.due(30.0 + UNLOAD_RETRY_S) == "idle"


def test_work_between_two_looks_begins_the_time_anew() -> None:
    health = Health(HealthPolicy(idle_unload_s=30))
    health.observe(state("ready", 1), 0.0)
    health.observe(state("ready", 2), 29.0)
    assert health.due(30.0) is None


def test_at_zero_nothing_is_unloaded() -> None:
    health = Health(HealthPolicy(idle_unload_s=0))
    health.observe(state("ready"), 0.0)
    assert health.wait_s(0.0) is None
