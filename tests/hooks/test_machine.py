"""One hook over time."""

from __future__ import annotations

from bridge.hooks.machine import RETRY_CAP_S, RETRY_FIRST_S, Machine, Rules


class Rig(Machine):
    """A hook with a clock."""

    def __init__(self, *, prepared: bool = False, waits: bool = False) -> None:
        rules = Rules("llm", frozenset({"one"}), idle_s=60.0, waits=waits)
        super().__init__(rules, prepared=prepared)
        self.now = 1000.0

    def go(self, *, wanted: bool = False, blocked: bool = False, after: float = 0.0) -> str | None:
        self.now += after
        return self.step(self.now, wanted=wanted, blocked=blocked)

    def end(self, error: str | None = None) -> None:
        self.ended(error, self.now)

    def due(self, *, wanted: bool = False) -> float:
        return self.wakes_at(wanted=wanted) - self.now


def test_it_prepares_when_jobs_wait_and_releases_once_nothing_has_for_a_while() -> None:
    hook = Rig()
    assert hook.go() is None
    assert (hook.go(wanted=True), hook.state, hook.open) == ("prepare", "preparing", False)
    assert hook.go(wanted=True) is None  # one call at a time
    hook.end()
    assert (hook.state, hook.open) == ("busy", True)
    assert hook.go(wanted=True, after=500) is None
    assert (hook.go(), hook.due()) == (None, 60.0)
    assert hook.go(after=59.0) is None
    assert hook.open
    assert (hook.go(after=1.0), hook.state, hook.open) == ("release", "releasing", False)
    hook.end()
    assert (hook.state, hook.due()) == ("idle", float("inf"))


def test_a_job_that_comes_meanwhile_begins_the_idle_time_again() -> None:
    hook = Rig()
    hook.go(wanted=True)
    hook.end()
    hook.go()
    assert hook.go(wanted=True, after=59.0) is None
    assert hook.go(after=30.0) is None
    assert hook.go(after=59.0) is None
    assert hook.go(after=1.0) == "release"


def test_a_job_that_comes_while_it_releases_waits_for_that_and_then_prepares() -> None:
    hook = Rig()
    hook.go(wanted=True)
    hook.end()
    hook.go()
    assert hook.go(after=60.0) == "release"
    assert hook.go(wanted=True) is None
    assert not hook.open
    hook.end()
    assert hook.go(wanted=True) == "prepare"


def test_one_whose_errors_do_not_matter_goes_on_and_says_so() -> None:
    hook = Rig()
    hook.go(wanted=True)
    hook.end("nobody answers")
    assert (hook.open, hook.error) == (True, "nobody answers")
    hook.go()
    hook.go(after=60.0)
    hook.end("still nobody")
    assert (hook.state, hook.error) == ("idle", "still nobody")
    hook.go(wanted=True)
    hook.end()
    assert hook.error is None


def test_one_whose_errors_matter_is_called_again_until_it_succeeds() -> None:
    hook = Rig(waits=True)
    pause = RETRY_FIRST_S
    hook.go(wanted=True)
    for _ in range(8):
        hook.end("nobody answers")
        assert (hook.state, hook.error) == ("preparing", "nobody answers")
        assert (hook.go(wanted=True), hook.due(wanted=True)) == (None, pause)
        assert hook.go(wanted=True, after=pause) == "prepare"
        pause = min(2 * pause, RETRY_CAP_S)
    hook.end()
    assert hook.open
    hook.go()
    hook.go(after=60.0)
    hook.end("nobody answers")
    assert (hook.state, hook.due()) == ("releasing", RETRY_FIRST_S)  # the pauses are short again
    assert hook.go(after=RETRY_FIRST_S) == "release"
    hook.end()
    assert hook.state == "idle"


def test_what_was_prepared_in_part_is_released_when_its_jobs_are_gone() -> None:
    hook = Rig(waits=True)
    hook.go(wanted=True)
    hook.end("half done")
    assert hook.go() is None
    assert hook.go(after=60.0) == "release"


def test_a_release_that_fails_keeps_no_job_waiting() -> None:
    hook = Rig(waits=True)
    hook.go(wanted=True)
    hook.end()
    hook.go()
    hook.go(after=60.0)
    hook.end("nobody answers")
    assert hook.go(wanted=True) is None or hook.state == "preparing"
    assert hook.go(wanted=True, after=RETRY_FIRST_S) in ("prepare", None)
    assert hook.running


def test_one_that_an_earlier_process_prepared_is_prepared_again_or_released() -> None:
    hook = Rig(prepared=True)
    assert not hook.open
    assert hook.go() is None
    assert hook.go(after=60.0) == "release"
    again = Rig(prepared=True)
    assert again.go(wanted=True) == "prepare"


def test_while_others_have_the_gpu_nothing_is_called_and_then_all_is_prepared_again() -> None:
    hook = Rig()
    hook.go(wanted=True)
    hook.end()
    assert hook.go(blocked=True) is None
    assert not hook.open
    assert hook.go(blocked=True, after=1000.0) is None
    assert hook.go() is None  # the idle time begins when the GPU is back
    assert hook.go(wanted=True, after=59.0) == "prepare"


def test_one_that_is_released_elsewhere_is_idle() -> None:
    hook = Rig()
    hook.go(wanted=True)
    hook.end()
    assert hook.prepared
    hook.released()
    assert not hook.prepared
