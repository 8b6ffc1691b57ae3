"""Messages about sets: many jobs that one request asked for, with one outcome.

A field that does not apply is absent. Times in fields ending in `_s` are seconds.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from msgspec import UNSET, Raw, Struct, UnsetType

from bridge.contract.messages import (
    Ask,
    FetchBytes,
    KeepSeconds,
    MissingOutput,
    Outcome,
    OutputInfo,
    SetId,
    Shown,
    State,
    Transaction,
)
from bridge.contract.sinks import Delivered

# A contact sheet or an animation has so many images at most, a zip so many bytes of outputs.
MAX_PICTURES = 256
MAX_ZIP_BYTES = 1024 * 1024 * 1024

SetState = Literal["running", "paused", "cancelling", "succeeded", "failed", "cancelled", "expired"]


class CancelSet(Ask, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """End a set, and all of its jobs that wait or run."""

    set_id: SetId


class StatusSet(Ask, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Return how far a set is, with its result if it has one."""

    set_id: SetId


class ForgetSet(Ask, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Delete a set's result, and the results, outputs and recipes of its jobs. Ids stay taken."""

    set_id: SetId


class KeepSet(Ask, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Keep what a set has collected, and its jobs' outputs, for so long from now."""

    set_id: SetId
    keep_s: KeepSeconds


class FetchSet(FetchBytes, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Fetch bytes of what a set has collected, as those of a job's output.

    They come on `set/<set_id>/part/<output>/<offset>`, or with `inline` in the response, in base64.
    """

    set_id: SetId


class PauseSet(Ask, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Put no more jobs of a set into the queue; the few that are there already run."""

    set_id: SetId


class ResumeSet(Ask, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Continue a paused set."""

    set_id: SetId


AboutSet: TypeAlias = CancelSet | StatusSet | ForgetSet | KeepSet | PauseSet | ResumeSet
SetRequest: TypeAlias = AboutSet | FetchSet


class Counts(Struct, frozen=True, kw_only=True):
    """The number of a set's jobs in each state; those that were not made yet are `queued`."""

    waiting: int = 0
    queued: int = 0
    running: int = 0
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    expired: int = 0


class SetMessage(Struct, frozen=True, kw_only=True):
    """The fields of every message about a set; `meta` is the sender's own, as it came."""

    set_id: str
    workflow: str
    transaction: Transaction | UnsetType = UNSET
    meta: Raw | UnsetType = UNSET


class SetStatus(SetMessage, frozen=True, kw_only=True):
    """A set's progress: `total` jobs, and the number of them in each state."""

    state: SetState
    total: int
    counts: Counts
    eta_s: float | UnsetType = UNSET


class SetJob(Struct, frozen=True, kw_only=True):
    """A job of a set, and the inputs in which it differs from the others."""

    job_id: str
    state: State
    inputs: dict[str, Any] = {}


class SetResult(SetMessage, frozen=True, kw_only=True):
    """The end of a set: exactly one, after the results of its jobs.

    `succeeded` if all of its jobs have, `cancelled` if it was cancelled. `more`: jobs were left
    out, as the packet had no room for them; `list` with `set_id` has all. `outputs` is what was
    collected, `missing` what could not be, or lacks some of the jobs' outputs. Where else the
    outputs went is in `shown` and `delivered`.
    """

    n: int
    state: Outcome
    total: int
    counts: Counts
    jobs: list[SetJob] = []
    more: bool = False
    outputs: list[OutputInfo] | UnsetType = UNSET
    missing: list[MissingOutput] | UnsetType = UNSET
    shown: Shown | UnsetType = UNSET
    delivered: list[Delivered] | UnsetType = UNSET


class SetAccepted(SetMessage, frozen=True, kw_only=True):
    """A set of `total` jobs was taken, or had been: each gets one outcome, and so does the set."""

    state: SetState
    total: int
    duplicate: bool = False
    result: Raw | UnsetType = UNSET


class SetView(SetMessage, frozen=True, kw_only=True):
    """A set as it stands; `result` is the stored one, byte for byte."""

    state: SetState
    total: int
    counts: Counts
    accepted_at: float
    eta_s: float | UnsetType = UNSET
    result: Raw | UnsetType = UNSET


class KeepSetReport(Struct, frozen=True, kw_only=True):
    """Until when a set's outputs are kept now, as seconds since the epoch, and how many they are.

    Those of its jobs count, too.
    """

    set_id: str
    outputs: int
    keep_until: float


class ForgetSetReport(Struct, frozen=True, kw_only=True):
    """The answer to a set's `forget`: `forgotten` is false if nothing of it was kept any more."""

    set_id: str
    forgotten: bool
