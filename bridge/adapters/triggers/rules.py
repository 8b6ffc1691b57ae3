"""Trigger rules: whether a message fires a trigger, and which job it starts. Pure.

Conditions and paths are JMESPath. What they look at is the payload: as JSON, else as text, or null
where it is neither. An input is a constant, or computed from the message:

    {path = "after.label"}    what the path finds; an input for which it finds nothing is left out
    {payload = true}          the payload's bytes, such as a camera's snapshot

Any other table is a constant in which each `{path = ...}` is replaced: `{topic = "cameras/front"}`,
or `{topic = {path = "join('/', ['cameras', camera])"}}`.
"""

from __future__ import annotations

import hashlib
import re
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec
from msgspec import UNSET, Raw, Struct

from bridge.config import ConfigError, Trigger
from bridge.contract.errors import BridgeError, InvalidInput
from bridge.contract.messages import Output, Submit, or_unset
from bridge.contract.reading import DEEPEST, UNREADABLE, is_deeper
from bridge.contract.sources import Inline
from bridge.contract.topics import Topics, is_filter, matches
from bridge.media import profile
from bridge.text import clip, in_quotes, one_line, plain_problem, printable

_NO_ID = re.compile(r"[^A-Za-z0-9_-]")
_LONGEST_ID = 64
_LONGEST_WHY = 200


class Message(Struct, frozen=True):
    """A message of another device."""

    topic: str
    payload: bytes
    content_type: str | None = None


Expression = Callable[[Any], Any]
# Computes a value from a message and its payload as it was read.
_Template = Callable[[Message, Any], Any]


class Rule:
    """A compiled trigger."""

    def __init__(self, table: Trigger, topics: Topics) -> None:
        """Raise ConfigError for what could never work, or would trigger itself."""
        self.table = table
        self._output = _output(table)
        place = ("trigger", table.name)
        if not is_filter(table.topic):
            raise ConfigError(f"{in_quotes(table.topic)} is no topic filter", *place, "topic")
        if topics.covers(table.topic):
            raise ConfigError(
                f"{in_quotes(table.topic)} may match what the bridge itself publishes, "
                f"below {topics.base!r}",
                *place,
                "topic",
            )
        self._when = _compile(table.when, (*place, "when"))
        self._job_id = _compile(table.job_id, (*place, "job_id"))
        self._inputs = {
            name: _template(value, (*place, "inputs", name)) for name, value in table.inputs.items()
        }

    def fires(self, message: Message) -> bool:
        """True if a message is meant for this trigger."""
        if not matches(self.table.topic, message.topic):
            return False
        try:
            return self._when is None or _is_true(self._when(_read(message.payload)))
        except ValueError:
            # Of JMESPath: a function was given another type than it takes. It is another message.
            return False

    def submit(self, message: Message) -> Submit:
        """Return the job that a message asks for. Raises InvalidInput."""
        table = self.table
        value = _read(message.payload)
        values = {
            name: self._value(name, template, message, value)
            for name, template in self._inputs.items()
        }
        meta = {"trigger": table.name, "topic": message.topic}
        return Submit(
            workflow=table.workflow,
            inputs={name: found for name, found in values.items() if found is not None},
            job_id=or_unset(self._id(value)),
            meta=Raw(msgspec.json.encode(meta)),
            priority=table.priority,
            start_within_s=or_unset(table.start_within_s),
            replace=table.name if table.replace else UNSET,
            output=self._output,
            show=or_unset(table.show),
        )

    def _value(self, name: str, template: _Template, message: Message, value: Any) -> Any:
        try:
            return template(message, value)
        except ValueError as error:  # of JMESPath
            raise InvalidInput(f"input {name!r}: {one_line(str(error))}", input=name) from None

    def _id(self, value: Any) -> str | None:
        """Return the job id that a message gives, None if it gives none."""
        try:
            found = None if self._job_id is None else self._job_id(value)
        except ValueError as error:  # of JMESPath
            raise InvalidInput(f"job_id: {one_line(str(error))}", field="job_id") from None
        if isinstance(found, bool) or not isinstance(found, str | int | float):
            return None
        return _NO_ID.sub("_", str(found))[:_LONGEST_ID] or None


