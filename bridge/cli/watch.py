"""`comfy2mqtt watch` and `logs`: prints messages as they arrive, until Ctrl-C.

A message that is not of the form that its topic has is shown as it is.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import click
import msgspec
from msgspec import UNSET, Struct

from bridge.adapters.mqtt.broker_address import bridge_address
from bridge.cli.shared import WRONG_USAGE, stop
from bridge.cli.words import duration, size, waiting
from bridge.config import Config
from bridge.contract.operator import BridgeLog
from bridge.contract.reading import DEEPEST, UNREADABLE, is_deeper
from bridge.contract.retained import BridgeEvent
from bridge.contract.topics import Topics, matches
from bridge.mqtt import Connection, Incoming, InvalidMessage, Messages, Subscription
from bridge.text import clip, printable

# How many characters are shown of a message and of a value in it, and how many inputs.
_SHOWN = 120
_VALUE = 40
_INPUTS = 8

Fields = Mapping[str, Any]


def phrase(topic: str, message: Any, count: int) -> str:
    """Return what a message of `count` bytes says; `topic` is below the base topic.

    `message` is decoded JSON, or text, or None for bytes. Nothing of it can steer a terminal.
    """
    if count == 0:
        return "(nothing)"
    if message is None:
        return size(count)
    if isinstance(message, dict):
        for levels, describe in _PHRASES:
            if matches(levels, topic):
                try:
                    return clip(printable(describe(message)), _SHOWN)
                except (KeyError, TypeError, ValueError, AttributeError):
                    break
    text = message if isinstance(message, str) else msgspec.json.encode(message).decode()
    return printable(clip(text, _SHOWN))


def _request(fields: Fields) -> str:
    return ", ".join(
        f"{name}={_value(value)}" for name, value in fields.items() if name != "transaction"
    )


def _value(value: Any) -> str:
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return clip(text, _VALUE)


def _response(fields: Fields) -> str:
    if fields["status"] != "ok":
        error = fields["error"]
        return f"refused, {error['code']}: {error['message']}"
    data = fields.get("data")
    if not isinstance(data, dict):
        return "ok"
    again = ", known already" if data.get("duplicate") else ""
    about = [str(data[name]) for name in ("job_id", "state") if name in data]
    return " ".join(("ok", *about)) + again


def _status(fields: Fields) -> str:
    more = {name: fields.get(name, UNSET) for name in ("position", "reason", "eta_s")}
    return f"{fields['workflow']} {waiting(fields['state'], **more)}"


def _progress(fields: Fields) -> str:
    left = f", {duration(fields['eta_s'])} left" if "eta_s" in fields else ""
    return f"{fields['percent']:.0f} %{left}"


def _result(fields: Fields) -> str:
    error = fields.get("error")
    if error is not None:
        return f"{fields['workflow']} {fields['state']}, {error['code']}: {error['message']}"
    outputs = fields.get("outputs", [])
    total = size(sum(each["size"] for each in outputs))
    took = duration(sum(fields["timings"].values()))
    return f"{fields['workflow']} {fields['state']}: {len(outputs)} outputs, {total}, in {took}"


def _workflow(fields: Fields) -> str:
    inputs = list(fields["inputs"]["properties"])
    more = " ..." if inputs[_INPUTS:] else ""
    names: dict[Any, str] = {True: "can run", False: "cannot run"}
    runs = names.get(fields.get("runnable"), "not checked yet")
    return f"{runs}; takes {', '.join(inputs[:_INPUTS])}{more}"


def _comfyui(fields: Fields) -> str:
    why = f", {fields['reason']}: {fields['last_error']}" if "reason" in fields else ""
    yielding = ", yielding" if fields.get("yielding") else ""
    return f"{fields['state']}{yielding}{why}"


def _health(fields: Fields) -> str:
    held = f", none starts: {fields['held']}" if "held" in fields else ""
    return f"{fields['running']} running, {fields['queued']} queued{held}"


def _log(fields: Fields) -> str:
    return f"{fields['level']} {fields['logger']}: {fields['message']}"


_PHRASES: tuple[tuple[str, Callable[[Fields], str]], ...] = (
    ("client/+/request/#", _request),
    ("client/+/response/+", _response),
    ("client/+/job/+/status", _status),
    ("client/+/job/+/progress", _progress),
    ("client/+/job/+/result", _result),
    ("workflow/+", _workflow),
    ("bridge/comfyui/+", _comfyui),
    ("bridge/info", lambda fields: f"{fields['name']} {fields['version']}"),
    ("bridge/health", _health),
    ("bridge/health/+", _health),
    ("bridge/event", lambda fields: f"{fields['type']}: {fields['message']}"),
    ("bridge/log", _log),
)


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
