"""Jobs' lives in the real core, with everything that can happen to the world that it stands on.

`COMFY2MQTT_TEST_STEPS` is about how many steps are taken, 5,000 by default: `make lives` takes a
hundred thousand. After each step the guarantees of docs/contract.md are checked, and at the end,
once all faults are over, that no job waits for ever.
"""

from __future__ import annotations

import copy
import os
from typing import ClassVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from bridge.jobs.core import Phase, events
from bridge.jobs.job import Job
from bridge.jobs.queue import Key
from bridge.jobs.state import Happening, after
from bridge.workflows.catalogue import Needs
from tests.jobs.drafts import PLAN, draft
from tests.jobs.simulation import Bridge, ComfyUI, Fenced, Row, World

STEPS = 50
CLIENTS = st.sampled_from("abc")
ENDINGS = st.sampled_from(["succeeded", "succeeded", "succeeded", "failed", "memory", "defect"])
PICK = st.integers(0, 1_000)
# What of the world's work is done in one round, once all faults are over.
_ROUNDS = 3_000


class Lives(RuleBasedStateMachine):
    """One bridge, alone with its journal."""

    bridges: ClassVar[int] = 1
    comfyuis_each: ClassVar[int] = 2

    def __init__(self) -> None:
        super().__init__()
        self.world = World(PLAN)
        self.lives = 0
        self.paused = False

    @property
    def alone(self) -> bool:
        return self.bridges == 1

    @initialize()
    def begin(self) -> None:
        for number in range(self.bridges):
            names = [f"gpu{number}{place}" for place in range(self.comfyuis_each)]
            self.world.comfyuis |= {name: ComfyUI(name) for name in names}
            self.start(number)

    def start(self, number: int) -> Bridge:
        """Start the bridge of a number: it takes over what its last life had."""
        self.lives += 1
        life = f"{number}-{self.lives}"
        ours = {
            name: each
            for name, each in self.world.comfyuis.items()
            if name.startswith(f"gpu{number}")
        }
        bridge = Bridge(self.world, life, ours, alone=self.alone)
        if not self.alone:
            for row in self.world.journal.rows.values():
                if row.owner is not None and row.owner.startswith(f"{number}-"):
                    row.owner = life
            for member in list(self.world.journal.members):
                if member.startswith(f"{number}-"):
                    self.world.journal.members.discard(member)
            self.world.journal.members.add(life)
        self.world.bridges[life] = bridge
        self.world.new_process()
        self.give_intake()
        if self.paused:
            bridge.handle(events.Paused(paused=True))
        bridge.recover()
        return bridge

    def give_intake(self) -> None:
        """Let one bridge that lives take the requests."""
        for place, (_, bridge) in enumerate(sorted(self.world.bridges.items())):
            took = place == 0 and not bridge.has_intake
            bridge.has_intake = place == 0
            if took and not self.alone:
                bridge.compare()

    def pick(self, number: int) -> Bridge:
        lives = sorted(self.world.bridges)
        return self.world.bridges[lives[number % len(lives)]]

    @property
    def intake(self) -> Bridge | None:
        return next((each for each in self.world.bridges.values() if each.has_intake), None)

    # -- what clients and the operator do --

    @precondition(lambda self: self.intake is not None)
    @rule(
        client=CLIENTS,
        number=st.integers(0, 40),
        priority=st.integers(-1, 1),
        waits=st.booleans(),
        word=st.sampled_from([None, None, "latest"]),
        start_within=st.sampled_from([None, None, 5.0, 50.0]),
        ordered=st.booleans(),
        model=st.sampled_from(["", "a.safetensors", "b.safetensors"]),
    )
    def ask(  # noqa: PLR0917 - hypothesis passes them by name
        self,
        client: str,
        number: int,
        priority: int,
        waits: bool,  # noqa: FBT001
        word: str | None,
        start_within: float | None,
        ordered: bool,  # noqa: FBT001
        model: str,
    ) -> None:
        """A request with a job id, perhaps sent before."""
        intake, journal = self.intake, self.world.journal
        key = Key(client, f"j{number}")
        if intake is None or key in journal.rows:
            return
        wanted = draft(key.job_id, client)
        job = Job(
            key=key,
            seq=journal.next_seq(),
            workflow=wanted.job.workflow,
            workflow_version=wanted.job.workflow_version,
            state="waiting" if waits else "queued",
            priority=priority,
            attempt=0,
            prompt_id=self.world.new_id(),
            instance=None,
            accepted_at=self.world.now,
            start_before=None if start_within is None else self.world.now + start_within,
            timeout_s=None,
            keep_s=None,
            ordered=ordered,
            replace=word,
            needs=Needs(choices=(("Loader", "name", model),)) if model else Needs(),
            envelope=wanted.job.envelope,
        )
        journal.rows[key] = Row(job, None, journal.draw(client))
        self.world.notify(intake, "look", key)
        intake.handle(events.Accepted(copy.deepcopy(job)))
        journal.publish(client, journal.rows[key].n)

    @precondition(lambda self: self.world.bridges and self.world.journal.rows)
    @rule(by=PICK, which=PICK)
    def cancel(self, by: int, which: int) -> None:
        """A client cancels a job, by way of whichever bridge has the intake."""
        bridge = self.pick(by)
        key = sorted(self.world.journal.rows)[which % len(self.world.journal.rows)]
        row = self.world.journal.rows[key]
        bridge.handle(events.CancelAsked(key))
        if self.alone or key in bridge.core.book or row.outcome is not None:
            return
        if row.owner is None:
            row.owner = bridge.life
            self.world.notify(bridge, "taken", key)
            bridge.handle(events.Accepted(copy.deepcopy(row.job)))
            bridge.handle(events.CancelAsked(key))
        else:
            row.cancelling = True
            self.world.notify(bridge, "look", key)

    @precondition(lambda self: self.world.bridges)
    @rule(by=PICK, client=st.sampled_from([None, "a", "b"]))
    def clear(self, by: int, client: str | None) -> None:
        bridge = self.pick(by)
        active = {
            key for key, entry in bridge.core.book.entries.items() if entry.phase is Phase.ACTIVE
        }
        bridge.handle(events.ClearAsked(client))
        assert not any(bridge.attempts[key].stop for key in active - self.stopped(bridge)), (
            "a clear stops what has started"
        )

    @staticmethod
    def stopped(bridge: Bridge) -> set[Key]:
        return {key for key, entry in bridge.core.book.entries.items() if entry.stop is not None}

    @rule(paused=st.booleans())
    def pause(self, *, paused: bool) -> None:
        self.paused = paused
        for bridge in self.world.everybody():
            if bridge.core.book.paused != paused:
                bridge.handle(events.Paused(paused))

    @precondition(lambda self: self.world.bridges)
    @rule(by=PICK, which=PICK)
    def send_back(self, by: int, which: int) -> None:
        bridge = self.pick(by)
        bridge.handle(events.SendBackAsked(sorted(bridge.comfyuis)[which % len(bridge.comfyuis)]))

    # -- what goes on --

    @precondition(lambda self: any(each.writes for each in self.world.bridges.values()))
    @rule(by=PICK, fails=st.sampled_from([False, False, False, True]))
    def write(self, by: int, *, fails: bool) -> None:
        """The journal does what was asked first; or its disk refuses, and it is asked again."""
        busy = [each for _, each in sorted(self.world.bridges.items()) if each.writes]
        bridge = busy[by % len(busy)]
        operation = bridge.writes.popleft()
        if not fails:
            self.do(bridge, operation.do)
        elif operation.name not in ("MarkStarted", "Announce"):  # nobody needs those again
            bridge.writes.append(operation)

    def do(self, bridge: Bridge, work: object) -> None:
        """Do something for a bridge, which ends where the others took it for dead."""
        try:
            work()  # type: ignore[operator]
        except Fenced:
            self.world.bridges.pop(bridge.life, None)
            self.world.frozen.pop(bridge.life, None)
            self.give_intake()

    @precondition(lambda self: any(each.errands for each in self.world.bridges.values()))
    @rule(by=PICK, which=PICK, good=st.booleans())
    def errand(self, by: int, which: int, *, good: bool) -> None:
        self.world.draw_bool = lambda: good
        busy = [each for _, each in sorted(self.world.bridges.items()) if each.errands]
        bridge = busy[by % len(busy)]
        bridge.errands.pop(which % len(bridge.errands)).do()

    @precondition(lambda self: any(each.attempts for each in self.world.bridges.values()))
    @rule(by=PICK, which=PICK, ending=ENDINGS, steps=st.integers(1, 4))
    def advance(self, by: int, which: int, ending: str, steps: int) -> None:
        """Attempts get on at their ComfyUIs."""
        self.world.draw_ending = lambda: ending
        busy = [each for _, each in sorted(self.world.bridges.items()) if each.attempts]
        bridge = busy[by % len(busy)]
        key = sorted(bridge.attempts)[which % len(bridge.attempts)]
        for _ in range(steps):
            if key in bridge.attempts:
                bridge.advance(key)

    @rule(seconds=st.sampled_from([0.1, 3.0, 30.0]))
    def time(self, seconds: float) -> None:
        self.world.now += seconds
        for bridge in self.world.bridges.values():
            bridge.tick()

    @rule(which=PICK, how=st.sampled_from(["die", "leave", "come", "look"]))
    def comfyui(self, which: int, how: str) -> None:
        names = sorted(self.world.comfyuis)
        comfyui = self.world.comfyuis[names[which % len(names)]]
        if how == "die":
            comfyui.die()
        elif how != "look":
            comfyui.away = how == "leave"
        for bridge in self.world.bridges.values():
            bridge.look()

    # -- what happens to bridges --

    @precondition(lambda self: self.world.bridges)
    @rule(by=PICK, mid_write=st.booleans())
    def kill(self, by: int, *, mid_write: bool) -> None:
        """A bridge is killed, perhaps just after a write that it never hears of."""
        bridge = self.pick(by)
        del self.world.bridges[bridge.life]
        if mid_write and bridge.writes and bridge.writes[0].name not in ("MarkStarted", "Announce"):
            died = bridge.writes[0]
            bridge.dead = True
            self.do(bridge, died.do)
        if self.alone:
            self.start(0)
        self.give_intake()

    # -- what holds, always --

    @invariant()
    def numbers_rise(self) -> None:
        for numbers in self.world.journal.published.values():
            assert len(set(numbers)) == len(numbers), "a number was published twice"
            if self.alone:
                assert numbers == sorted(numbers), "numbers were published out of order"

    @invariant()
    def books_are_in_order(self) -> None:
        for bridge in self.world.bridges.values():
            bridge.check()

    @invariant()
    def nothing_is_lost(self) -> None:
        if self.alone:
            (bridge,) = self.world.bridges.values()
            unended = {key for key, row in self.world.journal.rows.items() if row.outcome is None}
            assert unended == set(bridge.core.book.entries)

    @invariant()
    def nothing_runs_twice_at_once(self) -> None:
        running = [key for each in self.world.bridges.values() for key in each.attempts]
        assert len(set(running)) == len(running)

    @invariant()
    def attempts_are_bounded(self) -> None:
        for row in self.world.journal.rows.values():
            assert row.job.attempt <= 3

    def teardown(self) -> None:
        """All faults are over: every job that was accepted gets its outcome."""
        self.paused = False
        for comfyui in self.world.comfyuis.values():
            comfyui.away = False
        self.world.draw_bool = lambda: True
        self.world.draw_ending = lambda: "succeeded"
        self.wake_all()
        for _ in range(_ROUNDS):
            if all(row.outcome is not None for row in self.world.journal.rows.values()):
                break
            self.world.now += 1.0
            for bridge in list(self.world.bridges.values()):
                self.settle(bridge)
        waiting = [key for key, row in self.world.journal.rows.items() if row.outcome is None]
        assert not waiting, f"{waiting} wait for ever"
        for bridge in self.world.bridges.values():
            bridge.check()

    def wake_all(self) -> None:
        """Start what is down, and let nothing be paused."""
        for number in range(self.bridges):
            if not any(life.startswith(f"{number}-") for life in self.world.bridges):
                self.start(number)
        for bridge in self.world.everybody():
            if bridge.core.book.paused:
                bridge.handle(events.Paused(paused=False))

    def settle(self, bridge: Bridge) -> None:
        """Let one bridge do all that it can now."""
        bridge.look()
        bridge.tick()
        while bridge.notices:
            bridge.notice()
        if not self.alone:
            bridge.compare()
        while bridge.errands:
            bridge.errands.pop(0).do()
        while bridge.writes:
            self.do(bridge, bridge.writes.popleft().do)
        for key in list(bridge.attempts):
            if key in bridge.attempts:
                bridge.advance(key)


