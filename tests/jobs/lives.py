"""The rule-based machine: jobs of one bridge in the real core, and all that can happen to them.

After each step the guarantees of docs/contract.md are checked, and at the end, once all faults are
over, that no job waits for ever. `test_lives.py` runs it, also with several bridges.
"""

from __future__ import annotations

import copy
from typing import ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from bridge.jobs.core import Phase, events
from bridge.jobs.database import LeaseLost
from bridge.jobs.job import Job
from bridge.jobs.queue import Key
from bridge.workflows.catalogue import Needs
from tests.jobs.drafts import PLAN, draft
from tests.jobs.links import PAGE
from tests.jobs.simulation import Bridge
from tests.jobs.world import ComfyUI, World

CLIENTS = st.sampled_from("abc")
ENDINGS = st.sampled_from(
    ["succeeded", "succeeded", "succeeded", "failed", "memory", "no room", "defect"]
)
PICK = st.integers(0, 1_000)
HEARD = st.sampled_from([True, True, False])
LINK = st.sampled_from(
    ["receive", "receive", "puback", "puback", "lose", "connect", "subscribed", "refuse", "ghost"]
)
# What the journal is not asked for again where its disk refused: nobody needs it.
_NOT_AGAIN = ("MarkStarted", "Announce", "Note", "Renumber", "PassOver")
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
        self.sets = 0
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
                    self.world.journal.ledger.inherit(life, member)
                    self.world.journal.members.discard(member)
            self.world.journal.members.add(life)
        self.world.bridges[life] = bridge
        bridge.connect()
        bridge.subscribed()
        self.world.new_process()
        self.give_intake()
        if self.paused:
            bridge.handle(events.Paused(paused=True))
        bridge.recover()
        return bridge

    def give_intake(self) -> None:
        """Let one bridge that lives take the requests, if nobody who lives does."""
        if self.intake is not None or not self.world.bridges:
            return
        for frozen in self.world.frozen.values():
            if frozen.has_intake:  # it counts as dead from then on
                self.world.journal.members.discard(frozen.life)
        bridge = self.world.bridges[min(self.world.bridges)]
        bridge.has_intake = True
        if not self.alone:
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
            accepted_at=intake.clock.now(),
            start_before=None if start_within is None else intake.clock.now() + start_within,
            timeout_s=None,
            keep_s=None,
            ordered=ordered,
            replace=word,
            needs=Needs(choices=(("Loader", "name", model),)) if model else Needs(),
            envelope=wanted.job.envelope,
        )
        if start_within is not None:
            self.world.expires[key] = self.world.now + start_within
        intake.accept(job, journal.ledger.draw(client, intake.owner))

    @rule(client=CLIENTS)
    def publish(self, client: str) -> None:
        """A client publishes a request without a job id."""
        self.world.session.publish(client)

    @precondition(lambda self: self.intake is not None)
    @rule(what=st.sampled_from(["receive", "receive", "puback", "lose"]), times=st.integers(1, 3))
    def take(self, what: str, times: int) -> None:
        """The intake gets requests, acknowledges what it has accepted, or loses its connection."""
        intake = self.intake
        if intake is None:
            return
        if what == "lose":
            intake.reconnect()
        for _ in range(0 if what == "lose" else times):
            getattr(intake, what)()

    @precondition(lambda self: self.intake is not None)
    @rule(client=CLIENTS)
    def end_set(self, client: str) -> None:
        """A set ends: who takes the requests drives it."""
        intake = self.intake
        if intake is not None:
            self.sets += 1
            intake.end_set(Key(client, f"s{self.sets}"))

    @precondition(lambda self: self.world.bridges and self.world.journal.rows)
    @rule(by=PICK, which=PICK)
    def cancel(self, by: int, which: int) -> None:
        """A client cancels a job, by way of whichever bridge has the intake."""
        bridge = self.pick(by)
        key = sorted(self.world.journal.rows)[which % len(self.world.journal.rows)]
        row = self.world.journal.rows[key]
        bridge.handle(events.CancelRequested(key))
        if self.alone or key in bridge.core.book or row.outcome is not None:
            return
        if row.owner is None:
            row.owner = bridge.life
            self.world.notify(bridge, "taken", key)
            bridge.handle(events.JobAccepted(copy.deepcopy(row.job)))
            bridge.handle(events.CancelRequested(key))
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
        bridge.handle(events.ClearRequested(client))
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
        bridge.handle(
            events.RequeueRequested(sorted(bridge.comfyuis)[which % len(bridge.comfyuis)])
        )

    # -- what happens by itself --

    @precondition(lambda self: any(each.writes for each in self.world.bridges.values()))
    @rule(by=PICK, fails=st.sampled_from([False, False, False, True]))
    def write(self, by: int, *, fails: bool) -> None:
        """The journal does what was asked first; or its disk refuses, and it is asked again."""
        busy = [each for _, each in sorted(self.world.bridges.items()) if each.writes]
        bridge = busy[by % len(busy)]
        operation = bridge.writes.popleft()
        if not fails:
            self.do(bridge, operation.do)
        elif operation.refuse is not None:
            operation.refuse()
        elif operation.name not in _NOT_AGAIN:
            bridge.writes.append(operation)
            if operation.name == "Finish" and operation.key is not None:
                bridge.handle(events.WriteFailed(operation.key))

    def do(self, bridge: Bridge, work: object) -> None:
        """Do something for a bridge, which ends where the others counted it as dead."""
        try:
            work()  # type: ignore[operator]
        except LeaseLost:
            self.world.bridges.pop(bridge.life, None)
            self.world.frozen.pop(bridge.life, None)
            self.drop_link(bridge)
            self.give_intake()

    def drop_link(self, bridge: Bridge) -> None:
        """Leave to the broker what a bridge that is no more had given to its connection."""
        bridge.dead = True
        if bridge.link is not None:
            self.world.broker.ghosts.append(bridge.link)

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

    @rule(by=st.sampled_from([3600.0, 8 * 86_400.0, 1.8e9, -1.8e9, -30.0]))
    def set_clock(self, by: float) -> None:
        """The machine's wall clock is set."""
        self.world.ahead += by
        for bridge in self.world.bridges.values():
            bridge.tick()

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
        """A bridge is killed, perhaps just after a write whose answer it never gets."""
        self.die(self.pick(by), mid_write=mid_write)

    def die(self, bridge: Bridge, *, mid_write: bool = False) -> None:
        del self.world.bridges[bridge.life]
        if mid_write and bridge.writes and bridge.writes[0].name not in ("MarkStarted", "Announce"):
            died = bridge.writes[0]
            bridge.dead = True
            self.do(bridge, died.do)
        self.drop_link(bridge)
        if self.alone:
            self.start(0)
        self.give_intake()

    # -- the broker, and clients that ack --

    @rule(by=PICK, how=LINK, steps=st.integers(1, 4))
    def link(self, by: int, how: str, steps: int) -> None:
        """A link stalls but for some messages, breaks, is made again, or gets its late SUBACK."""
        if how == "ghost":
            links = self.world.broker.ghosts
        else:
            links = [each.link for each in self.world.everybody() if each.link is not None]
        if links and how in ("receive", "ghost"):
            for _ in range(steps):
                self.world.broker.receive(links[by % len(links)])
        elif self.world.bridges:
            self.change_link(self.pick(by), how, steps)

    def change_link(self, bridge: Bridge, how: str, steps: int) -> None:
        if how == "lose":
            bridge.disconnect()
        elif how == "connect":
            bridge.connect()
        elif how == "subscribed":
            bridge.subscribed()
        elif bridge.link is not None:
            for _ in range(steps):
                bridge.link.puback(refused=how == "refuse")

    @precondition(lambda self: self.world.bridges)
    @rule(by=PICK, rounds=st.integers(1, 8))
    def work(self, by: int, rounds: int) -> None:
        """A bridge has time for all that it can do now."""
        bridge = self.pick(by)
        for _ in range(rounds):
            self.settle(bridge)

    @rule(
        client=CLIENTS, how=st.sampled_from(["leave", "list", "list", "ack", "peek"]), heard=HEARD
    )
    def claim(self, client: str, how: str, *, heard: bool) -> None:
        """A client goes away, or comes back and asks for what it missed, or acks what it has."""
        there, intake = self.world.broker.client(client), self.intake
        if how == "leave":
            there.leave()
            return
        if intake is None or not (self.alone or intake.life in self.world.journal.members):
            return
        there.come_back()
        ledger = self.world.journal.ledger
        if how == "ack":
            ledger.ack(client, there.n, intake.owner)
            return
        if how == "peek":
            found = ledger.page(client, there.n)
        else:
            found = ledger.resume(client, there.n, intake.owner)
        if heard:
            there.take_list(self.with_unfinished(client, there.n, found))

    def with_unfinished(
        self, client: str, after: int, found: list[tuple[Key | None, int]]
    ) -> list[tuple[Key | None, int]]:
        """Add to a page those jobs that have not ended, and cut it."""
        there: list[tuple[Key | None, int]] = [
            (None, row.n)
            for key, row in self.world.journal.rows.items()
            if key.client == client and row.outcome is None and row.n > after
        ]
        return sorted([*found, *there], key=lambda each: each[1])[:PAGE]

    # -- what holds, always --

    @invariant()
    def numbers_rise(self) -> None:
        for numbers in self.world.broker.numbers.values():
            if self.alone:
                assert numbers == sorted(numbers), "numbers were published out of order"

    @invariant()
    def nothing_is_acked_unheard(self) -> None:
        for key in self.world.journal.ledger.acked():
            assert key in self.world.broker.client(key.client).has, f"{key} was acked unheard"

    @invariant()
    def a_request_is_accepted_once(self) -> None:
        for request in self.world.session.requests:
            assert request.jobs <= 1, f"{request} became several jobs"
            assert request.jobs or request.refused or not request.acknowledged, "a request is lost"

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
            ended = all(row.outcome is not None for row in self.world.journal.rows.values())
            if ended and self.world.session.is_empty:
                break
            self.world.now += 1.0
            for bridge in list(self.world.bridges.values()):
                self.settle(bridge)
        waiting = [key for key, row in self.world.journal.rows.items() if row.outcome is None]
        assert not waiting, f"{waiting} wait for ever"
        self.a_request_is_accepted_once()
        assert all(each.acknowledged for each in self.world.session.requests)
        for bridge in self.world.bridges.values():
            bridge.check()
        self.receive_all()

    def receive_all(self) -> None:
        """All links are good, and each client asks for what it missed: it gets every result."""
        intake = self.intake
        assert intake is not None
        for bridge in list(self.world.bridges.values()):
            bridge.disconnect()
            bridge.connect()
            bridge.subscribed()
            self.settle(bridge)
        if not self.alone:
            intake.publish_orphans()
        for bridge in list(self.world.bridges.values()):
            while bridge.link is not None and (bridge.link.going or bridge.link.unacked):
                self.world.broker.receive(bridge.link)
                bridge.link.puback()
            self.settle(bridge)
        ledger = self.world.journal.ledger
        for name, client in self.world.broker.clients.items():
            client.come_back()
            while found := ledger.resume(name, client.n, intake.owner):
                client.take_list(found)
        acked = ledger.acked()
        for key in self.world.journal.results:
            assert key in self.world.broker.client(key.client).has, f"{key} was never received"
            assert key in acked, f"{key} is never acked"

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
        while bridge.has_intake and bridge.receive():
            pass
        while bridge.errands:
            bridge.errands.pop(0).do()
        while bridge.writes:
            self.do(bridge, bridge.writes.popleft().do)
        while bridge.pubacks:
            bridge.puback()
        for key in list(bridge.attempts):
            if key in bridge.attempts:
                bridge.advance(key)
