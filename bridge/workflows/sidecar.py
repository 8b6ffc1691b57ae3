"""The sidecar of a workflow, `NAME.toml`: titles and limits, without touching the graph.

It is read strictly: a word that means nothing is an error that names the key and what is allowed
there, and the line if it is known. `bridge.workflows.overrides` applies it to a workflow.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from bridge.contract import targets
from bridge.contract.errors import BridgeError
from bridge.contract.messages import Name
from bridge.contract.requests import Text
from bridge.contract.sinks import Put, Webhook
from bridge.contract.sources import Inline
from bridge.text import as_utf8
from bridge.toml import line_of
from bridge.workflows.graph import WorkflowError, unsendable

_ALLOWED_SHOWN = 30

Scalar = str | int | float | bool
# The keys that lead to a value, and its place in a list.
KeyPath = tuple[str | int, ...]


class SidecarError(WorkflowError):
    """A sidecar that cannot be read, or does not fit its workflow; `key` is the key at fault."""

    def __init__(
        self,
        problem: str,
        *,
        key: str | None = None,
        line: int | None = None,
        allowed: Iterable[str] = (),
    ) -> None:
        shown = sorted(allowed)[:_ALLOWED_SHOWN]
        rest = f"; allowed: {', '.join(shown)}" if shown else ""
        super().__init__(f"{key}: {problem}{rest}" if key else f"{problem}{rest}", line=line)
        self.key = key


class InputRules(Struct, frozen=True, forbid_unknown_fields=True):
    """A sidecar's table of one input."""

    rename: Name | None = None
    hide: bool = False
    fix: Scalar | dict[str, Any] | list[Any] | UnsetType = UNSET
    title: str | None = None
    description: str | None = None
    default: Scalar | dict[str, Any] | list[Any] | UnsetType = UNSET
    minimum: int | float | None = None
    maximum: int | float | None = None
    step: Annotated[float, Meta(gt=0)] | None = None
    choices: Annotated[list[Scalar], Meta(min_length=1)] | None = None
    max_length: Annotated[int, Meta(ge=1)] | None = None
    dynamic: bool | None = None


class OutputRules(Struct, frozen=True, forbid_unknown_fields=True):
    """A sidecar's table of one output."""

    rename: Name | None = None
    hide: bool = False
    title: str | None = None
    description: str | None = None


class PressRules(Struct, frozen=True, forbid_unknown_fields=True):
    """The inputs of a request without a payload, by the workflow's names for them."""

    inputs: dict[str, Any] = {}
    ignore_payload: bool = False

    def resolve(
        self, given: Mapping[str, Any], main: Text | Inline | None, *, simple: bool
    ) -> tuple[Mapping[str, Any], Text | Inline | None, Mapping[str, Any]]:
        """Return a request's inputs, its main input, and the inputs of a bare press if it is one.

        `simple`: it is a `run` request. Elsewhere nobody gives inputs by accident.
        """
        if simple and self.ignore_payload:
            given, main = {}, None
        return given, main, {} if given or main is not None else self.inputs


class SinkRules(Struct, frozen=True):
    """The sinks of the outputs of all jobs of a workflow, and the receivers of their results."""

    put: tuple[Put, ...] = ()
    webhook: Webhook | None = None


class Sidecar(Struct, frozen=True):
    """A sidecar; inputs and outputs by the names that they have without it."""

    text: str
    title: str | None = None
    description: str | None = None
    inputs: dict[str, InputRules] = {}
    outputs: dict[str, OutputRules] = {}
    press: PressRules = PressRules()
    sinks: SinkRules = SinkRules()

    def error(self, path: KeyPath, problem: str, allowed: Iterable[str] = ()) -> SidecarError:
        """Return the error for the value at a path of keys."""
        return _error(self.text, path, problem, allowed)


class _SidecarTables(Struct, forbid_unknown_fields=True):
    title: str | None = None
    description: str | None = None
    inputs: dict[str, dict[str, Any]] = {}
    outputs: dict[str, dict[str, Any]] = {}
    press: dict[str, Any] = {}
    put: list[dict[str, Any]] = []
    webhook: dict[str, Any] | None = None


def read(data: bytes) -> Sidecar:
    """Read a sidecar's file. Raises SidecarError."""
    data = as_utf8(data)
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise SidecarError("not UTF-8", line=line) from None
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        problem, _, where = str(error).partition(" (at line ")
        number = where.partition(",")[0]
        line = int(number) if number.isdecimal() else text.rstrip().count("\n") + 1
        raise SidecarError(f"not valid TOML: {problem}", line=line) from None
    except RecursionError:
        raise SidecarError("not valid TOML: nested too deeply") from None
    top = _convert(raw, _SidecarTables, (), text)
    return Sidecar(
        text=text,
        title=top.title,
        description=top.description,
        inputs={
            name: _convert(rules, InputRules, ("inputs", name), text)
            for name, rules in top.inputs.items()
        },
        outputs={
            name: _convert(rules, OutputRules, ("outputs", name), text)
            for name, rules in top.outputs.items()
        },
        press=_convert(top.press, PressRules, ("press",), text),
        sinks=_sinks(top, text),
    )


def _sinks(top: _SidecarTables, text: str) -> SinkRules:
    """Return the sinks of a sidecar, whose targets can all be read. Raises SidecarError."""
    puts = tuple(_convert(each, Put, ("put", at), text) for at, each in enumerate(top.put))
    hook = None if top.webhook is None else _convert(top.webhook, Webhook, ("webhook",), text)
    path: KeyPath = ()
    try:
        for at, each in enumerate(puts):
            path = ("put", at, "url")
            targets.read(each.url, "url")
            targets.check_headers(each.headers, "headers")
        if hook is not None:
            path = ("webhook", "url")
            targets.read_http(hook.url, "url")
    except BridgeError as error:
        raise _error(text, path, error.message) from None
    return SinkRules(puts, hook)


T = TypeVar("T", bound=Struct)


def _convert(raw: Any, kind: type[T], path: KeyPath, text: str) -> T:
    for key, value in raw.items() if path else ():
        problem = unsendable(value)
        if problem is not None:
            raise _error(text, (*path, key), problem)
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        problem, _, where = str(error).partition(" - at ")
        allowed: tuple[str, ...] = ()
        if "unknown field" in problem:
            path = (*path, problem.split("`")[1])
            problem, allowed = "no such key", kind.__struct_fields__
        else:
            path = (*path, *_keys(where))
            problem = problem[:1].lower() + problem[1:]
        raise _error(text, path, problem, allowed) from None


def _keys(where: str) -> tuple[str, ...]:
    """Return the keys of msgspec's `$.inputs[...].title`, as far as it has them."""
    plain = where.strip("`").removeprefix("$").partition("[")[0]
    return tuple(part for part in plain.split(".") if part)


def _error(text: str, path: KeyPath, problem: str, allowed: Iterable[str] = ()) -> SidecarError:
    names = (part for part in path if isinstance(part, str))
    key = ".".join(part if part.isidentifier() else f'"{part}"' for part in names)
    return SidecarError(problem, key=key, line=line_of(text, path), allowed=allowed)
