"""Prompts that ended the ComfyUI that ran them: after the second time they are refused. Pure.

A prompt is known by its content, the graph as ComfyUI gets it without the values of seeds: a drawn
seed would make the same fault another prompt each time. What is kept is in memory and bounded; a
run that ends, an operator's release, some time, or a restart of the bridge clears it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from bridge.contract.errors import Quarantined
from bridge.workflows.naming import SEEDS

# A prompt is refused after it ended its ComfyUI this many times.
DEATHS = 2
# How many prompts are remembered; the oldest are forgotten first.
MOST = 1000

_encoder = msgspec.json.Encoder(order="sorted")


class _Suspect(Struct):
    """A prompt that ended its ComfyUI: how often, why the last time, and when, by `steady`."""

    deaths: int
    why: str
    at: float


def content_of(prompt: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the SHA-256 of what a prompt does, in hexadecimal: titles and seeds do not count."""
    nodes = {
        node: (
            each.get("class_type"),
            {name: value for name, value in each.get("inputs", {}).items() if name not in SEEDS},
        )
        for node, each in prompt.items()
    }
    return hashlib.sha256(_encoder.encode(nodes)).hexdigest()


class Quarantine:
    """The prompts that ended a ComfyUI, and the ones of them that are refused.

    `now` is in seconds by a monotonic clock; prompts are remembered for `keep_s` seconds.
    """

    def __init__(self, keep_s: float) -> None:
        self._keep_s = keep_s
        self._suspects: dict[str, _Suspect] = {}  # the one noted longest ago first

    def refusal(self, prompt: Mapping[str, Mapping[str, Any]], now: float) -> Quarantined | None:
        """Return the error for a prompt that is refused, None for any other."""
        self._forget(now)
        if not self._suspects:
            return None  # nothing is hashed while nothing is wrong
        suspect = self._suspects.get(content_of(prompt))
        if suspect is None or suspect.deaths < DEATHS:
            return None
        left_s = suspect.at + self._keep_s - now
        return Quarantined(
            f"this prompt ended its ComfyUI {suspect.deaths} times (the last time: {suspect.why}); "
            f"it is refused for {_span(left_s)}, or until the operator releases it",
            deaths=suspect.deaths,
            reason=suspect.why,
            retry_after_s=round(left_s),
        )

    def ended(self, prompt: Mapping[str, Mapping[str, Any]], why: str, now: float) -> None:
        """Note that a ComfyUI ended while it ran a prompt; `why` is a sentence."""
        self._forget(now)
        content = content_of(prompt)
        before = self._suspects.pop(content, None)
        deaths = 1 if before is None else before.deaths + 1
        self._suspects[content] = _Suspect(deaths, why, now)
        if len(self._suspects) > MOST:
            del self._suspects[next(iter(self._suspects))]

    def survived(self, prompt: Mapping[str, Mapping[str, Any]]) -> None:
        """Note that a prompt succeeded: so it was not what ended its ComfyUI before."""
        if self._suspects:
            self._suspects.pop(content_of(prompt), None)

    def release(self) -> int:
        """Forget all prompts; returns how many were refused."""
        refused = self.refused
        self._suspects.clear()
        return refused

    @property
    def refused(self) -> int:
        """The number of prompts that are refused."""
        return sum(suspect.deaths >= DEATHS for suspect in self._suspects.values())

    def _forget(self, now: float) -> None:
        while self._suspects:
            content, oldest = next(iter(self._suspects.items()))
            if now - oldest.at < self._keep_s:
                return
            del self._suspects[content]


def _span(seconds: float) -> str:
    hours, minutes = divmod(max(1, round(seconds / 60)), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
