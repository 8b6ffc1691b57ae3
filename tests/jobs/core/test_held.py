"""A ComfyUI whose GPU is not free yet: its jobs wait and say why, those of others go on."""

from __future__ import annotations

from bridge.contract.retained import ComfyUIState
from bridge.jobs.core import effects, events
from bridge.jobs.core.reasons import SETTLES_S
from bridge.jobs.queue import Key
from tests.jobs.core.rig import A, B, Rig


def hold(core: Rig, name: str, reason: str | None = "hook 'llm'") -> None:
    core.feed(events.InstanceHeld(name, reason))


def demands(core: Rig) -> list[tuple[str, bool]]:
    """Return what was said of who is wanted since the last look."""
    found = [(each.instance, each.wanted) for each in core.wanted(effects.ReportDemand)]
    core.done = []
    return found


def test_a_job_for_one_that_is_held_waits_says_why_and_is_reported() -> None:
    core = Rig("main")
    core.ready("main")
    hold(core, "main")
    key = core.add("j1")
    assert demands(core) == [("main", True)]
    job = core.book.job(key)
    assert job is not None
    assert core.book.why_waiting(job) == "ComfyUI main waits for hook 'llm'"
    hold(core, "main", None)
    assert core.started() == [("j1", "main")]
    core.feed(events.LeftComfyUI(key))
    assert demands(core) == [("main", False)]


def test_that_its_reason_changed_is_published() -> None:
    core = Rig("main")
    core.ready("main")
    hold(core, "main")
    core.add("j1")
    core.clock += SETTLES_S
    core.feed(events.Tick())
    assert [each.status.reason for each in core.wanted(effects.Announce)] == [
        "ComfyUI main waits for hook 'llm'"
    ]
    core.done = []
    hold(core, "main", "GPU 'card'")
    core.clock += SETTLES_S
    core.feed(events.Tick())
    assert [each.status.reason for each in core.wanted(effects.Announce)] == [
        "ComfyUI main waits for GPU 'card'"
    ]


def test_one_that_is_away_is_wanted_too() -> None:
    core = Rig("main")
    hold(core, "main")
    core.add("j1")
    assert demands(core) == [("main", True)]


def test_others_of_a_pool_take_the_jobs_meanwhile() -> None:
    core = Rig("held", "free")
    core.ready("held", "free")
    hold(core, "held")
    core.add("j1")
    assert core.started() == [("j1", "free")]
    assert demands(core) == []  # nothing waits that could run there
    core.add("j2")
    core.add("j3")
    assert core.started() == [("j2", "free")]
    assert core.book.why_waiting(core.book.entries[core.add("j4")].job) is None


def test_only_jobs_that_it_can_run_count() -> None:
    core = Rig("held", "free", held={A}, free={A, B})
    core.ready("held")
    hold(core, "held")
    core.add("j1", needs=B)
    assert demands(core) == []
    core.add("j2", needs=A)
    assert demands(core) == [("held", True)]


def test_a_queue_that_is_paused_wants_nothing() -> None:
    core = Rig("main")
    core.ready("main")
    hold(core, "main")
    core.feed(events.Paused(paused=True))
    core.add("j1")
    assert demands(core) == []
    core.feed(events.Paused(paused=False))
    assert demands(core) == [("main", True)]
    key = next(iter(core.book.entries))
    core.feed(events.CancelRequested(key))
    core.feed(events.Finished(key))
    assert demands(core) == [("main", False)]


def test_it_is_wanted_by_nobody_while_outcomes_cannot_be_written() -> None:
    core = Rig("main")
    core.ready("main")
    hold(core, "main", None)
    keys = [core.add(f"j{number}") for number in range(5)]
    for key in keys[:3]:
        core.feed(events.LeftComfyUI(key))
        core.feed(events.AttemptSucceeded(key, 1.0))
    core.add("waits")
    hold(core, "main")  # its GPU is lent
    for key in keys[3:]:
        core.feed(events.LeftComfyUI(key))
    assert demands(core) == [("main", True)]
    for key in keys[:3]:
        core.feed(events.WriteFailed(key))
    assert demands(core) == [("main", False)]
    core.feed(events.Finished(keys[0]))
    assert demands(core) == [("main", True)]


def test_one_that_was_never_held_costs_nothing() -> None:
    core = Rig("main")
    core.ready("main")
    core.add("j1")
    assert demands(core) == []


def test_what_runs_at_one_that_is_held_is_adopted_and_nothing_more_given() -> None:
    core = Rig("main")
    hold(core, "main")
    running = core.make("old", state="running", instance="main", prompt_id="p-old")
    core.feed(events.Recovered([running]))
    core.add("new")
    core.ready("main")
    core.feed(events.PromptsListed("main", frozenset({"p-old"})))
    assert core.started() == [("old", "main")]
    hold(core, "main", None)
    assert core.started() == [("new", "main")]


def blocked(core: Rig) -> list[str | None]:
    """Return what was said to other bridges since the last look: why there is no place here."""
    found = [each.why for each in core.wanted(effects.ReportBlocked)]
    core.done = []
    return found


def stick(core: Rig) -> list[Key]:
    """Let three outcomes be in memory alone."""
    keys = [core.add(f"stuck{number}") for number in range(3)]
    for key in keys:
        core.feed(events.Claimed(key, 0, f"p-{key.job_id}"))
        core.feed(events.LeftComfyUI(key))
        core.feed(events.AttemptSucceeded(key, 2.0))
        core.feed(events.WriteFailed(key))
    return keys


def test_others_learn_that_a_comfyui_which_is_given_no_jobs_is_no_place() -> None:
    core = Rig("main", alone=False)
    core.ready("main")
    assert blocked(core) == []
    hold(core, "main")
    assert blocked(core) == ["waits for hook 'llm'"]
    hold(core, "main", None)
    assert blocked(core) == [None]
    keys = stick(core)
    assert blocked(core) == ["waits until the outcomes of its jobs can be stored"]
    core.feed(events.Finished(keys[0]))
    assert blocked(core) == [None]
    core.feed(events.Draining())
    assert blocked(core) == ["belongs to a bridge that stops"]


def test_a_bridge_that_can_store_no_outcome_leaves_the_jobs_to_those_that_can() -> None:
    core = Rig("main", alone=False)
    core.ready("main")
    elsewhere = (2, 0)
    core.book.capacity_elsewhere = lambda: elsewhere
    stick(core)
    core.done = []
    job = core.book.entries[core.add("j1")].job
    assert core.wanted(effects.Claim) == []
    # The queue continues: it is not reported as held, and the estimate counts the others alone.
    core.book.capable_elsewhere = lambda _: {
        "b-main": ComfyUIState(state="ready", since=0.0, restarts=0)
    }
    assert (core.book.held, core.book.why_waiting(job)) == (None, None)
    with_two = core.book.eta_of_next(job.workflow, 0)
    elsewhere = (1, 0)
    with_one = core.book.eta_of_next(job.workflow, 0)
    assert with_one is not None
    assert with_two is not None
    assert with_one > with_two
    # Nobody else has a place either: then it is.
    elsewhere = (0, 0)
    core.book.capable_elsewhere = lambda _: {}
    why = "the outcomes of earlier jobs cannot be stored at present"
    assert (core.book.held, core.book.why_waiting(job)) == (why, why)
    assert core.book.eta_of_next(job.workflow, 0) is None
