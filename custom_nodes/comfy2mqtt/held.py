"""Encoded outputs, held until the bridge says that it has them.

ComfyUI's socket delivers once: after a dropped connection, or a bridge that was restarted, what
was sent is gone, while history says success. So every output stays here, by prompt, node and
index, until it is confirmed. The budget is one of bytes. When it is used up the oldest prompts
go; their ids are remembered for a while, so that a bridge that asks late learns that it is late,
and not that the outputs never were.

Nodes run in ComfyUI's worker thread and routes in its event loop: one lock guards it all, held
for dictionary work only, never while bytes are encoded or sent.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import asdict, dataclass, field

from .errors import OutputBudgetExceeded

logger = logging.getLogger("comfy2mqtt")

# An id takes about 100 bytes; a bridge that was away while this many prompts were evicted
# has lost more than the memory of which.
REMEMBERED_EVICTIONS = 4096


@dataclass(frozen=True, slots=True)
class OutputHeader:
    """The description of an output, sent before, or instead of, its bytes. `size` in bytes."""

    prompt_id: str
    node: str
    index: int
    name: str
    content_type: str
    size: int
    sha256: str
    width: int
    height: int

    def as_dict(self) -> dict[str, str | int]:
        """The header as it stands in JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class HeldTotals:
    """Totals of what is held: outputs, their bytes, and the bytes that may be held."""

    count: int
    bytes: int
    budget: int


class OutputsEvicted(LookupError):
    """The outputs of this prompt were here and had to make room."""


@dataclass(slots=True)
class _HeldPrompt:
    size: int = 0
    outputs: dict[tuple[str, int], tuple[OutputHeader, bytes]] = field(default_factory=dict)


class HeldOutputs:
    """Outputs by prompt, oldest prompt first. Safe to use from any thread."""

    def __init__(self, budget: int) -> None:
        self._budget = budget
        self._size = 0
        self._lock = threading.Lock()
        self._prompts: dict[str, _HeldPrompt] = {}
        self._evicted: dict[str, None] = {}

    def begin(self, prompt_id: str, node: str) -> None:
        """Forget what `node` left under `prompt_id`: ComfyUI runs a repeated prompt id again."""
        with self._lock:
            prompt = self._prompts.get(prompt_id)
            if prompt is None:
                return
            for key in [key for key in prompt.outputs if key[0] == node]:
                header, _ = prompt.outputs.pop(key)
                prompt.size -= header.size
                self._size -= header.size

    def hold(self, header: OutputHeader, data: bytes) -> None:
        """Keep one output, at the cost of the oldest other prompts where the budget asks for it.

        Raises OutputBudgetExceeded, and holds nothing more, where this prompt alone is above it.
        """
        with self._lock:
            prompt = self._prompts.get(header.prompt_id) or _HeldPrompt()
            key = (header.node, header.index)
            replaced = prompt.outputs[key][0].size if key in prompt.outputs else 0
            growth = header.size - replaced
            if prompt.size + growth > self._budget:
                raise OutputBudgetExceeded(prompt.size + growth, self._budget)
            self._prompts[header.prompt_id] = prompt
            self._evicted.pop(header.prompt_id, None)
            prompt.outputs[key] = (header, data)
            prompt.size += growth
            self._size += growth
            evicted = self._make_room(header.prompt_id)
        for prompt_id, size in evicted:
            logger.warning(
                "comfy2mqtt: the outputs of prompt %s (%d bytes) were never confirmed and "
                "made room for newer ones; COMFY2MQTT_OUTPUT_BYTES is %d",
                prompt_id,
                size,
                self._budget,
            )

    def headers(self, prompt_id: str) -> list[OutputHeader]:
        """All outputs held of a prompt, in the order in which they were made.

        Raises OutputsEvicted; an unknown prompt has none.
        """
        with self._lock:
            prompt = self._find(prompt_id)
            return [header for header, _ in prompt.outputs.values()] if prompt else []

    def get(self, prompt_id: str, node: str, index: int) -> tuple[OutputHeader, bytes] | None:
        """One output, or None where there never was one. Raises OutputsEvicted."""
        with self._lock:
            prompt = self._find(prompt_id)
            return prompt.outputs.get((node, index)) if prompt else None

    def confirm(self, prompt_id: str) -> None:
        """Free what is held of a prompt; the bridge has it. Unknown ids are fine."""
        with self._lock:
            self._evicted.pop(prompt_id, None)
            prompt = self._prompts.pop(prompt_id, None)
            if prompt is not None:
                self._size -= prompt.size

    def totals(self) -> HeldTotals:
        """Return the totals of this moment."""
        with self._lock:
            count = sum(len(prompt.outputs) for prompt in self._prompts.values())
            return HeldTotals(count=count, bytes=self._size, budget=self._budget)

    def _find(self, prompt_id: str) -> _HeldPrompt | None:
        if prompt_id in self._evicted:
            raise OutputsEvicted(prompt_id)
        return self._prompts.get(prompt_id)

    def _make_room(self, spared: str) -> list[tuple[str, int]]:
        """Drop the oldest prompts but `spared` until the budget is kept; ids and bytes of them."""
        gone: list[tuple[str, int]] = []
        while self._size > self._budget:
            oldest = next(prompt_id for prompt_id in self._prompts if prompt_id != spared)
            prompt = self._prompts.pop(oldest)
            self._size -= prompt.size
            self._evicted[oldest] = None
            gone.append((oldest, prompt.size))
        while len(self._evicted) > REMEMBERED_EVICTIONS:
            del self._evicted[next(iter(self._evicted))]
        return gone
