"""The choice of a ComfyUI for each job, and its moment."""

from __future__ import annotations

from bridge.contract.errors import ComfyUIUnavailable
from bridge.jobs.core import effects, events
from bridge.jobs.queue import Key
from tests.jobs.core.rig import AWAY, BUSY, READY, A, B, Rig


def test_two_jobs_at_most_are_at_a_comfyui() -> None:
    core = Rig("main")
    for number in range(4):
        core.add(f"j{number}")
    assert core.started() == []
    core.ready("main")
    assert core.started() == [("j0", "main"), ("j1", "main")]
    core.feed(events.LeftComfyUI(Key("alice", "j0")))
    assert core.started() == [("j2", "main")]


def test_a_job_is_left_to_an_idle_comfyui_of_another_bridge() -> None:
    core = Rig("main")
    elsewhere = (3, 2)
    core.book.capacity_elsewhere = lambda: elsewhere
    core.ready("main")
    core.add("first")
    core.add("second")
    assert core.started() == [("first", "main")]  # not the second one behind it
    core.add("third")  # one more than are idle there
    assert core.started() == [("second", "main")]
    core.feed(events.LeftComfyUI(Key("alice", "first")))
    core.feed(events.LeftComfyUI(Key("alice", "second")))
    assert core.started() == [("third", "main")]  # it is idle itself


def test_a_comfyui_that_died_under_a_job_gets_one_at_a_time_until_one_succeeds() -> None:
    core = Rig("main")
    core.ready("main")
    blamed, other, _, _ = [core.add(f"j{number}") for number in range(4)]
    assert [job for job, _ in core.started()] == ["j0", "j1"]
    lost = ComfyUIUnavailable("it died")
    core.ready("main", availability=AWAY)
    for key in (other, blamed):
        core.feed(events.AttemptBroke(key, lost, "p", counts=key is blamed))
        core.feed(events.Requeued(key, 1))
    core.ready("main")
    assert [job for job, _ in core.started()] == ["j0"]
    core.feed(events.AttemptFailed(blamed, lost, counts=True))
    assert [job for job, _ in core.started()] == ["j1"]
    core.feed(events.AttemptSucceeded(other, 1.0))
    assert [job for job, _ in core.started()] == ["j2", "j3"]


def test_a_job_goes_to_an_idle_comfyui_and_to_the_one_with_its_model() -> None:
    core = Rig("one", "two")
    core.ready("one", "two")
    first, second = core.add("a1", needs=A), core.add("b1", needs=B)
    assert core.started() == [("a1", "one"), ("b1", "two")]
    for key in (first, second):
        core.feed(events.Began(key))
        core.feed(events.AttemptSucceeded(key, 1.0))
        core.feed(events.Finished(key))
    core.add("b2", needs=B)
    assert core.started() == [("b2", "two")]
    core.add("a2", needs=A)
    assert core.started() == [("a2", "one")]


def test_what_no_comfyui_at_hand_can_run_holds_up_nothing_else() -> None:
    core = Rig("one", "two", one={A}, two={A})
    core.ready("one", "two")
    core.add("b1", needs=B)
    core.add("a1", needs=A)
    assert core.started() == [("a1", "one")]
    assert core.book.position(Key("alice", "b1")) == 0


def test_a_queue_that_is_paused_or_drained_gives_out_nothing() -> None:
    core = Rig("main")
    core.feed(events.Paused(paused=True))
    core.ready("main")
    core.add("j1")
    assert core.started() == []
    assert core.book.outlook(core.book.job(Key("alice", "j1"))) == (0, None)  # type: ignore[arg-type]
    core.feed(events.Paused(paused=False))
    assert core.started() == [("j1", "main")]
    core.feed(events.Draining())
    core.add("j2")
    assert core.started() == []


def test_a_recovered_prompt_is_adopted_where_it_is_and_cancelled_where_it_is_not() -> None:
    core = Rig("one", "two")
    job = core.make("old", state="running")
    core.feed(events.Recovered([job]))
    core.ready("one")
    assert core.wanted(effects.ListPrompts) == [effects.ListPrompts("one")]
    assert core.started() == []
    core.feed(events.PromptsListed("one", frozenset()))
    assert core.started() == [("old", "one")]
    core.ready("two")
    core.feed(events.PromptsListed("two", frozenset({job.prompt_id})))
    assert core.wanted(effects.CancelPrompt) == [effects.CancelPrompt("two", job.prompt_id)]


def test_once_all_comfyuis_were_asked_none_is_asked_again() -> None:
    core = Rig("one", "two")
    core.feed(events.Recovered([core.make("old")]))
    core.ready("one", "two")
    for name in ("one", "two"):
        core.feed(events.PromptsListed(name, frozenset()))
    core.feed(events.AttemptSucceeded(Key("alice", "old"), 1.0))
    core.feed(events.Finished(Key("alice", "old")))
    core.done = []
    for availability in (AWAY, READY, BUSY, AWAY, READY):
        core.ready("one", "two", availability=availability)
    for number in range(50):
        key = core.add(f"j{number}")
        core.feed(events.AttemptSucceeded(key, 1.0))
        core.feed(events.Finished(key))
    assert core.wanted(effects.ListPrompts) == []


def test_a_job_that_an_attached_comfyui_may_have_waits_for_that_one() -> None:
    core = Rig("near", "far")
    job = core.make("j1", state="running")
    job.instance = "far"
    core.feed(events.Recovered([job]))
    core.ready("near")
    core.feed(events.PromptsListed("near", frozenset()))
    assert core.started() == []
    core.ready("far")
    core.feed(events.PromptsListed("far", frozenset({job.prompt_id})))
    assert core.started() == [("j1", "far")]


def test_a_cancel_reaches_the_prompt_at_the_comfyui_that_was_seen_to_have_it() -> None:
    core = Rig("main")
    job = core.make("j1")  # it had not begun: no row says where it is
    core.feed(events.Paused(paused=True))
    core.feed(events.Recovered([job]))
    core.ready("main")
    core.feed(events.PromptsListed("main", frozenset({job.prompt_id})))
    core.feed(events.CancelRequested(job.key))
    assert core.wanted(effects.CancelPrompt) == [effects.CancelPrompt("main", job.prompt_id)]
    assert core.wanted(effects.Finish)[-1].outcome == "cancelled"
