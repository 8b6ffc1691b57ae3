"""The state of a workflow's device: that of its jobs. Pure."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET, Struct

from bridge.adapters.homeassistant.fields import LONGEST_STATE, NONE, OFF, ON
from bridge.contract.messages import JobStatus, Progress, State
from bridge.text import clip

IDLE = "idle"
# Of several jobs the state of the one that is furthest is shown.
ACTIVE: tuple[State, ...] = ("running", "queued", "waiting")


class DeviceState:
    """The jobs of one workflow that have not ended, and how the last one ended."""

    def __init__(self) -> None:
        self._jobs: dict[str, State] = {}
        self._last: str = IDLE
        self._progress = 0.0
        self._eta: float | None = None
        self._message: str | None = None

    @property
    def jobs(self) -> dict[str, State]:
        """The jobs that have not ended, and their states."""
        return dict(self._jobs)

    def add(self, job_id: str, state: State) -> None:
        """Add a job from before this process."""
        self._jobs[job_id] = state

    def status(self, status: JobStatus) -> None:
        """Take a job's status."""
        self._jobs[status.job_id] = status.state
        if status.state == "running":
            self._progress = 0.0
        self._eta = None if status.eta_s is UNSET else status.eta_s
        # Why it waits, or has to start again; what was wrong with the last job is past.
        self._message = None if status.reason is UNSET else status.reason

    def progress(self, progress: Progress) -> None:
        """Take a job's progress."""
        self._progress = progress.percent
        self._eta = None if progress.eta_s is UNSET else progress.eta_s

    def ended(self, job_id: str, state: State, message: str | None = None) -> None:
        """Take a job's outcome, with the reason of one that did not succeed."""
        self._jobs.pop(job_id, None)
        self._message = message
        self._last = state
        self._eta = None
        if state == "succeeded":
            self._progress = 100.0

    def forget(self, job_id: str) -> None:
        """Note that nothing is known of a job any more."""
        self._jobs.pop(job_id, None)

    def refused(self, message: str) -> None:
        """Take the reason why a job, or a value of an input, was not taken."""
        self._message = message

    def shown(self) -> dict[str, str]:
        """Return the payloads to publish, by the last level of their topics."""
        found = set(self._jobs.values())
        state = next((each for each in ACTIVE if each in found), self._last)
        waiting = sum(each != "running" for each in self._jobs.values())
        return {
            "state": state,
            "progress": f"{self._progress:g}",
            "queue": str(waiting),
            "eta": NONE if self._eta is None else f"{self._eta:.0f}",
            "busy": ON if self._jobs else OFF,
            "message": NONE if not self._message else clip(self._message, LONGEST_STATE, "…"),
        }


class DoneEvent(Struct, frozen=True):
    """The event of a job's end. Home Assistant drops a retained one."""

    event_type: str
    job_id: str | None = None
    code: str | None = None
    message: str | None = None

    def payload(self) -> dict[str, Any]:
        """Return the fields that apply."""
        values = {name: getattr(self, name) for name in self.__struct_fields__}
        return {name: value for name, value in values.items() if value is not None}


REFUSED = "refused"
OUTCOMES = ("succeeded", "failed", "cancelled", "expired", REFUSED)
STATES = (IDLE, *reversed(ACTIVE), *OUTCOMES[:-1])
