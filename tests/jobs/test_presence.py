"""A member that others count as dead has stopped to count itself as one, in whatever order.

A member, its sessions, a watcher and the database's rows are one small world whose every state is
gone through: each statement takes any time to arrive, and any time to be answered.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Self, TypeVar

from bridge.jobs.presence import (
    GONE_S,
    OBSERVE_S,
    VALID_S,
    DeadMember,
    FailureDetector,
    MemberState,
    Presence,
)

T = TypeVar("T")
LIFE = "a" * 32
# A step of time.
TICK_S = VALID_S


def _twin(thing: T) -> T:
    """Return a shallow copy; `copy.copy` would take most of this test's time."""
    made = object.__new__(type(thing))
    made.__dict__.update(thing.__dict__)
    return made


class World:
    """Times are relative to now, so that equal situations are equal states."""

    def __init__(self) -> None:
        self.presence = Presence()
        # The member's session: whether it has the lock, and whether the member knows that.
        self.alive = self.locked = self.told = False
        # An earlier one, that the server keeps though the member has given it up.
        self.leftover = False
        # What is under way: when it was sent, and whether the database has run it.
        self.question: tuple[float, bool] | None = None
        # Of the heartbeat, the session that there was instead.
        self.beat: tuple[int | None, bool] | None = None
        self.look: tuple[float, MemberState | None] | None = None
        self.watch = FailureDetector()
        self.gone: DeadMember | None = None
        # The end of its lease, here a number that each heartbeat makes another one.
        self.row: float | None = 0.0

    def copy(self) -> Self:
        made = _twin(self)
        made.presence, made.watch = _twin(self.presence), _twin(self.watch)
        return made

    @property
    def held(self) -> bool:
        return self.leftover or (self.alive and self.locked)

    def holds(self) -> None:
        """Check what this is about."""
        assert self.row is not None or self.presence.until <= 0

    # What may happen next.

    def next(self) -> Iterator[Self]:
        for name in ("passes", "connects", "ends", "member", "beats", "watches", "deletes"):
            made = self.copy()
            if getattr(made, f"_{name}")():
                yield made

    def _passes(self) -> bool:
        presence = self.presence
        presence.until = max(presence.until - TICK_S, -TICK_S)
        self.question = self.question and (self.question[0] - TICK_S, self.question[1])
        self.look = self.look and (self.look[0] - TICK_S, self.look[1])
        self.watch._missing = {
            life: (since - TICK_S, expires) for life, (since, expires) in self._missing()
        }
        return True

    def _missing(self) -> Any:
        return self.watch._missing.items()

    def _connects(self) -> bool:
        self.leftover = self.held
        self.alive, self.locked, self.told = True, False, False
        self.question = None
        self.presence.lock_requested(0.0)
        return True

    def _ends(self) -> bool:
        """Every session ends, or that of the member does not; whether it has noticed or not."""
        ended = self.alive or self.leftover
        self.alive = self.leftover = False
        return ended

    def _member(self) -> bool:
        """The member's session continues: it gets its lock, and then answers questions."""
        if not self.locked:
            self.locked = self.alive
            return self.alive
        if not self.told:
            self.told = True
            self.presence.lock_acquired()
        elif self.question is None:
            self.question = (0.0, False)
        elif not self.question[1]:
            self.question = (self.question[0], True)
            return self.alive
        else:
            self.presence.answered(self.question[0])
            self.question = None
        return True

    def _beats(self) -> bool:
        if self.beat is None:
            self.beat = (self.presence.session, False)
        elif not self.beat[1]:
            self.beat = (self.beat[0], True)
            if self.row is None:
                return False  # it is refused, and ends
            self.row += 1.0
        else:
            self.presence.lease_renewed(self.beat[0])
            self.beat = None
        return True

    def _watches(self) -> bool:
        if self.row is None:
            return False
        if self.look is None:
            self.look = (0.0, None)
        elif self.look[1] is None:
            self.look = (self.look[0], MemberState(LIFE, self.row, self.held))
        else:
            for gone in self.watch.observe(self.look[0], 0.0, [self.look[1]]):
                self.gone = gone
            self.look = None
        return True

    def _deletes(self) -> bool:
        if self.gone is None:
            return False
        if self.gone.expires == self.row and not self.held:
            self.row = None
        self.gone = None
        return True

    def state(self) -> tuple[Any, ...]:
        """Return what tells this from worlds that go on in another way.

        Of a time only what can still make a difference is in it: one that is over is over.
        """
        session, question, look, gone = self.presence.session, self.question, self.look, self.gone
        member = (
            *(self.alive, self.locked, self.told, self.leftover),
            *(max(self.presence.until, 0.0), self.presence._counts, session is None),
            question and (max(question[0], -VALID_S), question[1]),
            self.beat and (session is not None and self.beat[0] == session, self.beat[1]),
        )
        if self.row is None:
            return member  # nobody looks at what is deleted
        seen = look and look[1]
        missing = (
            (
                *(max(since, -GONE_S), look and look[0] - since >= GONE_S),
                *(expires == self.row, seen and seen.expires == expires),
            )
            for _, (since, expires) in self._missing()
        )
        return (
            *member,
            look and (max(look[0], -GONE_S), seen and (seen.present, seen.expires == self.row)),
            *(bool(self.watch._present), *missing),
            gone and gone.expires == self.row,
        )