def _output(table: Trigger) -> Output:
    place = ("trigger", table.name, "output")
    try:
        output = msgspec.convert(table.output, Output)
        profile.read(output)
    except msgspec.ValidationError as error:
        problem, _, field = str(error).partition(" - at `$.")
        raise ConfigError(
            plain_problem(problem), *place, *filter(None, [field.rstrip("`")])
        ) from None
    except BridgeError as error:
        raise ConfigError(error.message, *place) from None
    return output


def _compile(expression: str | None, place: tuple[str, ...]) -> Expression | None:
    """Compile an expression. Raises ConfigError."""
    if expression is None:
        return None
    # Most bridges have no triggers, and do without it.
    import jmespath  # noqa: PLC0415
    from jmespath.exceptions import JMESPathTypeError  # noqa: PLC0415

    try:
        compiled = jmespath.compile(expression)
        # Whether a function exists, and how many arguments it takes, shows only when it is called.
        with suppress(JMESPathTypeError):
            compiled.search(None)
    except RecursionError:
        raise ConfigError(f"{in_quotes(expression)}: nested too deeply", *place) from None
    except ValueError as error:  # all of JMESPath's are, and what it does not expect
        raise ConfigError(f"{in_quotes(expression)}: {_why(error)}", *place) from None

    def search(value: Any) -> Any:
        try:
            return compiled.search(value)
        except OverflowError as error:  # of `avg`, for whole numbers that no float holds
            raise ValueError(str(error)) from None

    return search


def _why(error: ValueError) -> str:
    # The lines after the first one repeat the expression.
    first = str(error).partition("\n")[0].removesuffix(", for expression:")
    return clip(printable(first), _LONGEST_WHY)


def _template(value: Any, place: tuple[str, ...]) -> _Template:
    """Compile an input's value. Raises ConfigError."""
    match value:
        case {"path": str(path), **rest} if not rest:
            found = _compile(path, place)
            return lambda _, read: None if found is None else found(read)
        case {"payload": True, **rest} if not rest:
            return lambda message, _: Inline(message.payload, message.content_type)
        case dict():
            parts = {key: _template(each, place) for key, each in value.items()}
            return lambda message, read: {key: part(message, read) for key, part in parts.items()}
        case list():
            items = [_template(each, place) for each in value]
            return lambda message, read: [item(message, read) for item in items]
        case _:
            return lambda _message, _read: value


def _read(payload: bytes) -> Any:
    """Read a payload as JSON, else as text; None if it is neither."""
    with suppress(*UNREADABLE):
        value = msgspec.json.decode(payload)
        if not is_deeper(value, DEEPEST):
            return value
    try:
        return payload.decode()
    except UnicodeDecodeError:
        return None


def _is_true(value: Any) -> bool:
    """True if a value is true by JMESPath's rule: also 0 is."""
    return value not in (None, "", [], {}) and value is not False


# Topics of one trigger; with more the one that fired first is forgotten, and may fire again.
MAX_TOPICS = 10_000


class Debounce:
    """The topics on which one trigger fired within the last `seconds`."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        # In the order in which they end, as all last equally long. A topic may have 64 KB: hashed.
        self._until: OrderedDict[bytes, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._until)

    def is_due(self, topic: str, now: float) -> bool:
        """Return whether the trigger may fire on a topic; if so the time begins again."""
        if not self._seconds:
            return True
        key = hashlib.blake2b(topic.encode(), digest_size=16).digest()
        if now < self._until.get(key, now):
            return False
        while self._until and next(iter(self._until.values())) <= now:
            self._until.popitem(last=False)
        self._until.pop(key, None)
        self._until[key] = now + self._seconds
        if len(self._until) > MAX_TOPICS:
            self._until.popitem(last=False)
        return True
