"""The surroundings of simulated bridges: time and chance, ComfyUIs, a disk, and each other."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Iterator
from enum import Enum
from typing import TYPE_CHECKING

from msgspec import Struct

from bridge.contract.messages import State
from bridge.jobs.clock import ClockReading
from bridge.jobs.core import Phase
from bridge.jobs.core.pool import Availability
from bridge.jobs.job import Job, Plan
from bridge.jobs.queue import Key
from tests.jobs import links
from tests.jobs.arrivals import Arrivals, Session

if TYPE_CHECKING:
    from tests.jobs.simulation import Bridge


class Prompt(Enum):
    """A prompt's place at a ComfyUI."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"


class ComfyUI:
    """One ComfyUI: it runs one prompt at a time, and forgets all of them when it dies."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.away = False
        self.epoch = 0
        self.prompts: dict[str, Prompt] = {}

    def run(self, followed: set[str]) -> None:
        """Run the next prompt once nothing runs; what nobody follows any more ends by itself."""
        for prompt_id, at in self.prompts.items():
            if at is Prompt.RUNNING and prompt_id not in followed:
                self.prompts[prompt_id] = Prompt.DONE
        if not any(each is Prompt.RUNNING for each in self.prompts.values()):
            waiting = next((pid for pid, at in self.prompts.items() if at is Prompt.QUEUED), None)
            if waiting is not None:
                self.prompts[waiting] = Prompt.RUNNING

    def die(self) -> None:
        self.epoch += 1
        self.prompts.clear()

    @property
    def availability(self) -> Availability:
        busy = any(each is not Prompt.DONE for each in self.prompts.values())
        state = "unreachable" if self.away else ("busy" if busy else "ready")
        return Availability(usable=not self.away, state=state, memory=(str(self.epoch), 0))  # type: ignore[arg-type]


class Row(Struct):
    """A job as the journal has it."""

    job: Job
    owner: str | None
    n: int
    outcome: State | None = None
    cancelling: bool = False


class Journal:
    """The contents of the disk."""

    def __init__(self) -> None:
        self.rows: dict[Key, Row] = {}
        self.members: set[str] = set()
        self.results: dict[Key, State] = {}
        self.ledger = links.Ledger()
        self.arrivals = Arrivals()
        self.reading: ClockReading | None = None
        self._seq = 0

    def next_seq(self) -> int:
        self._seq += 1
        return self._seq

    def read(self, key: Key) -> Row:
        return copy.deepcopy(self.rows[key])

    def unowned(self, *, waiting: bool) -> set[Key]:
        states = ("queued", "waiting") if waiting else ("queued",)
        return {
            key
            for key, row in self.rows.items()
            if row.outcome is None and row.owner is None and row.job.state in states
        }


class World:
    """Everything, and chance: `draw_bool` and `draw_ending` are set by the test."""

    def __init__(self, plan: Plan) -> None:
        # What really goes by, and by how much the wall clock is before that.
        self.now = 1_000.0
        self.ahead = 0.0
        self.expires: dict[Key, float] = {}
        self.journal = Journal()
        self.broker = links.Broker()
        self.session = Session()
        self.comfyuis: dict[str, ComfyUI] = {}
        self.bridges: dict[str, Bridge] = {}
        self.frozen: dict[str, Bridge] = {}
        self.plan = plan
        self.draw_bool: Callable[[], bool] = lambda: True
        self.draw_ending: Callable[[], str] = lambda: "succeeded"
        self._turns: dict[str, set[str]] = defaultdict(set)
        self._ids = 0

    @property
    def wall(self) -> float:
        return self.now + self.ahead

    def new_id(self) -> str:
        self._ids += 1
        return f"prompt-{self._ids}"

    def take_turn(self, bridge: Bridge, key: Key) -> None:
        """Check that nobody gets two turns while another client waits for one."""
        if not bridge.alone:
            return
        waiting = {
            each.client
            for each, entry in bridge.core.book.entries.items()
            if entry.phase is Phase.QUEUED and entry.pinned is None
        }
        for client in list(self._turns):
            if client not in waiting:
                del self._turns[client]
        self._turns.pop(key.client, None)
        for client in waiting - {key.client}:
            assert key.client not in self._turns[client], f"{key.client} passes {client} twice"
            self._turns[client].add(key.client)

    def new_process(self) -> None:
        """Forget whose turn it was, as a bridge does that is started."""
        self._turns.clear()

    def notify(self, sender: Bridge, what: str, key: Key) -> None:
        for bridge in self.everybody():
            if bridge is not sender and not bridge.alone:
                bridge.notices.append((what, key))

    def everybody(self) -> Iterator[Bridge]:
        yield from self.bridges.values()
        yield from self.frozen.values()
