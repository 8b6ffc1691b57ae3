"""One job in the core's book, and where it is."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

from bridge.contract.errors import BridgeError
from bridge.contract.messages import State
from bridge.jobs.job import Job
from bridge.jobs.state import Transition, after


class Phase(StrEnum):
    """The place of a job in this process. The journal and the client know its `state` only.

        RESOLVING ──> RELEASING ──> QUEUED ──> CLAIMING ──> ACTIVE ──> FINISHING ──> left
                                      ^                        │
                                      └────── REQUEUING <──────┘

    A job may also be withdrawn, by a cancel, its deadline or a newer job: from RESOLVING and QUEUED
    at once, from RELEASING, CLAIMING and REQUEUING as soon as the journal has answered. Then
    `withdrawn` is set, and it is claimed to be finished, not to be run.
    """

    RESOLVING = "resolving"  # its bytes are gathered
    RELEASING = "releasing"  # that they are here is being written
    QUEUED = "queued"  # it waits for its turn
    CLAIMING = "claiming"  # the journal is asked whether it is ours
    ACTIVE = "active"  # an attempt runs
    REQUEUING = "requeuing"  # its return to the queue is being written
    FINISHING = "finishing"  # its outcome is being written


class StopReason(StrEnum):
    """The reason for which an attempt is being stopped."""

    CANCEL = "cancel"
    EXPIRE = "expire"
    SEND_BACK = "send_back"


class Withdrawal(Struct, frozen=True):
    """The end of a job that has not started."""

    transition: Transition
    error: BridgeError | None = None


class Entry(Struct):
    """A job in the core's book.

    `instance` is the ComfyUI of the present or last attempt, None if there was none; `holds_slot`:
    the job counts among those that were sent there. `adopt`: the prompt may be at a ComfyUI from
    before this process. `pinned`: only that ComfyUI may have it. `withdrawn` is how it ends without
    an attempt; `ending` leads to the outcome that is being written, and `run_s` is how long it ran.
    `gave_up`: it fails by a defect of ours. `sent_back` is why its attempt is stopped, where it is
    to return to the queue.
    `no_room` counts the attempts that a full disk at ComfyUI ended. `reason` is why it returns to
    the queue.
    """

    job: Job
    phase: Phase
    instance: str | None = None
    holds_slot: bool = False
    adopt: bool = False
    pinned: str | None = None
    stop: StopReason | None = None
    sent_back: str | None = None
    withdrawn: Withdrawal | None = None
    ending: Transition | None = None
    run_s: float = 0.0
    gave_up: bool = False
    no_room: int = 0
    reason: str | None = None

    @property
    def not_started(self) -> bool:
        """True if no ComfyUI has begun it, as far as is known."""
        return self.job.state in ("waiting", "queued")

    @property
    def outcome(self) -> State | None:
        """The outcome that is being written, if any."""
        return None if self.ending is None else after(self.job.state, self.ending)

    def step(self, transition: Transition) -> None:
        """Enter the next state of the table. Raises IllegalTransition."""
        self.job.state = after(self.job.state, transition)
