"""The longest blocks of the bridge's event loop, by small jobs and by 16 MB each way."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable

from msgspec import Struct

from tests.bench.figures import Spread
from tests.bench.graphs import COLOUR, echo, noise, to_bridge, trivial
from tests.bench.report import Aim, Row
from tests.bench.stand import Measurement, Stand
from tests.bench.subscriber import Subscriber, subscribed
from tests.bench.watched import Seen, WatchedBridge

# 3 bytes a pixel, since noise does not compress: 16 MB.
SIZE = 2_300
TIMEOUT_S = 120.0


class Load(Struct, frozen=True):
    """The bridge's work while it is watched."""

    what: str
    aim: Aim
    work: Callable[[Stand, Subscriber, bytes], Awaitable[None]]


async def _trivial(stand: Stand, subscriber: Subscriber, _picture: bytes) -> None:
    for _ in range(100):
        await subscriber.run("trivial", {COLOUR: stand.colour()})


async def _out(_stand: Stand, subscriber: Subscriber, _picture: bytes) -> None:
    for _ in range(2):
        await subscriber.run("noise", {})


async def _in(stand: Stand, subscriber: Subscriber, picture: bytes) -> None:
    await subscriber.run("echo", _another(stand, picture))


async def _in_parts(stand: Stand, subscriber: Subscriber, picture: bytes) -> None:
    data = _another(stand, picture)
    upload = hashlib.sha256(data).hexdigest()
    await subscriber.upload(upload, data)
    await subscriber.run("echo", {"picture": {"upload": upload}})


def _another(stand: Stand, picture: bytes) -> bytes:
    """Make a picture that ComfyUI has not got: what follows a PNG's end counts in its hash only."""
    return picture + str(stand.colour()).encode()


LOADS = (
    Load("100 trivial jobs", Aim(20.0), _trivial),
    Load("an output of 16 MB", Aim(20.0), _out),
    Load("an input of 16 MB uploaded in parts", Aim(20.0), _in_parts),
    Load("an input of 16 MB as one message", Aim(100.0), _in),
)


async def measure(stand: Stand) -> list[Row]:
    """Watch a bridge under each load."""
    workflows = {
        "trivial": trivial(0, to_bridge("2")),
        "noise": {**noise(SIZE), **to_bridge("2")},
        "echo": echo(),
    }
    seen: dict[str, list[Seen]] = {load.what: [] for load in LOADS}
    async with (
        stand.broker() as broker,
        stand.bridge(WatchedBridge, broker, workflows) as bridge,
        subscribed(broker.url) as subscriber,
    ):
        picture = (await subscriber.run("noise", {})).image
        for number in range(stand.rounds):
            for load in LOADS:
                bridge.look()
                async with asyncio.timeout(TIMEOUT_S):
                    await load.work(stand, subscriber, picture)
                seen[load.what].append(bridge.look())
            told = ", ".join(f"{each[-1].longest_s * 1000:.0f}" for each in seen.values())
            stand.tell(f"round {number + 1} of {stand.rounds}, longest turns: {told} ms")
    return [row for load in LOADS for row in _rows(load, seen[load.what])]


def _rows(load: Load, seen: list[Seen]) -> tuple[Row, Row]:
    what = f"event loop's longest turn, {load.what}"
    took = [each.longest_s * 1000 for each in seen]
    used = [each.longest_processor_s * 1000 for each in seen]
    return (
        Row(what=what, unit="ms", value=Spread.of(took), aim=load.aim),
        Row(what=f"{what}: processor time", unit="ms", value=Spread.of(used)),
    )


MEASUREMENT = Measurement("loop", "how long the bridge's event loop is blocked", measure, rounds=3)
