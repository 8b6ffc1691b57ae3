"""Computes a job's percentage from what ComfyUI reports about its nodes.

Pure. A node's weight is a guess from the graph: a node that takes `steps` samples, and sampling is
most of the work. The figure never goes back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Struct

SAMPLER_WEIGHT = 20.0


class Snapshot(Struct, frozen=True):
    """The progress of a prompt: percent, and the node that runs, with its step of `steps`."""

    percent: float
    node: str | None = None
    step: int | None = None
    steps: int | None = None


class Meter:
    """Follows one run of one prompt."""

    def __init__(self, prompt: Mapping[str, Mapping[str, Any]]) -> None:
        weights = {
            node: SAMPLER_WEIGHT if "steps" in spec.get("inputs", ()) else 1.0
            for node, spec in prompt.items()
        }
        self._total = sum(weights.values()) or 1.0
        # Of the graph's own: ComfyUI may make any number of others while it runs.
        self._left = weights
        self._done = 0.0
        self._node: str | None = None
        self._step: tuple[int, int] | None = None
        self._percent = 0.0

    def cached(self, nodes: Iterable[str]) -> Snapshot:
        """These nodes need not run."""
        for node in nodes:
            self._finish(node)
        return self._snapshot()

    def node(self, node: str) -> Snapshot:
        """A node of the graph begins; the one before it is done."""
        if node != self._node:
            if self._node is not None:
                self._finish(self._node)
            self._node, self._step = node, None
        return self._snapshot()

    def step(self, node: str, value: float, maximum: float) -> Snapshot:
        """A node reports its own progress."""
        self.node(node)
        if maximum > 0:
            self._step = (int(min(value, maximum)), int(maximum))
        return self._snapshot()

    def _finish(self, node: str) -> None:
        self._done += self._left.pop(node, 0.0)

    def _snapshot(self) -> Snapshot:
        done = self._done
        step, steps = self._step or (None, None)
        if self._node is not None and step and steps:
            done += self._left.get(self._node, 0.0) * step / steps
        # The last node's end is the job's end, which the result reports.
        self._percent = max(self._percent, min(99.0, round(100 * done / self._total, 1)))
        return Snapshot(self._percent, self._node, step, steps)
