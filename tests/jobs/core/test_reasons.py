"""The reasons why jobs wait, for how long, and their publication."""

from __future__ import annotations

from typing import Any, cast

from bridge.contract.messages import or_none
from bridge.contract.retained import ComfyUIState
from bridge.jobs.core import effects, events
from bridge.jobs.core.pool import Availability
from bridge.jobs.core.reasons import AT_ONCE, SETTLES_S
from tests.jobs.core.rig import AWAY, A, B, Rig


def test_the_time_until_a_job_has_ended_counts_those_at_the_comfyui() -> None:
    core = Rig("main")
    core.ready("main")
    jobs = [core.book.job(core.add(f"j{number}")) for number in range(3)]
    waiting = jobs[-1]
    assert waiting is not None
    core.book.estimates.ran(waiting.workflow, 2.0)
    assert core.book.outlook(waiting) == (0, 1.0 + 2.0 + 2.0)


def test_a_client_learns_why_its_job_waits_and_when_that_is_over() -> None:
    core = Rig("main")
    core.ready("main")
    core.ready("main", availability=AWAY)
    for number in range(AT_ONCE + 20):
        core.add(f"j{number}")
    core.clock += SETTLES_S
    core.feed(events.Tick())
    told = core.wanted(effects.Announce)
    assert len(told) == AT_ONCE
    assert told[0].status.reason == "ComfyUI main is unreachable"
    core.done = []
    core.feed(events.Paused(paused=True))
    core.clock += SETTLES_S
    core.feed(events.Tick())
    assert core.wanted(effects.Announce)[0].status.reason == "the operator paused the queue"


def state(name: str, **more: Any) -> ComfyUIState:
    return ComfyUIState(state=cast("Any", name), since=0.0, restarts=0, **more)


def test_a_job_waits_for_who_can_run_it_in_whichever_bridge() -> None:
    core = Rig("main", alone=False, main={A})
    core.ready("main")
    job = core.make("j1", needs=B)
    others: dict[str, Any] = {}
    core.book.capable_elsewhere = lambda _: others
    assert core.book.why_waiting(job) is None
    others |= {"b-main": None, "b-other": state("yielded")}
    reason = core.book.why_waiting(job)
    assert reason == "ComfyUI b-main is away, ComfyUI b-other is left to others"
    others["b-main"] = state("ready", held="waits for GPU 'card'")
    assert str(core.book.why_waiting(job)).startswith("ComfyUI b-main waits for GPU 'card', ")
    others["b-main"] = state("busy")
    assert core.book.why_waiting(job) is None
    # Ours is as good, and away.
    ours = core.make("j2", needs=A)
    others.clear()
    core.ready("main", availability=AWAY)
    assert core.book.why_waiting(ours) == "ComfyUI main is unreachable"
    others["b-main"] = state("ready")
    assert core.book.why_waiting(ours) is None


def announced(core: Rig) -> list[str | None]:
    """Return the reasons that clients got in the time that it takes."""
    core.done = []
    core.clock += SETTLES_S
    core.feed(events.Tick())
    return [or_none(each.status.reason) for each in core.wanted(effects.Announce)]


def test_a_client_learns_that_the_one_comfyui_that_can_run_its_job_went_away_later() -> None:
    core = Rig("main", alone=False, main={A})
    core.ready("main")
    others: dict[str, Any] = {"b-main": state("ready")}
    core.book.capable_elsewhere = lambda _: others
    core.add("j1", needs=B)
    assert announced(core) == []
    others["b-main"] = None
    core.feed(events.OthersChanged())
    assert announced(core) == ["ComfyUI b-main is away"]
    others["b-main"] = state("ready")
    core.feed(events.OthersChanged())
    assert announced(core) == [None]


def test_of_several_bridges_one_reports_why_jobs_wait() -> None:
    core = Rig("main", alone=False)
    core.book.leads = lambda: False
    core.add("j1")
    core.ready("main", availability=Availability(usable=False, state="starting"))
    core.feed(events.Paused(paused=True))
    assert announced(core) == []
    core.book.leads = lambda: True
    core.feed(events.OthersChanged())
    assert announced(core) == ["the operator paused the queue"]


def test_a_recovered_job_says_why_it_waits_and_when_the_reason_changes() -> None:
    core = Rig("main")
    core.feed(events.Recovered([core.make("j1")]))
    core.ready("main", availability=Availability(usable=False, state="starting"))
    core.clock += SETTLES_S
    assert core.wakes_at().steady <= core.clock
    core.feed(events.Tick())
    core.ready("main", availability=Availability(usable=False, state="crash_loop"))
    core.clock += SETTLES_S
    core.feed(events.Tick())
    assert [each.status.reason for each in core.wanted(effects.Announce)] == [
        "ComfyUI main is starting",
        "ComfyUI main does not start",
    ]


def test_no_job_starts_while_three_outcomes_cannot_be_written() -> None:
    core = Rig("main")
    core.ready("main")
    keys = [core.add(f"j{number}") for number in range(7)]
    for number in range(3):
        core.feed(events.LeftComfyUI(keys[number]))
        core.feed(events.AttemptSucceeded(keys[number], 1.0))
        core.feed(events.WriteFailed(keys[number]))
        core.feed(events.WriteFailed(keys[number]))  # once more, after a while
    assert [job for job, _ in core.started()] == ["j0", "j1", "j2", "j3", "j4"]
    for key in keys[3:5]:
        core.feed(events.LeftComfyUI(key))
    assert core.started() == []
    core.clock += SETTLES_S
    core.feed(events.Tick())
    announced = core.wanted(effects.Announce)
    assert [each.key for each in announced] == keys[5:]
    assert announced[0].status.reason == "the outcomes of earlier jobs cannot be stored at present"
    core.feed(events.Finished(keys[0]))
    assert [job for job, _ in core.started()] == ["j5", "j6"]


def test_outputs_that_cannot_be_kept_for_their_sinks_hold_the_queue_too() -> None:
    core = Rig("main")
    core.ready("main")
    keys = [core.add(f"j{number}") for number in range(6)]
    for number in range(3):
        core.feed(events.LeftComfyUI(keys[number]))
        core.feed(events.WriteFailed(keys[number]))
    assert [job for job, _ in core.started()] == ["j0", "j1", "j2", "j3", "j4"]
    core.feed(events.LeftComfyUI(keys[3]))
    assert core.started() == []
    core.feed(events.OutputsStored(keys[0]))  # its sinks may take long
    assert [job for job, _ in core.started()] == ["j5"]
