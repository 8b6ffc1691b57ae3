"""A phrase for each message on the bus, for `comfy2mqtt watch`. Pure.

A message that is not of the form that its topic has is shown as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from msgspec import UNSET

from bridge.cli.words import duration, size, waiting
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
            if _match(levels, topic.split("/")):
                try:
                    return clip(printable(describe(message)), _SHOWN)
                except (KeyError, TypeError, ValueError, AttributeError):
                    break
    text = message if isinstance(message, str) else msgspec.json.encode(message).decode()
    return printable(clip(text, _SHOWN))


def _match(levels: str, topic: list[str]) -> bool:
    """Return whether a topic has these levels; `+` is any one, a `#` at the end any more."""
    wanted = levels.split("/")
    if wanted[-1] == "#":
        wanted, topic = wanted[:-1], topic[: len(wanted) - 1]
    pairs = zip(wanted, topic, strict=False)
    return len(wanted) == len(topic) and all(want in ("+", found) for want, found in pairs)


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
