"""Counts of what happened since the start, for the health topic and for metrics. Pure."""

from __future__ import annotations

from collections import Counter

from msgspec import Struct

from bridge.contract.messages import State

# A client's name costs memory here; those who come when so many are known are counted together.
MAX_CLIENTS = 1_000
OTHERS = "others"


class RunTotals(Struct):
    """Jobs that ended, and the seconds that they ran at a ComfyUI."""

    jobs: int = 0
    run_s: float = 0.0

    def add(self, run_s: float) -> None:
        """Count one that ended."""
        self.jobs += 1
        self.run_s += run_s


class Counters:
    """Counts since the start of this process; they never decrease."""

    def __init__(self) -> None:
        self.accepted = 0
        self.retried = 0
        self.paid: Counter[str] = Counter()
        self.outcomes: Counter[State] = Counter()
        self.workflows: dict[str, RunTotals] = {}
        self.clients: dict[str, RunTotals] = {}
        self.instances: dict[str, RunTotals] = {}

    def used_key(self, client: str) -> None:
        """Count a prompt of a client that was sent with an API key, which costs money."""
        known = client in self.paid or len(self.paid) < MAX_CLIENTS
        self.paid[client if known else OTHERS] += 1

    def ended(
        self, outcome: State, *, client: str, workflow: str, instance: str | None, run_s: float
    ) -> None:
        """Count a job that has its outcome; `run_s` is 0 for one that did not run."""
        self.outcomes[outcome] += 1
        if client not in self.clients and len(self.clients) >= MAX_CLIENTS:
            client = OTHERS
        self.clients.setdefault(client, RunTotals()).add(run_s)
        self.workflows.setdefault(workflow, RunTotals()).add(run_s)
        if instance is not None:
            self.instances.setdefault(instance, RunTotals()).add(run_s)
