"""The core's decisions, one by one: events in, effects out."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.contract.errors import BridgeError, ComfyUIUnavailable
from bridge.jobs.core import Core, Limits, Moment, Phase, effects, events
from bridge.jobs.core.core import MAX_NO_ROOM
from bridge.jobs.core.entry import Entry
from bridge.jobs.core.ownership import events_for
from bridge.jobs.core.pool import REST_FIRST_S, REST_LONGEST_S, Availability
from bridge.jobs.core.reasons import AT_ONCE, SETTLES_S
from bridge.jobs.job import Job
from bridge.jobs.queue import Key
from bridge.workflows.catalogue import Needs
from tests.jobs.drafts import PLAN, draft

LIMITS = Limits(max_attempts=3, timeout_s=60.0, silence_s=60.0, reorder_s=60.0)
READY = Availability(usable=True, state="ready")
BUSY = Availability(usable=True, state="busy")
AWAY = Availability(usable=False, state="unreachable")
A, B = Needs(choices=(("L", "n", "a.ckpt"),)), Needs(choices=(("L", "n", "b.ckpt"),))


class Rig(Core):
    """A core with a clock, and what it wanted done; scheduling follows each event."""

    def __init__(self, *names: str, alone: bool = True, **able: set[Needs]) -> None:
        self.clock = 100.0
        self.seq = 0
        self.done: list[effects.Effect] = []
        super().__init__(
            dict.fromkeys(names, True),
            lambda name, needs: name not in able or needs in able[name],
            LIMITS,
            alone=alone,
        )

    def tell(self, event: events.Event) -> list[effects.Effect]:
        done = self.handle(event, Moment(self.clock, self.clock))
        while self.must_schedule:
            done = done + self.handle(events.Schedule(), Moment(self.clock, self.clock))
        self.done += done
        return done

    def ready(self, *names: str, availability: Availability = READY) -> None:
        for name in names:
            self.tell(events.InstanceChanged(name, availability))

    def add(self, job_id: str, client: str = "alice", **changes: Any) -> Key:
        self.tell(events.Accepted(self.make(job_id, client, **changes)))
        return Key(client, job_id)

    def make(self, job_id: str, client: str = "alice", *, state: str = "", **changes: Any) -> Job:
        self.seq += 1
        job = draft(job_id, client, seq=self.seq, accepted_at=self.clock, **changes).job
        if state:
            job.state = state  # type: ignore[assignment]
        return job

    def started(self) -> list[tuple[str, str]]:
        """Return which jobs were started, and where, since the last look."""
        found = [
            (each.key.job_id, each.instance)
            for each in self.done
            if isinstance(each, effects.Start)
        ]
        self.done = []
        return found

    def wanted(self, kind: type) -> list[Any]:
        return [each for each in self.done if isinstance(each, kind)]


def test_two_jobs_at_most_are_at_a_comfyui() -> None:
    core = Rig("main")
    for number in range(4):
        core.add(f"j{number}")
    assert core.started() == []
    core.ready("main")
    assert core.started() == [("j0", "main"), ("j1", "main")]
    core.tell(events.LeftComfyUI(Key("alice", "j0")))
    assert core.started() == [("j2", "main")]


def test_a_job_is_left_to_an_idle_comfyui_of_another_bridge() -> None:
    core = Rig("main")
    elsewhere = (3, 2)
    core.book.elsewhere = lambda: elsewhere
    core.ready("main")
    core.add("first")
    core.add("second")
    assert core.started() == [("first", "main")]  # not the second one behind it
    core.add("third")  # one more than are idle there
    assert core.started() == [("second", "main")]
    core.tell(events.LeftComfyUI(Key("alice", "first")))
    core.tell(events.LeftComfyUI(Key("alice", "second")))
    assert core.started() == [("third", "main")]  # it is idle itself


def test_a_comfyui_that_died_under_a_job_gets_one_at_a_time_until_one_succeeds() -> None:
    core = Rig("main")
    core.ready("main")
    blamed, other, _, _ = [core.add(f"j{number}") for number in range(4)]
    assert [job for job, _ in core.started()] == ["j0", "j1"]
    lost = ComfyUIUnavailable("it died")
    core.ready("main", availability=AWAY)
    for key in (other, blamed):
        core.tell(events.AttemptBroke(key, lost, "p", counts=key is blamed))
        core.tell(events.Requeued(key, 1))
    core.ready("main")
    assert [job for job, _ in core.started()] == ["j0"]
    core.tell(events.AttemptFailed(blamed, lost, counts=True))
    assert [job for job, _ in core.started()] == ["j1"]
    core.tell(events.AttemptSucceeded(other, 1.0))
    assert [job for job, _ in core.started()] == ["j2", "j3"]


def test_the_time_until_a_job_has_ended_counts_those_at_the_comfyui() -> None:
    core = Rig("main")
    core.ready("main")
    jobs = [core.book.job(core.add(f"j{number}")) for number in range(3)]
    waiting = jobs[-1]
    assert waiting is not None
    core.book.estimates.ran(waiting.workflow, 2.0)
    assert core.book.outlook(waiting) == (0, 1.0 + 2.0 + 2.0)


def test_a_job_has_one_outcome_whatever_arrives_afterwards() -> None:
    core = Rig("main")
    core.ready("main")
    key = core.add("j1")
    core.tell(events.Began(key))
    (finish,) = core.tell(events.AttemptSucceeded(key, 1.0))[:1]
    assert isinstance(finish, effects.Finish)
    assert finish.outcome == "succeeded"
    for late in (
        events.AttemptFailed(key, BridgeError("late")),
        events.CancelAsked(key),
        events.Began(key),
        events.Requeued(key, 7),
    ):
        assert not [each for each in core.tell(late) if isinstance(each, effects.Finish)]
    assert core.tell(events.Finished(key)) == [effects.Left(key, "succeeded")]
    assert core.tell(events.Finished(key)) == []
    assert key not in core.book


def test_a_job_goes_to_an_idle_comfyui_and_to_the_one_with_its_model() -> None:
    core = Rig("one", "two")
    core.ready("one", "two")
    first, second = core.add("a1", needs=A), core.add("b1", needs=B)
    assert core.started() == [("a1", "one"), ("b1", "two")]
    for key in (first, second):
        core.tell(events.Began(key))
        core.tell(events.AttemptSucceeded(key, 1.0))
        core.tell(events.Finished(key))
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


def test_a_retry_gets_another_prompt_id_and_an_end() -> None:
    core = Rig("main")
    core.ready("main")
    key = core.add("j1")
    for number in range(1, 4):
        core.tell(events.Began(key))
        lost = events.AttemptBroke(key, ComfyUIUnavailable("lost"), f"p{number}")
        core.tell(lost)
        if number < 3:
            assert core.wanted(effects.Requeue)[-1].delay_s == 0
            core.tell(events.Requeued(key, number))
            job = core.book.job(key)
            assert job is not None
            assert job.prompt_id == f"p{number}"
    (finish,) = core.wanted(effects.Finish)
    assert (finish.outcome, finish.error.code) == ("failed", "comfyui_unavailable")
    assert core.counters.retried == 2


def test_an_attempt_that_never_reached_comfyui_is_made_again_after_a_pause() -> None:
    core = Rig("main")
    core.ready("main")
    key = core.add("j1")
    core.tell(events.AttemptBroke(key, ComfyUIUnavailable("refused"), "p1"))
    assert core.wanted(effects.Requeue)[-1].delay_s > 0
    assert core.book.job(key).attempt == 0  # type: ignore[union-attr]


def test_memory_that_runs_out_is_freed_once() -> None:
    core = Rig("main")
    core.ready("main")
    key = core.add("j1")
    full = events.AttemptBroke(key, BridgeError("out of memory"), "p", free_memory=True)
    core.tell(events.Began(key))
    core.tell(full)
    assert core.wanted(effects.Requeue)[-1].free == "main"
    core.tell(events.Requeued(key, 1))
    core.tell(events.Began(key))
    core.tell(full)
    assert core.wanted(effects.Finish)[-1].outcome == "failed"


@pytest.mark.parametrize("began", [False, True])
def test_a_job_that_expires_at_comfyui_is_expired_unless_it_had_begun(*, began: bool) -> None:
    core = Rig("main")
    core.ready("main")
    key = core.add("j1", start_before=150.0)
    if began:
        core.tell(events.Began(key))
    core.clock = 200.0
    core.tell(events.Tick())
    assert bool(core.wanted(effects.Stop)) is not began
    if not began:
        core.tell(events.AttemptStopped(key, "p"))
        assert core.wanted(effects.Finish)[-1].outcome == "expired"


def test_an_expired_start_is_reported_by_the_wall_clock() -> None:
    core = Rig()
    core.add("j1", start_before=150.0)
    done = core.handle(events.Tick(), Moment(200.0, 200.0, ahead=1_000.0))
    (finish,) = (each for each in done if isinstance(each, effects.Finish))
    assert finish.error is not None
    assert finish.error.details["start_before"] == 1_150.0


def test_a_job_that_begins_just_as_its_deadline_stops_it_is_expired() -> None:
    core = Rig("main")
    core.ready("main")
    key = core.add("j1", start_before=150.0)
    core.clock = 200.0
    core.tell(events.Tick())
    core.tell(events.Began(key))
    core.tell(events.AttemptStopped(key, "p"))
    (requeue,) = core.wanted(effects.Requeue)
    assert requeue.expected
    core.tell(events.Requeued(key, 3))
    (finish,) = core.wanted(effects.Finish)
    assert (finish.outcome, finish.error.code) == ("expired", "expired")
    core.tell(events.Finished(key))
    assert key not in core.book


def test_a_defect_while_jobs_are_given_out_costs_one_job_and_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    core = Rig("main", "other")
    first, second, third = (core.add(name) for name in ("j1", "j2", "j3"))
    start = core._start
    broken = ZeroDivisionError()

    def fails(entry: Entry) -> None:
        if entry.job.key == second:
            raise broken
        start(entry)

    monkeypatch.setattr(core, "_start", fails)
    core.ready("main", "other")
    assert core.wanted(effects.Report) == [effects.Report(broken)]
    assert {each.key for each in core.wanted(effects.Start)} == {first, third}
    (finish,) = core.wanted(effects.Finish)
    assert (finish.key, finish.outcome) == (second, "failed")


def test_a_defect_in_what_an_event_changes_costs_its_job_and_loses_no_effect(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    core = Rig("main")
    core.ready("main")
    key = core.add("j1")
    other = core.add("j2")

    def fails(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(core.book.estimates, "ran", fails)
    core.tell(events.AttemptSucceeded(key, 1.0))
    (finish,) = core.wanted(effects.Finish)
    assert (finish.key, finish.outcome) == (key, "failed")
    core.tell(events.AttemptFailed(other, BridgeError("x")))
    assert core.wanted(effects.Finish)[-1].key == other


def test_wakes_are_asked_for_at_the_first_deadline() -> None:
    core = Rig("main")
    core.add("j1", start_before=500.0)
    core.add("j2", start_before=300.0)
    assert core.wakes_at().journal == 300.0
    core.clock = 300.0
    core.tell(events.Tick())
    assert core.wanted(effects.Finish)[-1].key.job_id == "j2"
    assert core.wakes_at().journal == 500.0


def test_a_client_learns_why_its_job_waits_and_when_that_is_over() -> None:
    core = Rig("main")
    core.ready("main")
    core.ready("main", availability=AWAY)
    for number in range(AT_ONCE + 20):
        core.add(f"j{number}")
    core.clock += SETTLES_S
    core.tell(events.Tick())
    told = core.wanted(effects.Announce)
    assert len(told) == AT_ONCE
    assert told[0].status.reason == "ComfyUI main is unreachable"
    core.done = []
    core.tell(events.Paused(paused=True))
    core.clock += SETTLES_S
    core.tell(events.Tick())
    assert core.wanted(effects.Announce)[0].status.reason == "the operator paused the queue"


def test_no_job_starts_while_three_outcomes_cannot_be_written() -> None:
    core = Rig("main")
    core.ready("main")
    keys = [core.add(f"j{number}") for number in range(7)]
    for number in range(3):
        core.tell(events.LeftComfyUI(keys[number]))
        core.tell(events.AttemptSucceeded(keys[number], 1.0))
        core.tell(events.Unwritten(keys[number]))
        core.tell(events.Unwritten(keys[number]))  # once more, after a while
    assert [job for job, _ in core.started()] == ["j0", "j1", "j2", "j3", "j4"]
    for key in keys[3:5]:
        core.tell(events.LeftComfyUI(key))
    assert core.started() == []
    core.clock += SETTLES_S
    core.tell(events.Tick())
    announced = core.wanted(effects.Announce)
    assert [each.key for each in announced] == keys[5:]
    assert announced[0].status.reason == "the outcomes of earlier jobs cannot be stored at present"
    core.tell(events.Finished(keys[0]))
    assert [job for job, _ in core.started()] == ["j5", "j6"]


def test_a_queue_that_is_paused_or_drained_gives_out_nothing() -> None:
    core = Rig("main")
    core.tell(events.Paused(paused=True))
    core.ready("main")
    core.add("j1")
    assert core.started() == []
    assert core.book.outlook(core.book.job(Key("alice", "j1"))) == (0, None)  # type: ignore[arg-type]
    core.tell(events.Paused(paused=False))
    assert core.started() == [("j1", "main")]
    core.tell(events.Draining())
    core.add("j2")
    assert core.started() == []


def test_what_was_sent_back_keeps_its_attempt_and_its_place() -> None:
    core = Rig("main")
    core.ready("main")
    key = core.add("j1")
    core.tell(events.Began(key))
    core.tell(events.SendBackAsked("main"))
    assert core.wanted(effects.Stop) == [effects.Stop(key)]
    core.tell(events.AttemptStopped(key, "p2"))
    requeue = core.wanted(effects.Requeue)[-1]
    assert (requeue.expected, requeue.reason) == (True, "the operator took it from main")
    core.tell(events.Requeued(key, 5))
    assert core.counters.retried == 0
    published = core.wanted(effects.Publish)[-1].status
    assert (published.state, published.n) == ("queued", 5)


def test_what_was_sent_back_for_the_gpu_names_who_has_it() -> None:
    core = Rig("main")
    core.ready("main")
    key = core.add("j1")
    core.tell(events.Began(key))
    core.tell(events.SendBackAsked("main", "GPU 'desk', which 'games' gets next"))
    core.tell(events.AttemptStopped(key, "p2"))
    told = "it was taken from main, which waits for GPU 'desk', which 'games' gets next"
    assert core.wanted(effects.Requeue)[-1].reason == told


def test_a_recovered_prompt_is_adopted_where_it_is_and_cancelled_where_it_is_not() -> None:
    core = Rig("one", "two")
    job = core.make("old", state="running")
    core.tell(events.Recovered([job]))
    core.ready("one")
    assert core.wanted(effects.AskPrompts) == [effects.AskPrompts("one")]
    assert core.started() == []
    core.tell(events.PromptsKnown("one", frozenset()))
    assert core.started() == [("old", "one")]
    core.ready("two")
    core.tell(events.PromptsKnown("two", frozenset({job.prompt_id})))
    assert core.wanted(effects.CancelPrompt) == [effects.CancelPrompt("two", job.prompt_id)]


def test_once_all_comfyuis_were_asked_none_is_asked_again() -> None:
    core = Rig("one", "two")
    core.tell(events.Recovered([core.make("old")]))
    core.ready("one", "two")
    for name in ("one", "two"):
        core.tell(events.PromptsKnown(name, frozenset()))
    core.tell(events.AttemptSucceeded(Key("alice", "old"), 1.0))
    core.tell(events.Finished(Key("alice", "old")))
    core.done = []
    for availability in (AWAY, READY, BUSY, AWAY, READY):
        core.ready("one", "two", availability=availability)
    for number in range(50):
        key = core.add(f"j{number}")
        core.tell(events.AttemptSucceeded(key, 1.0))
        core.tell(events.Finished(key))
    assert core.wanted(effects.AskPrompts) == []


def test_a_defect_costs_the_job_and_a_second_one_leaves_it_to_the_next_start() -> None:
    core = Rig("main")
    core.ready("main")
    key = core.add("j1")
    core.tell(events.Defect(key, BridgeError("internal error")))
    assert core.wanted(effects.Finish)[-1].outcome == "failed"
    core.tell(events.Defect(key, BridgeError("internal error")))
    assert core.wanted(effects.Left) == [effects.Left(key, None)]
    assert not core.book.running


def test_in_a_group_a_job_is_claimed_before_it_is_run_or_ended() -> None:
    core = Rig("main", alone=False)
    core.ready("main")
    key = core.add("j1")
    assert core.wanted(effects.Claim) == [effects.Claim(key)]
    core.tell(events.TakenElsewhere(key))  # an old notice: the claim's answer decides
    assert key in core.book
    core.tell(events.Claimed(key, 2, "p9"))
    assert core.started() == [("j1", "main")]
    other = core.add("j2")
    core.tell(events.ClaimLost(other))
    assert core.wanted(effects.Left) == [effects.Left(other, None)]
    assert core.book.running == 1


@pytest.mark.parametrize("alone", [True, False])
def test_a_bridge_of_a_group_that_stops_gives_back_what_has_not_begun(alone: bool) -> None:  # noqa: FBT001
    core = Rig("main", alone=alone)
    core.ready("main")
    runs, waits = core.add("j1"), core.add("j2")
    for key in () if alone else (runs, waits):
        core.tell(events.Claimed(key, 1, f"p-{key.job_id}"))
    core.tell(events.Began(runs))
    core.tell(events.Draining())
    assert [each.key for each in core.wanted(effects.Stop)] == ([] if alone else [waits])
    assert core.book.is_busy
    core.tell(events.AttemptStopped(waits, "p9"))
    core.tell(events.Requeued(waits, 5))
    assert core.book.is_busy
    core.tell(events.AttemptSucceeded(runs, 1.0))
    core.tell(events.Finished(runs))
    assert not core.book.is_busy


def test_a_job_waits_for_who_can_run_it_in_whichever_bridge() -> None:
    core = Rig("main", alone=False, main={A})
    core.ready("main")
    job = core.make("j1", needs=B)
    others: dict[str, Any] = {}
    core.book.able_elsewhere = lambda _: others
    assert core.book.why_waiting(job) is None
    others |= {"b-main": None, "b-other": "yielded"}
    reason = core.book.why_waiting(job)
    assert reason == "ComfyUI b-main is away, ComfyUI b-other is left to others"
    others["b-main"] = "busy"
    assert core.book.why_waiting(job) is None
    # Ours is as good, and away.
    ours = core.make("j2", needs=A)
    others.clear()
    core.ready("main", availability=AWAY)
    assert core.book.why_waiting(ours) == "ComfyUI main is unreachable"
    others["b-main"] = "ready"
    assert core.book.why_waiting(ours) is None


def no_room(key: Key) -> events.AttemptBroke:
    error = BridgeError("node 9 (SaveImage): [Errno 28] No space left on device")
    return events.AttemptBroke(key, error, "p2", no_room=True)


def test_a_job_that_a_full_disk_ended_at_comfyui_waits_and_has_its_attempt_again() -> None:
    core = Rig("main")
    core.ready("main")
    key = core.add("j1")
    core.tell(events.Began(key))
    core.tell(no_room(key))
    assert core.wanted(effects.Finish) == []
    core.done = []
    core.tell(events.Requeued(key, 7))
    job = core.book.job(key)
    assert job is not None
    assert (job.state, job.attempt) == ("queued", 0)
    assert core.started() == []
    assert core.book.why_waiting(job) == "ComfyUI main has no room left on its disk"
    assert core.wakes_at().steady <= core.clock + REST_FIRST_S
    core.clock += REST_FIRST_S
    core.tell(events.Tick())
    assert core.started() == [("j1", "main")]
    assert core.book.why_waiting(job) is None


def test_a_comfyui_whose_disk_is_full_rests_longer_each_time_until_it_has_saved_something() -> None:
    core = Rig("main")
    core.ready("main")
    key = core.add("j1")
    rests = []
    for _ in range(9):
        core.tell(events.Began(key))
        core.tell(no_room(key))
        core.tell(events.Requeued(key, 1))
        due = core.book.pool["main"].rests_until
        assert due is not None
        rests.append(due - core.clock)
        core.clock = due
        core.tell(events.Tick())
    assert rests[:3] == [REST_FIRST_S, 2 * REST_FIRST_S, 4 * REST_FIRST_S]
    assert max(rests) == rests[-1] == REST_LONGEST_S
    core.tell(events.Began(key))
    core.tell(events.AttemptSucceeded(key, 1.0))
    core.tell(events.Finished(key))
    other = core.add("j2")
    core.tell(events.Began(other))
    core.tell(no_room(other))
    assert core.book.pool["main"].rests_until == core.clock + REST_FIRST_S


def test_another_comfyui_with_room_takes_the_job_at_once() -> None:
    core = Rig("full", "other")
    core.ready("full")
    key = core.add("j1")
    core.tell(events.Began(key))
    core.tell(no_room(key))
    core.ready("other")
    core.done = []
    core.tell(events.Requeued(key, 1))
    assert core.started() == [("j1", "other")]


def test_a_job_that_fills_the_disk_each_time_is_given_up() -> None:
    core = Rig("main")
    core.ready("main")
    key = core.add("j1")
    for _ in range(MAX_NO_ROOM):
        core.tell(events.Began(key))
        core.tell(no_room(key))
        core.tell(events.Requeued(key, 1))
        core.clock += REST_LONGEST_S
        core.tell(events.Tick())
    assert core.wanted(effects.Finish) == []
    core.tell(events.Began(key))
    core.tell(no_room(key))
    assert core.wanted(effects.Finish)[-1].outcome == "failed"


@pytest.mark.parametrize("broke", [False, True])
def test_a_job_that_is_cancelled_while_it_runs_is_not_run_again(*, broke: bool) -> None:
    core = Rig("main")
    core.ready("main")
    key = core.add("j1")
    core.tell(events.Began(key))
    assert core.tell(events.CancelAsked(key)) == [effects.Stop(key)]
    died = events.AttemptBroke(key, ComfyUIUnavailable("died"), "p2")
    core.tell(died if broke else events.AttemptStopped(key, "p2"))
    assert core.wanted(effects.Requeue) == []
    assert core.wanted(effects.Finish)[-1].outcome == "cancelled"


def test_a_cancel_that_comes_too_late_leaves_the_result() -> None:
    core = Rig("main")
    core.ready("main")
    key = core.add("j1")
    core.tell(events.Began(key))
    core.tell(events.CancelAsked(key))
    core.tell(events.AttemptSucceeded(key, 1.0))
    assert core.wanted(effects.Finish)[-1].outcome == "succeeded"


def test_a_clear_leaves_alone_what_has_started_and_other_clients() -> None:
    core = Rig("main")
    core.ready("main")
    for number in range(4):
        core.add(f"j{number}")
    theirs = core.add("theirs", "bob")
    core.done = []
    core.tell(events.ClearAsked("alice"))
    assert [each.key.job_id for each in core.wanted(effects.Finish)] == ["j2", "j3"]
    assert core.wanted(effects.Stop) == []
    assert theirs in core.book


def test_of_jobs_that_replace_each_other_the_newest_is_run() -> None:
    core = Rig("main")
    core.add("older", replace="sensor")
    core.add("theirs", "bob", replace="sensor")
    core.add("newer", replace="sensor")
    (finish,) = core.wanted(effects.Finish)
    assert (finish.key.job_id, finish.outcome) == ("older", "cancelled")
    assert finish.error.details["by"] == "newer"
    core.ready("main")
    assert set(core.started()) == {("theirs", "main"), ("newer", "main")}


def test_a_job_that_has_started_is_replaced_only_if_it_comes_back() -> None:
    core = Rig("main")
    core.ready("main")
    older = core.add("older", replace="sensor")
    core.tell(events.Began(older))
    newer = core.add("newer", replace="sensor")
    assert core.wanted(effects.Stop) == []
    assert core.wanted(effects.Finish) == []
    core.tell(events.AttemptBroke(older, ComfyUIUnavailable("died"), "p2"))
    core.tell(events.Requeued(older, 1))
    (finish,) = core.wanted(effects.Finish)
    assert (finish.key, finish.outcome) == (older, "cancelled")
    assert newer in core.book


def test_a_job_that_every_bridge_died_of_is_lost() -> None:
    core = Rig("main")
    job = core.make("j1")
    job.attempt = LIMITS.max_attempts
    core.tell(events.Recovered([job]))
    core.ready("main")
    core.tell(events.PromptsKnown("main", frozenset()))
    (finish,) = core.wanted(effects.Finish)
    assert (finish.outcome, finish.error.code) == ("failed", "lost")
    assert core.started() == []


def test_an_attempt_that_never_reached_comfyui_counts_if_it_says_so() -> None:
    core = Rig("main")
    core.ready("main")
    key = core.add("j1")
    refused = events.AttemptBroke(key, ComfyUIUnavailable("refused"), "p", counts=True)
    for number in range(1, LIMITS.max_attempts):
        core.tell(refused)
        assert core.wanted(effects.Finish) == []
        core.tell(events.Requeued(key, number))
    core.tell(refused)
    assert core.wanted(effects.Finish)[-1].outcome == "failed"


def test_a_job_that_an_attached_comfyui_may_have_waits_for_that_one() -> None:
    core = Rig("near", "far")
    job = core.make("j1", state="running")
    job.instance = "far"
    core.tell(events.Recovered([job]))
    core.ready("near")
    core.tell(events.PromptsKnown("near", frozenset()))
    assert core.started() == []
    core.ready("far")
    core.tell(events.PromptsKnown("far", frozenset({job.prompt_id})))
    assert core.started() == [("j1", "far")]


def test_a_job_that_is_cancelled_while_it_is_released_is_cancelled() -> None:
    core = Rig("main")
    job = core.make("j1", state="waiting")
    core.tell(events.Accepted(job))
    core.tell(events.Resolved(job.key, PLAN, {}))
    core.tell(events.CancelAsked(job.key))
    entry = core.book.entry(job.key)
    assert entry is not None
    assert entry.phase is Phase.RELEASING
    core.tell(events.Released(job.key, 3))
    assert core.wanted(effects.Finish)[-1].outcome == "cancelled"


@pytest.mark.parametrize("released", [False, True])
def test_a_job_whose_input_cannot_be_had_fails(*, released: bool) -> None:
    core = Rig("main")
    job = core.make("j1", state="waiting")
    core.tell(events.Accepted(job))
    if released:
        core.tell(events.Resolved(job.key, PLAN, {}))
    core.tell(events.Unresolvable(job.key, BridgeError("swept")))
    assert core.wanted(effects.Finish)[-1].outcome == "failed"


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({"ended": True}, [events.EndedElsewhere]),
        ({"owner": "other"}, [events.TakenElsewhere]),
        ({"owner": "me", "cancelling": True, "known": True}, [events.CancelAsked]),
        ({"owner": "me", "cancelling": True}, []),
        ({"known": True}, []),
        ({}, [events.Accepted]),
        ({"cancelling": True}, [events.Accepted, events.CancelAsked]),
        ({"state": "waiting"}, []),
        ({"state": "waiting", "has_intake": True}, [events.Accepted]),
    ],
)
def test_what_other_bridges_do_is_understood(found: dict[str, Any], expected: list[type]) -> None:
    job = Rig().make("j1", state=found.pop("state", "queued"))
    standing: dict[str, Any] = {
        "owner": None,
        "cancelling": False,
        "ended": False,
        "life": "me",
        "has_intake": False,
        "known": False,
    }
    assert [type(each) for each in events_for(job, **{**standing, **found})] == expected


def test_a_cancel_reaches_the_prompt_at_the_comfyui_that_was_seen_to_have_it() -> None:
    core = Rig("main")
    job = core.make("j1")  # it had not begun: no row says where it is
    core.tell(events.Paused(paused=True))
    core.tell(events.Recovered([job]))
    core.ready("main")
    core.tell(events.PromptsKnown("main", frozenset({job.prompt_id})))
    core.tell(events.CancelAsked(job.key))
    assert core.wanted(effects.CancelPrompt) == [effects.CancelPrompt("main", job.prompt_id)]
    assert core.wanted(effects.Finish)[-1].outcome == "cancelled"


def test_deadlines_of_jobs_that_have_ended_or_come_back_take_no_memory() -> None:
    core = Rig("main")
    core.ready("main")
    again = core.add("again", start_before=1e9)
    for number in range(2000):
        key = core.add(f"j{number}", start_before=1e9)
        core.tell(events.AttemptSucceeded(key, 1.0))
        core.tell(events.Finished(key))
        core.tell(events.AttemptBroke(again, ComfyUIUnavailable("refused"), "p"))
        core.tell(events.Requeued(again, number))
    assert len(core._deadlines) < 300
    core.tell(events.AttemptBroke(again, ComfyUIUnavailable("refused"), "p"))
    core.clock = 1e9
    core.tell(events.Tick())
    core.tell(events.Requeued(again, 3000))
    core.tell(events.Tick())
    assert core.wanted(effects.Finish)[-1].outcome == "expired"


def test_a_recovered_job_says_why_it_waits_and_when_the_reason_changes() -> None:
    core = Rig("main")
    core.tell(events.Recovered([core.make("j1")]))
    core.ready("main", availability=Availability(usable=False, state="starting"))
    core.clock += SETTLES_S
    assert core.wakes_at().steady <= core.clock
    core.tell(events.Tick())
    core.ready("main", availability=Availability(usable=False, state="crash_loop"))
    core.clock += SETTLES_S
    core.tell(events.Tick())
    assert [each.status.reason for each in core.wanted(effects.Announce)] == [
        "ComfyUI main is starting",
        "ComfyUI main does not start",
    ]
