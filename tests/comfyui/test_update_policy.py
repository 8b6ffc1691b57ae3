"""Decisions about other releases of ComfyUI."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from bridge.comfyui import releases as policy
from bridge.comfyui.releases import Release
from bridge.comfyui.state import InstanceState, StateName

READY = InstanceState(state="ready", since=0.0, epoch="before", restarts=3)


def releases(*versions: str) -> list[Release]:
    return [Release(each, f"v{each}", each * 8) for each in versions]


@pytest.mark.parametrize(
    ("installed", "there", "found"),
    [
        ("0.9.0", ("0.9.0", "0.10.0"), "0.10.0"),
        ("0.10.0", ("0.9.0", "0.10.0"), None),
        # One that was built here, or whose repository is behind, is never offered something older.
        ("0.11.0", ("0.9.0", "0.10.0"), None),
        ("0.9.0", (), None),
    ],
)
def test_what_is_offered_is_newer(
    installed: str, there: tuple[str, ...], found: str | None
) -> None:
    newest = policy.newer(installed, releases(*there))
    assert (None if newest is None else newest.version) == found


def test_it_is_looked_once_a_day_and_sooner_after_a_failure() -> None:
    assert policy.check_after_s(failed=False) == 24 * 3600
    assert policy.check_after_s(failed=True) < 24 * 3600


@pytest.mark.parametrize(
    ("state", "drained"),
    [
        ("ready", False),
        ("busy", False),
        # Its connection is cut, and its prompts run on.
        ("unreachable", False),
        ("yielded", True),
        ("stopped", True),
        ("starting", True),
        ("restarting", True),
        ("crash_loop", True),
    ],
)
def test_jobs_have_ended_where_no_process_can_have_one(state: StateName, *, drained: bool) -> None:
    assert policy.is_drained(replace(READY, state=state)) is drained


def test_a_start_works_once_another_process_is_connected() -> None:
    outcome = policy.outcome
    assert outcome(READY, READY) is None
    assert outcome(READY, replace(READY, state="starting")) is None
    assert outcome(READY, replace(READY, state="unreachable", epoch="after")) is None
    assert outcome(READY, replace(READY, epoch="after")) == "works"
    # Left to others, it is connected as well.
    assert outcome(READY, replace(READY, state="yielded", epoch="after")) == "works"
    assert outcome(READY, replace(READY, state="restarting", restarts=4)) == "fails"
    assert outcome(READY, replace(READY, state="crash_loop", restarts=4)) == "fails"
