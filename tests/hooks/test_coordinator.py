"""Hooks and locks together: which ComfyUI gets jobs, and what is done for that."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bridge.contract.operator import RequestGpu
from bridge.hooks.coordinator import (
    Action,
    Coordinator,
    FreeMemory,
    HoldInstance,
    Now,
    PrepareHook,
    ReleaseHook,
    State,
    UseGpu,
    VacateGpu,
)
from bridge.hooks.lock import TURN_S
from bridge.hooks.machine import RETRY_FIRST_S, Rules


def hook(name: str, *instances: str, idle_s: float = 60.0, waits: bool = False) -> Rules:
    return Rules(name, frozenset(instances or ("one",)), idle_s, waits)


class Rig(Coordinator):
    """A coordinator with clocks, in which holds are kept apart from what is done."""

    def __init__(
        self,
        *hooks: Rules,
        gpus: dict[str, Sequence[str]] | None = None,
        state: State | None = None,
        free_after_s: float = 300.0,
    ) -> None:
        super().__init__(hooks, gpus or {}, free_after_s=free_after_s, state=state)
        self.clock = 1000.0
        self.held: dict[str, str | None] = {}

    @property
    def now(self) -> Now:
        return Now(self.clock + 1e6, self.clock)

    def go(self, *wanted: str, after: float = 0.0, vacant: bool | None = None) -> list[Action]:
        """Return what is to be done, once these ComfyUIs alone have jobs."""
        self.clock += after
        for name, seen in self.views.items():
            seen.wanted = name in wanted
            if vacant is not None:
                seen.vacant = vacant
        done = self.step(self.now)
        self.held |= {each.instance: each.reason for each in done if isinstance(each, HoldInstance)}
        return [each for each in done if not isinstance(each, HoldInstance)]

    def end(self, name: str, error: str | None = None) -> None:
        self.ended(name, error, self.now)

    def ask(self, gpu: str, holder: str, **fields: Any) -> bool:
        return self.gpus[gpu].lock.request(RequestGpu(holder=holder, **fields), self.now.journal)

    @property
    def due(self) -> float:
        return self.wakes_at(self.now) - self.clock


def test_a_comfyui_gets_jobs_once_its_hooks_are_through_in_their_order() -> None:
    rig = Rig(hook("wake"), hook("llm"))
    assert rig.go() == []
    assert rig.held == {"one": "hook 'wake'"}
    assert rig.go("one") == [PrepareHook("wake")]
    rig.end("wake")
    assert rig.go("one") == [PrepareHook("llm")]
    assert rig.held == {"one": "hook 'llm'"}
    rig.end("llm")
    assert rig.go("one") == []
    assert rig.held == {"one": None}
    assert rig.go(after=10.0) == []
    assert rig.due == 60.0
    assert set(rig.go(after=60.0)) == {ReleaseHook("wake"), ReleaseHook("llm")}
    assert rig.held["one"] is not None


def test_a_hook_that_fails_says_so_and_keeps_only_its_own_comfyui_waiting() -> None:
    rig = Rig(hook("wake", "far", waits=True), hook("llm", "near"))
    assert set(rig.go("far", "near")) == {PrepareHook("wake"), PrepareHook("llm")}
    rig.end("wake", "no answer within 30 s")
    rig.end("llm")
    assert rig.go("far", "near") == []
    assert rig.held["near"] is None
    assert rig.held["far"] == (
        "hook 'wake', which fails and is called again: no answer within 30 s"
    )
    assert rig.due == RETRY_FIRST_S
    assert rig.go("far", "near", after=RETRY_FIRST_S) == [PrepareHook("wake")]


def test_a_hook_of_several_is_released_when_the_last_is_idle() -> None:
    rig = Rig(hook("llm", "one", "two"))
    assert rig.go("one") == [PrepareHook("llm")]
    rig.end("llm")
    assert rig.go("one", "two") == []
    assert rig.held == {"one": None, "two": None}
    assert rig.go("two", after=500.0) == []
    assert rig.go(after=500.0) == []
    assert rig.go(after=60.0) == [ReleaseHook("llm")]


def test_the_bridge_takes_a_free_gpu_before_its_hooks_and_leaves_it_when_idle() -> None:
    rig = Rig(hook("llm"), gpus={"card": ["one"]})
    assert rig.go() == []
    assert rig.held == {"one": "GPU 'card'"}
    assert rig.go("one") == [PrepareHook("llm")]
    assert rig.gpus["card"].lock.ours
    rig.end("llm")
    rig.go("one")
    assert rig.held == {"one": None}
    rig.go()
    assert rig.go(after=60.0) == [ReleaseHook("llm")]
    rig.end("llm")
    assert rig.go(after=239.0) == []
    assert rig.go(after=1.0) == [FreeMemory("card")]
    assert rig.go() == []
    rig.freed("card", rig.now)
    assert rig.gpus["card"].lock.lease is None


def test_a_gpu_is_kept_where_a_job_came_while_its_memory_was_freed() -> None:
    rig = Rig(gpus={"card": ["one"]})
    rig.go("one")
    rig.go()
    assert rig.go(after=300.0) == [FreeMemory("card")]
    rig.go("one")
    rig.freed("card", rig.now)
    assert rig.go("one") == []
    assert rig.gpus["card"].lock.ours
    assert rig.held == {"one": None}
    kept = Rig(gpus={"card": ["one"]}, free_after_s=0.0)
    kept.go("one")
    assert kept.go() == []
    assert kept.go(after=1e6) == []


def test_another_program_gets_the_gpu_once_it_is_vacant_and_the_bridge_gets_it_back() -> None:
    rig = Rig(hook("llm"), gpus={"card": ["one", "two"]})
    rig.go("one")
    rig.end("llm")
    rig.go("one", vacant=False)
    assert not rig.ask("card", "games", priority=5)
    assert rig.go("one") == [VacateGpu("card", finish=True)]
    assert rig.held["one"] == "GPU 'card', which 'games' gets next"
    assert rig.go("one", after=1000.0) == []
    rig.go("one", vacant=True)
    assert rig.gpus["card"].lock.lent
    assert rig.held["one"] == "GPU 'card', which 'games' has"
    # Nothing is done to a GPU that others have, however long that is.
    assert rig.go("one", after=599.0) == []
    assert rig.go("one", after=1.0) == [UseGpu("card"), PrepareHook("llm")]
    assert rig.held["one"] == "hook 'llm'"


def test_who_cannot_wait_has_what_runs_sent_back() -> None:
    rig = Rig(gpus={"card": ["one"]})
    rig.go("one")
    rig.ask("card", "games", priority=5)
    assert rig.go("one") == [VacateGpu("card", finish=True)]
    rig.ask("card", "games", priority=5, finish=False)
    assert rig.go("one") == [VacateGpu("card", finish=False)]
    assert rig.go("one") == []


def test_a_request_that_is_withdrawn_leaves_the_gpu_where_it_is() -> None:
    rig = Rig(gpus={"card": ["one"]})
    rig.go("one")
    rig.ask("card", "games", priority=5)
    rig.go("one")
    rig.gpus["card"].lock.release("games", rig.now.journal)
    assert rig.go("one", vacant=True) == [UseGpu("card")]
    assert rig.held == {"one": None}


def test_a_gpu_is_not_handed_over_while_a_hook_is_called() -> None:
    rig = Rig(hook("llm"), gpus={"card": ["one"]})
    assert rig.go("one") == [PrepareHook("llm")]
    rig.ask("card", "games", priority=5)
    rig.go("one", vacant=True)
    rig.go("one")
    assert not rig.gpus["card"].lock.lent
    rig.end("llm")
    rig.go("one")
    assert rig.gpus["card"].lock.lent


def test_one_gpu_that_is_lent_does_not_slow_another() -> None:
    rig = Rig(gpus={"a": ["one"], "b": ["two"]})
    rig.ask("a", "games")
    rig.go("one", "two")
    assert rig.held == {"one": "GPU 'a', which 'games' has", "two": None}


def test_the_turn_of_the_bridge_is_waited_for() -> None:
    rig = Rig(gpus={"card": ["one"]})
    rig.go("one")
    rig.ask("card", "games")
    rig.go("one")
    assert rig.due == TURN_S
    assert rig.go("one", after=TURN_S) == [VacateGpu("card", finish=True)]


def test_an_earlier_process_is_followed() -> None:
    rig = Rig(hook("llm"), gpus={"card": ["one"]})
    rig.go("one")
    assert rig.state().prepared == ["llm"]  # before the call is made
    rig.ask("card", "games", priority=5)
    again = Rig(hook("llm"), gpus={"card": ["one"]}, state=rig.state())
    # What the bridge had is over with its process, so the one who waits gets it.
    assert again.go() == [VacateGpu("card", finish=True)]
    assert again.held == {"one": "GPU 'card', which 'games' has"}
    assert again.go(after=600.0) == [UseGpu("card")]
    assert again.go(after=60.0) == [ReleaseHook("llm")]
    gone = Rig(state=rig.state())
    assert gone.go("one") == []  # hook and lock are no longer in the settings
