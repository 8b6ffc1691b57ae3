"""`comfy2mqtt watch` and `logs`: prints messages as they arrive, until Ctrl-C."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Any

import click
import msgspec
from msgspec import Struct

from bridge.adapters.mqtt.broker_address import bridge_address
from bridge.cli.bus_lines import phrase
from bridge.cli.shared import WRONG_USAGE, stop
from bridge.config import Config
from bridge.contract.operator import BridgeLog
from bridge.contract.reading import DEEPEST, UNREADABLE, is_deeper
from bridge.contract.retained import BridgeEvent
from bridge.contract.topics import Topics
from bridge.mqtt import Connection, Incoming, InvalidMessage, Messages, Subscription
from bridge.text import printable


class Line(Struct, frozen=True, omit_defaults=True):
    """A message as `--json` prints it: JSON as it came, text as it is, of bytes only how many."""

    at: float
    topic: str
    size: int
    retained: bool = False
    message: Any = None


async def watch(settings: Config, filters: Sequence[str], *, as_json: bool, count: int) -> int:
    """Print each message below the base topic, or on `filters` below it; `count`: that many."""
    base = settings.base_topic
    wanted = [f"{base}/{each}" for each in filters or ("#",)]
    async with Connection(bridge_address(settings), manual_ack=False) as connection:
        try:
            await connection.subscribe([Subscription(filter=each, qos=0) for each in wanted])
        except InvalidMessage:
            stop(
                f"{' '.join(filters)}: not a topic filter: + stands for one whole level, and # for "
                "all that follow, as the last one",
                WRONG_USAGE,
            )
        async for message in _first(connection.messages, count):
            line = _line(message, base)
            click.echo(msgspec.json.encode(line) if as_json else _text(line))
    return 0


async def _first(messages: Messages, count: int) -> AsyncIterator[Incoming]:
    """Yield so many messages; 0: all that ever come."""
    left = count
    async for message in messages:
        yield message
        left -= 1
        if left == 0:
            return


def _line(message: Incoming, base: str) -> Line:
    found: Any = None
    with suppress(*UNREADABLE):
        text = message.payload.decode()
        found = msgspec.json.decode(message.payload) if text[:1] in ("{", "[") else text
    return Line(
        at=round(time.time(), 3),
        topic=message.topic.removeprefix(f"{base}/"),
        size=len(message.payload),
        retained=message.retain,
        message=None if is_deeper(found, DEEPEST) else found,
    )


def _text(line: Line) -> str:
    clock = time.strftime("%H:%M:%S", time.localtime(line.at))
    # What others wrote must not steer the terminal.
    topic = printable(line.topic)
    kept = " (retained)" * line.retained
    said = phrase(line.topic, line.message, line.size)
    return f"{click.style(clock, dim=True)} {click.style(topic, fg='cyan')}{kept} {said}"


async def logs(settings: Config, *, as_json: bool, count: int) -> int:
    """Print the bridge's warnings and events as they come."""
    topics = Topics(settings.base_topic)
    async with Connection(bridge_address(settings), manual_ack=False) as connection:
        await connection.subscribe(
            [Subscription(filter=each) for each in (topics.log, topics.event)]
        )
        async for message in _first(connection.messages, count):
            if as_json:
                click.echo(message.payload)
            elif message.topic == topics.log:
                log = msgspec.json.decode(message.payload, type=BridgeLog)
                clock = time.strftime("%H:%M:%S", time.localtime(log.at))
                click.echo(f"{clock} {log.level} {log.logger}: {log.message}")
            else:
                event = msgspec.json.decode(message.payload, type=BridgeEvent)
                click.echo(f"{time.strftime('%H:%M:%S')} {event.type}: {event.message}")
    return 0
