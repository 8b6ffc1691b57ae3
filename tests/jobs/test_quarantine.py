"""Prompts that ended their ComfyUI are known by their content, for a time, and let go again."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.jobs import quarantine
from bridge.jobs.quarantine import Quarantine, content_of

DAY_S = 86_400.0


def prompt(text: str = "a barn", seed: int = 1, **more: Any) -> dict[str, dict[str, Any]]:
    inputs = {"text": text, "seed": seed, "model": ["2", 0], **more}
    return {"1": {"class_type": "Sampler", "inputs": inputs, "_meta": {"title": "mine"}}}


def test_the_second_death_quarantines_a_prompt_and_no_other() -> None:
    kept = Quarantine(DAY_S)
    kept.ended(prompt(), "it crashed", 10.0)
    assert kept.refusal(prompt(), 11.0) is None
    kept.ended(prompt(), "out of memory", 20.0)
    refusal = kept.refusal(prompt(), 21.0)
    assert refusal is not None
    assert refusal.code == "quarantined"
    assert "2 times" in refusal.message
    assert "24 h 0 min" in refusal.message
    assert refusal.details == {"deaths": 2, "reason": "out of memory", "retry_after_s": 86399}
    assert kept.refusal(prompt("a house"), 21.0) is None


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (prompt(seed=2**63), True),
        (prompt(noise_seed=3), True),
        ({"1": {**prompt()["1"], "_meta": {"title": "another"}}}, True),
        ({"1": {"inputs": dict(reversed(prompt()["1"]["inputs"].items())), **prompt()["1"]}}, True),
        (prompt(text="a barn "), False),
        (prompt(steps=20), False),
        ({"2": prompt()["1"]}, False),
        ({"1": {**prompt()["1"], "class_type": "Other"}}, False),
        ({**prompt(), "2": {"class_type": "Loader", "inputs": {}}}, False),
    ],
)
def test_seeds_titles_and_order_are_no_content(other: Any, *, same: bool) -> None:
    assert (content_of(other) == content_of(prompt())) is same


def test_a_run_that_succeeds_in_between_clears_it() -> None:
    kept = Quarantine(DAY_S)
    kept.ended(prompt(), "it crashed", 1.0)
    kept.survived(prompt(seed=7))
    kept.ended(prompt(), "it crashed", 2.0)
    assert kept.refusal(prompt(), 3.0) is None


def test_time_and_the_operator_release() -> None:
    kept = Quarantine(60.0)
    for at in (1.0, 2.0):
        kept.ended(prompt(), "it crashed", at)
    assert kept.refusal(prompt(), 61.9) is not None
    assert kept.refusal(prompt(), 62.0) is None
    for at in (70.0, 71.0):
        kept.ended(prompt(), "it crashed", at)
    kept.ended(prompt("once only"), "it crashed", 72.0)
    assert kept.release() == 1
    assert kept.refusal(prompt(), 73.0) is None
    assert kept.release() == 0


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quarantine, "MOST", 10)
    kept = Quarantine(DAY_S)
    for _ in range(2):
        kept.ended(prompt("the first"), "it crashed", 1.0)
    for number in range(10):
        for _ in range(2):
            kept.ended(prompt(f"{number}"), "it crashed", 2.0)
    assert kept.refused == 10
    assert kept.refusal(prompt("the first"), 3.0) is None