def test_nobody_is_deleted_who_counts_itself_as_a_member() -> None:
    assert VALID_S <= GONE_S
    world = World()
    seen = {world.state()}
    reached, removed = [world], 0
    while reached:
        world = reached.pop()
        world.holds()
        removed += world.row is None
        for each in world.next():
            state = each.state()
            if state not in seen:
                seen.add(state)
                reached.append(each)
    assert removed
    assert math.isinf(Presence().until)


def look(
    watch: FailureDetector, at: float, *, present: bool, expires: float = 9.0
) -> list[DeadMember]:
    return watch.observe(at, at, [MemberState(LIFE, expires, present)])


def test_who_was_seen_with_its_lock_and_lost_it_is_gone_soon() -> None:
    watch = FailureDetector()
    look(watch, 0.0, present=True)
    assert look(watch, OBSERVE_S, present=False) == []
    assert look(watch, OBSERVE_S + GONE_S - 0.01, present=False) == []
    assert look(watch, OBSERVE_S + GONE_S, present=False) == [DeadMember(LIFE, 9.0)]


def test_who_has_its_lock_again_or_renews_its_lease_is_not_gone() -> None:
    watch = FailureDetector()
    look(watch, 0.0, present=True)
    look(watch, 1.0, present=False)
    look(watch, 2.0, present=True)
    assert look(watch, 3.0, present=False) == []
    assert look(watch, 5.0, present=False, expires=10.0) == []
    assert look(watch, 6.0, present=False, expires=10.0) == []
    assert look(watch, 6.5, present=False, expires=10.0) == [DeadMember(LIFE, 10.0)]


def test_who_never_had_a_lock_is_not_gone() -> None:
    watch = FailureDetector()
    assert [look(watch, float(at), present=False) for at in range(9)] == [[]] * 9


def test_a_bridge_takes_itself_for_a_member_while_its_session_answers() -> None:
    presence = Presence()
    presence.lock_requested(0.0)
    assert presence.until == VALID_S
    presence.lock_acquired()
    presence.answered(0.2)
    assert presence.until == VALID_S  # the heartbeat is yet to come
    presence.lease_renewed(presence.session)
    presence.answered(5.0)
    assert presence.until == 5.0 + VALID_S
    presence.lock_requested(5.5)  # the session ended
    presence.answered(5.6)
    assert presence.until == 5.0 + VALID_S
