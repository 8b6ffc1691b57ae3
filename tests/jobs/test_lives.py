"""Jobs' lives in the real core: of one bridge, of three in a group, and of their results.

`COMFY2MQTT_TEST_STEPS` is about how many steps are taken, 5,000 by default: `make lives` takes a
hundred thousand.
"""

from __future__ import annotations

import copy
import os
from typing import ClassVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from bridge.jobs.core import events
from bridge.jobs.database import LeaseLost
from bridge.jobs.state import Transition, after
from tests.jobs.lives import PICK, Lives

STEPS = 50


class Claims(Lives):
    """Lifecycles in which less happens to jobs, and more to their results."""

    cancel = clear = pause = send_back = errand = advance = comfyui = None  # type: ignore[assignment]

    @precondition(lambda self: self.intake is not None)
    @rule(client=st.sampled_from("ab"), by=PICK)
    def run_one(self, client: str, by: int) -> None:
        """A job is accepted, and one bridge has time to run it."""
        self.ask(
            client=client,
            number=len(self.world.journal.rows),
            priority=0,
            waits=False,
            word=None,
            start_within=None,
            ordered=False,
            model="",
        )
        bridge = self.pick(by)
        if not self.alone:
            bridge.compare()
        for _ in range(6):
            self.settle(bridge)

    @rule(by=PICK, both=st.booleans())
    def flow(self, by: int, *, both: bool) -> None:
        """All that a bridge has published reaches the broker, and perhaps its PUBACKs us."""
        bridge = self.pick(by) if self.world.bridges else None
        link = bridge.link if bridge is not None else None
        while link is not None and link.going:
            self.world.broker.receive(link)
        while link is not None and both and link.unacked:
            link.puback()


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
        """A frozen bridge continues, not knowing for how long it was away."""
        life = sorted(self.world.frozen)[which % len(self.world.frozen)]
        bridge = self.world.frozen.pop(life)
        if life in self.world.journal.members:
            self.world.bridges[life] = bridge
            self.give_intake()
        elif bridge.writes:
            self.drop_link(bridge)
            try:
                bridge.writes.popleft().do()
            except LeaseLost:
                return
            raise AssertionError("a bridge that was counted as dead changed the journal")

    @rule(number=st.integers(0, 2))
    def restart(self, number: int) -> None:
        if not any(life.startswith(f"{number}-") for life in self.everybody()):
            self.start(number)

    def everybody(self) -> list[str]:
        return [*self.world.bridges, *self.world.frozen]

    @precondition(lambda self: self.world.bridges)
    @rule(by=PICK)
    def delete_dead(self, by: int) -> None:
        """The bridge with the intake finds that others are dead, and frees what they had."""
        del by
        self.free_the_dead()

    def free_the_dead(self) -> None:
        bridge = self.intake
        if bridge is None or bridge.life not in self.world.journal.members:
            return
        journal = self.world.journal
        journal.members &= set(self.world.bridges)
        bridge.publish_orphans()
        for key, row in journal.rows.items():
            if row.outcome is None and row.owner is not None and row.owner not in journal.members:
                if row.job.state == "running":
                    row.job.state = after(row.job.state, Transition.REQUEUE)
                row.owner, row.job.instance = None, None
                row.job.prompt_id = self.world.new_id()
                row.n = journal.ledger.draw(key.client, bridge.owner)
                self.world.notify(bridge, "look", key)
                bridge.handle(events.JobAccepted(copy.deepcopy(row.job)))
                bridge.announce(copy.deepcopy(row.job), row.n)
                if row.cancelling:
                    bridge.see(key)

    def wake_all(self) -> None:
        self.world.frozen.clear()
        super().wake_all()
        self.free_the_dead()


class GroupClaims(GroupLives, Claims):
    """The same with several bridges: one that dies is followed by the next at once."""

    notice = compare = kill = freeze = thaw = restart = delete_dead = write = None  # type: ignore[assignment]

    @rule(by=PICK)
    def take_over(self, by: int) -> None:
        """A bridge dies, the others free what it had, and it is started again."""
        self.die(self.pick(by))
        self.wake_all()


def test_a_client_that_missed_a_sets_result_does_not_ack_it_by_a_list() -> None:
    lives = GroupClaims()
    lives.begin()
    lives.end_set(client="a")
    lives.run_one(client="a", by=0)
    lives.claim(client="a", how="leave", heard=True)
    for number in range(lives.bridges):
        lives.flow(by=number, both=True)
    lives.run_one(client="a", by=0)
    for _ in range(2):
        for number in range(lives.bridges):
            lives.flow(by=number, both=True)
        lives.claim(client="a", how="list", heard=True)
    assert lives.world.broker.client("a").has
    lives.nothing_is_acked_unheard()


def _settings(share: float) -> settings:
    steps = int(os.environ.get("COMFY2MQTT_TEST_STEPS", "5000"))
    return settings(
        max_examples=max(1, int(steps * share) // STEPS),
        stateful_step_count=STEPS,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


for machine in (Lives, GroupLives, Claims, GroupClaims):
    machine.TestCase.settings = _settings(0.25)
TestLives = Lives.TestCase
TestGroupLives = GroupLives.TestCase
TestClaims = Claims.TestCase
TestGroupClaims = GroupClaims.TestCase
