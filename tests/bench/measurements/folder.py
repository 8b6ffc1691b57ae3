"""A folder with a thousand workflow files: how soon a bridge is there, and what is new in it."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack

from tests.bench.figures import Spread, compare, p50
from tests.bench.graphs import to_bridge, trivial
from tests.bench.report import Aim, Row
from tests.bench.stand import Measurement, Stand
from tests.support.bridge import BridgeProcess
from tests.support.peer import Peer

FILES = 1_000
START = Aim(1.0)
NEW = Aim(0.5)
NEW_FILES = 5
TIMEOUT_S = 60.0
STATE = "comfy2mqtt/bridge/state"
DEFINITIONS = "comfy2mqtt/workflow/"


async def measure(stand: Stand) -> list[Row]:
    """Start bridges on one file and on a thousand in turns; then add files to the thousand."""
    few: list[tuple[float, float]] = []
    many: list[tuple[float, float]] = []
    new: list[float] = []
    for number in range(stand.rounds):
        few.append(await _started(stand, 1, []))
        many.append(await _started(stand, FILES, new))
        took = f"online after {many[-1][0]:.2f} s, all described after {many[-1][1]:.2f} s"
        stand.tell(f"round {number + 1} of {stand.rounds}: {took}")
    rows = []
    for at, what in enumerate(("online", "each of them described")):
        found = compare([[each[at]] for each in many], [[each[at]] for each in few], p50)
        rows.append(
            Row(
                what=f"start with {FILES:,} files to {what}, over a start with one",
                unit="s",
                value=found.value,
                reference=found.reference,
                ratio=found.ratio,
            )
        )
    return [
        *rows,
        Row(
            what=f"start with {FILES:,} files to each of them described",
            unit="s",
            value=Spread.of([each[1] for each in many]),
            aim=START,
        ),
        Row(
            what=f"a new file among {FILES:,}, to its definition",
            unit="s",
            value=Spread.of(new),
            aim=NEW,
        ),
    ]


async def _started(stand: Stand, files: int, new: list[float]) -> tuple[float, float]:
    """Return the seconds from a start to online, and to all definitions; add files afterwards."""
    graphs = {f"w{number}": trivial(number, to_bridge("2")) for number in range(files)}
    async with stand.broker() as broker, Peer(broker.url) as peer, AsyncExitStack() as stack:
        await peer.subscribe(STATE, f"{DEFINITIONS}+")
        bridge = stand.bridge(BridgeProcess, broker, graphs)
        stack.push_async_exit(bridge.__aexit__)
        began = time.perf_counter()
        await bridge.start(ready=False)
        await peer.next(STATE, lambda each: each.payload == b"online", TIMEOUT_S)
        online = time.perf_counter() - began
        for name in graphs:
            await peer.next(
                DEFINITIONS + name, lambda each: each.json.get("runnable") is True, TIMEOUT_S
            )
        described = time.perf_counter() - began
        for number in range(NEW_FILES if files > 1 else 0):
            name = f"new{number}"
            bridge.add_workflow(f".{name}", trivial(files + number, to_bridge("2")))
            hidden = bridge.workflows / f".{name}.json"
            began = time.perf_counter()
            hidden.replace(bridge.workflows / f"{name}.json")
            await peer.next(DEFINITIONS + name, timeout_s=TIMEOUT_S)
            new.append(time.perf_counter() - began)
        return online, described


MEASUREMENT = Measurement(
    "folder", "a start with a thousand workflow files, and a new one", measure, rounds=3
)
