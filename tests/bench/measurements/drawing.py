"""The bridge's own cost of a workflow file and a request: converting, drawing, reading, binding.

No ComfyUI takes part: the templates and what ComfyUI 0.33.0 says of its nodes are the tests' own.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import msgspec

from bridge.contract.messages import encode
from bridge.contract.requests import decode
from bridge.workflows import binding, definition, graph
from bridge.workflows.conversion import ConversionError, convert
from tests.bench.figures import Spread
from tests.bench.report import Row
from tests.bench.stand import Measurement, Stand
from tests.support.bridge import ROOT
from tests.vectors import comparison

VERSION = "0.33.0"
DEFINITIONS = 200
REQUESTS = 500
_MS, _US = 1e3, 1e6


async def measure(stand: Stand) -> list[Row]:
    """Measure each with the processor's clock, which other processes do not move."""
    info = comparison.object_info(VERSION)
    templates = comparison.load(f"templates-{VERSION}")
    largest = max(templates.values(), key=lambda template: len(encode(template)))
    graphs = [graph.parse(document) for document in _converted(templates, info)[:DEFINITIONS]]
    txt2img = graph.parse(msgspec.json.decode((ROOT / "workflows/txt2img.json").read_bytes()))
    workflow = definition.build("txt2img", "1", txt2img, None)
    body = encode({"workflow": "txt2img", "inputs": {"prompt": "a mill", "steps": 12}})

    def draw_all() -> None:
        for each in graphs:
            encode(definition.build("bench", "1", each, info).definition())

    def take_requests() -> None:
        for _ in range(REQUESTS):
            request: Any = decode("submit", body)
            binding.bind(workflow, request.inputs, randint=lambda low, _: low)

    rows = (
        ("the largest template, converted", "ms", _MS, lambda: convert(largest, info)),
        (f"{len(graphs)} definitions, drawn and encoded", "ms", _MS, draw_all),
        ("a request, read and bound", "µs", _US / REQUESTS, take_requests),
    )
    return [
        Row(what=what, unit=unit, value=_spread(stand.rounds, work, scale))
        for what, unit, scale, work in rows
    ]


def _converted(templates: Any, info: Any) -> list[Any]:
    found = []
    for template in templates.values():
        try:
            found.append(convert(template, info))
        except ConversionError:
            continue
    return found


def _spread(rounds: int, work: Callable[[], object], scale: float) -> Spread:
    work()  # what is read once and kept is not counted
    taken = []
    for _ in range(rounds):
        began = time.process_time()
        work()
        taken.append((time.process_time() - began) * scale)
    return Spread.of(taken)


MEASUREMENT = Measurement(
    "drawing", "workflow files and requests, without a ComfyUI", measure, rounds=3
)
