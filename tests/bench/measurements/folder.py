"""A folder with a thousand workflow files: how soon a bridge is there, and what is new in it.

The first start has nothing of an earlier one; the next has the same folder, ComfyUI and broker.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack

from bridge.mosquitto import Mosquitto
from tests.bench.figures import Spread, compare, p50
from tests.bench.graphs import to_bridge, trivial
from tests.bench.lesser_bridge import lesser
from tests.bench.report import Aim, Row
from tests.bench.stand import Measurement, Stand
from tests.bench.unsaving_broker import UnsavingBroker
from tests.support.bridge import BridgeProcess
from tests.support.peer import Message, Peer

FILES = 1_000
START = Aim(1.0)
NEW = Aim(0.5)
NEW_FILES = 5
TIMEOUT_S = 60.0
STATE = "comfy2mqtt/bridge/state"
DEFINITIONS = "comfy2mqtt/workflow/"
# What is left of a start if a part takes no time: the broker and the bridge that lack it.
WITHOUT: Mapping[str, tuple[type[Mosquitto], type[BridgeProcess]]] = {
    "the broker's saves": (UnsavingBroker, BridgeProcess),
    "drawing any workflow but one": (Mosquitto, lesser("drawing")),
    "both": (UnsavingBroker, lesser("drawing")),
}


async def measure(stand: Stand) -> list[Row]:
    """Start bridges on one file and on a thousand in turns; then add files to the thousand."""
    few: list[tuple[float, float, float]] = []
    many: list[tuple[float, float, float]] = []
    lesser_starts: dict[str, list[float]] = {what: [] for what in WITHOUT}
    new: list[float] = []
    for number in range(stand.rounds):
        few.append(await _started(stand, 1, []))
        many.append(await _started(stand, FILES, new))
        for what, (broker, bridge) in WITHOUT.items():
            _, described, _ = await _started(stand, FILES, [], broker, bridge)
            lesser_starts[what].append(described)
        online, described, again = many[-1]
        took = f"online after {online:.2f} s, all described after {described:.2f} s"
        took += f", again online after {again:.2f} s"
        stand.tell(f"round {number + 1} of {stand.rounds}: {took}")
    rows = []
    steps = (("start", "online"), ("start", "each of them described"), ("next start", "online"))
    for at, (start, what) in enumerate(steps):
        found = compare([[each[at]] for each in many], [[each[at]] for each in few], p50)
        rows.append(
            Row(
                what=f"{start} with {FILES:,} files to {what}, over a {start} with one",
                unit="s",
                value=found.value,
                reference=found.reference,
                ratio=found.ratio,
            )
        )
    described_s = [[each[1]] for each in many]
    for what, starts in lesser_starts.items():
        about = f"start with {FILES:,} files to each of them described, without {what}"
        found = compare([[each] for each in starts], described_s, p50)
        rows.append(Row.compared(about, "s", found))
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


async def until_described(peer: Peer, workflows: Iterable[str]) -> None:
    """Wait until a bridge has described workflows as runnable; subscribe before it starts."""
    for name in workflows:
        await peer.next(
            DEFINITIONS + name, lambda each: each.json.get("runnable") is True, TIMEOUT_S
        )


async def _started(
    stand: Stand,
    files: int,
    new: list[float],
    broker_kind: type[Mosquitto] = Mosquitto,
    bridge_kind: type[BridgeProcess] = BridgeProcess,
) -> tuple[float, float, float]:
    """Return the seconds from a start to online, to all definitions, and from the next to online.

    Files are added in between.
    """
    graphs = {f"w{number}": trivial(number, to_bridge("2")) for number in range(files)}
    async with (
        stand.broker(broker_kind) as broker,
        Peer(broker.url) as peer,
        AsyncExitStack() as stack,
    ):
        await peer.subscribe(STATE, f"{DEFINITIONS}+")
        bridge = stand.bridge(bridge_kind, broker, graphs)
        stack.push_async_exit(bridge.__aexit__)
        began = time.perf_counter()
        await bridge.start(ready=False)
        await peer.next(STATE, _is_online, TIMEOUT_S)
        online = time.perf_counter() - began
        await until_described(peer, graphs)
        described = time.perf_counter() - began
        for number in range(NEW_FILES if files > 1 else 0):
            name = f"new{number}"
            bridge.add_workflow(f".{name}", trivial(files + number, to_bridge("2")))
            hidden = bridge.workflows / f".{name}.json"
            began = time.perf_counter()
            hidden.replace(bridge.workflows / f"{name}.json")
            await peer.next(DEFINITIONS + name, timeout_s=TIMEOUT_S)
            new.append(time.perf_counter() - began)
        await bridge.stop()
        await peer.next(STATE, lambda each: each.payload == b"offline", TIMEOUT_S)
        began = time.perf_counter()
        await bridge.start(ready=False)
        await peer.next(STATE, _is_online, TIMEOUT_S)
        return online, described, time.perf_counter() - began


def _is_online(message: Message) -> bool:
    return message.payload == b"online"


MEASUREMENT = Measurement(
    "folder", "a start with a thousand workflow files, and a new one", measure, rounds=3
)
