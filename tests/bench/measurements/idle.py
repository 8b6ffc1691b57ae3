"""A bridge with nothing to do: how soon it is there, and what it occupies."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack

from tests.bench.figures import Spread
from tests.bench.graphs import to_bridge, trivial
from tests.bench.processes import memory
from tests.bench.report import Aim, Row
from tests.bench.stand import Measurement, Stand
from tests.support.bridge import BridgeProcess
from tests.support.peer import Peer

MEMORY = Aim(45.0)
START = Aim(0.5)
WORKFLOW = "comfy2mqtt/workflow/trivial"
_MB = 1e6


async def measure(stand: Stand) -> list[Row]:
    """Start a new bridge each round, on an empty folder, attached to the running ComfyUI."""
    online: list[float] = []
    runnable: list[float] = []
    resident: list[float] = []
    proportional: list[float] = []
    for number in range(stand.rounds):
        async with stand.broker() as broker, Peer(broker.url) as peer, AsyncExitStack() as stack:
            await peer.subscribe("comfy2mqtt/bridge/state", WORKFLOW)
            workflows = {"trivial": trivial(0, to_bridge("2"))}
            bridge = stand.bridge(BridgeProcess, broker, workflows)
            stack.push_async_exit(bridge.__aexit__)
            began = time.perf_counter()
            await bridge.start(ready=False)
            await peer.next("comfy2mqtt/bridge/state", lambda each: each.payload == b"online")
            online.append(time.perf_counter() - began)
            await peer.next(WORKFLOW, lambda each: each.json.get("runnable") is True)
            runnable.append(time.perf_counter() - began)
            found = memory(bridge.pid)
            resident.append(found.resident / _MB)
            proportional.append(found.proportional / _MB)
        stand.tell(f"round {number + 1} of {stand.rounds}: online after {online[-1]:.2f} s")
    return [
        Row(what="start to online", unit="s", value=Spread.of(online), aim=START),
        Row(what="start to a runnable workflow", unit="s", value=Spread.of(runnable)),
        Row(
            what="idle bridge: resident memory",
            unit="MB",
            value=Spread.of(resident),
            aim=MEMORY,
        ),
        Row(
            what="idle bridge: memory, shared pages by share",
            unit="MB",
            value=Spread.of(proportional),
        ),
    ]


MEASUREMENT = Measurement(
    "idle", "start and memory of a bridge with nothing to do", measure, rounds=3
)