class GroupLives(Lives):
    """Three bridges on one journal: they die, freeze, take over, and miss what others did."""

    bridges: ClassVar[int] = 3
    comfyuis_each: ClassVar[int] = 1

    @precondition(lambda self: any(each.notices for each in self.world.bridges.values()))
    @rule(by=PICK, heard=st.sampled_from([True, True, False]))
    def notice(self, by: int, *, heard: bool) -> None:
        """A notice arrives, or is missed."""
        busy = [each for _, each in sorted(self.world.bridges.items()) if each.notices]
        bridge = busy[by % len(busy)]
        if heard:
            bridge.notice()
        else:
            bridge.notices.popleft()

    @precondition(lambda self: self.world.bridges)
    @rule(by=PICK)
    def compare(self, by: int) -> None:
        self.pick(by).compare()

    @precondition(lambda self: self.world.bridges)
    @rule(by=PICK)
    def freeze(self, by: int) -> None:
        bridge = self.pick(by)
        self.world.frozen[bridge.life] = self.world.bridges.pop(bridge.life)
        self.give_intake()

    @precondition(lambda self: self.world.frozen)
    @rule(which=PICK)
    def thaw(self, which: int) -> None:
        """A frozen bridge goes on, not knowing for how long it was away."""
        life = sorted(self.world.frozen)[which % len(self.world.frozen)]
        bridge = self.world.frozen.pop(life)
        if life in self.world.journal.members:
            self.world.bridges[life] = bridge
            self.give_intake()
        elif bridge.writes:
            try:
                bridge.writes.popleft().do()
            except Fenced:
                return
            raise AssertionError("a bridge that was taken for dead changed the journal")

    @rule(number=st.integers(0, 2))
    def restart(self, number: int) -> None:
        if not any(life.startswith(f"{number}-") for life in self.everybody()):
            self.start(number)

    def everybody(self) -> list[str]:
        return [*self.world.bridges, *self.world.frozen]

    @precondition(lambda self: self.world.bridges)
    @rule(by=PICK)
    def bury(self, by: int) -> None:
        """The bridge with the intake finds that others are dead, and frees what they had."""
        bridge = self.intake
        del by
        if bridge is None or bridge.life not in self.world.journal.members:
            return
        journal = self.world.journal
        journal.members &= set(self.world.bridges)
        for key, row in journal.rows.items():
            if row.outcome is None and row.owner is not None and row.owner not in journal.members:
                if row.job.state == "running":
                    row.job.state = after(row.job.state, Happening.REQUEUE)
                row.owner, row.job.instance = None, None
                row.job.prompt_id = self.world.new_id()
                row.n = journal.draw(key.client)
                self.world.notify(bridge, "look", key)
                bridge.handle(events.Accepted(copy.deepcopy(row.job)))
                journal.publish(key.client, row.n)
                if row.cancelling:
                    bridge.see(key)

    def wake_all(self) -> None:
        self.world.frozen.clear()
        super().wake_all()
        self.bury(0)


def _settings(share: float) -> settings:
    steps = int(os.environ.get("COMFY2MQTT_TEST_STEPS", "5000"))
    return settings(
        max_examples=max(1, int(steps * share) // STEPS),
        stateful_step_count=STEPS,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


Lives.TestCase.settings = _settings(0.5)
GroupLives.TestCase.settings = _settings(0.5)
TestLives = Lives.TestCase
TestGroupLives = GroupLives.TestCase
