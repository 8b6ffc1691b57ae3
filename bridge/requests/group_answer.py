"""An operator's command in a group of bridges: who carries it out, and what the answer is. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from enum import Enum
from itertools import chain
from typing import TypeAlias, TypeVar

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType
from msgspec.structs import replace

from bridge.contract import operator
from bridge.contract.errors import BridgeError, ComfyUIUnavailable, Error, Timeout, from_wire
from bridge.contract.messages import encode, ok, refused
from bridge.contract.operator import (
    VERBS,
    Command,
    InstancesReport,
    LevelReport,
    ReleaseReport,
    ReloadReport,
    Report,
)
from bridge.contract.reading import UNREADABLE
from bridge.requests.context import Answer

R = TypeVar("R", bound=Report)

# What became of a command at one bridge.
Reply: TypeAlias = Report | BridgeError


class Executor(Enum):
    """The bridges that carry out a command, if that is not one other bridge."""

    THIS = "the bridge that answers"
    ALL = "all bridges"


class _Reported(Struct):
    data: Raw = Raw(b"null")
    error: Error | None = None


def carried_out_by(
    command: Command,
    owner: Callable[[str], str | None],
    gpu_owner: Callable[[str], str | None],
) -> Executor | str:
    """Return who carries out a command, as the bridge that takes requests has it.

    `owner` returns the other bridge that lives and has a ComfyUI, None where there is none;
    `gpu_owner` the same of a GPU.
    """
    match command:
        case operator.Named(instance=str(instance)):
            return owner(instance) or Executor.THIS
        case operator.OfGpu(gpu=str(gpu)):
            return gpu_owner(gpu) or Executor.THIS
        case operator.OpenPage():
            return Executor.THIS
        case (
            operator.Named()
            | operator.Reload()
            | operator.SetLogLevel()
            | operator.ReleaseQuarantine()
        ):
            return Executor.ALL
        case _:
            return Executor.THIS


def reply_of(answer: Answer) -> Reply:
    """Return the data of an answer, or its error."""
    reply: Reply = answer.data if answer.error is None else answer.error
    return reply


def report_of(reply: Reply) -> bytes:
    """Return a reply as it is reported to the bridge that answers."""
    return encode(refused(reply.wire()) if isinstance(reply, BridgeError) else ok(reply))


def read_report(verb: str, report: bytes) -> Reply:
    """Return the reply that was reported of a command."""
    try:
        found = msgspec.json.decode(report, type=_Reported)
        if found.error is not None:
            return from_wire(found.error)
        reply: Report = msgspec.json.decode(found.data, type=VERBS[verb].report)
    except UNREADABLE as error:
        return BridgeError(f"it reported what this bridge cannot read: {error}")
    return reply


def replies(
    members: Iterable[str],
    living: Collection[str],
    reported: Mapping[str, Reply],
    *,
    waited_s: float | None = None,
) -> dict[str, Reply] | None:
    """Return the replies of the bridges that were asked; None while one may still come.

    One that is gone will not reply. With `waited_s`, so many seconds have been waited, and nobody
    waits any longer.
    """
    found: dict[str, Reply] = {}
    for name in members:
        if name in reported:
            found[name] = reported[name]
        elif name not in living:
            found[name] = ComfyUIUnavailable(
                f"bridge {name!r} died before it reported", member=name
            )
        elif waited_s is None:
            return None
        else:
            found[name] = Timeout(
                f"bridge {name!r} has not reported within {waited_s:g} s: it may do this yet",
                member=name,
            )
    return found


def group_report(ours: str, found: Mapping[str, Reply]) -> Report:
    """Return what a group's bridges did, by the replies of all; `ours` is the one that answers.

    Raises its own refusal, with those of the others, if none has carried the command out.
    """
    errors = {name: reply.wire() for name, reply in found.items() if isinstance(reply, BridgeError)}
    reports = [reply for reply in found.values() if not isinstance(reply, BridgeError)]
    own = found[ours]
    if not reports and isinstance(own, BridgeError):
        del errors[ours]
        raise type(own)(own.message, **own.details, failed=msgspec.to_builtins(errors) or None)
    return _together(reports, errors or UNSET)


def _together(reports: Sequence[Report], failed: dict[str, Error] | UnsetType) -> Report:
    first = reports[0]
    match first:
        case InstancesReport():
            states = (each.instances.items() for each in _all(InstancesReport, reports))
            return replace(first, instances=dict(chain.from_iterable(states)), failed=failed)
        case ReloadReport():
            read = _all(ReloadReport, reports)
            return ReloadReport(
                workflows=_union(each.workflows for each in read),
                broken=_union(each.broken for each in read),
                waiting=_union(each.waiting for each in read),
                failed=failed,
            )
        case ReleaseReport():
            released = sum(each.released for each in _all(ReleaseReport, reports))
            return replace(first, released=released, failed=failed)
        case LevelReport():
            return replace(first, failed=failed)
        case _:
            raise AssertionError(f"no command for all bridges is answered with {first!r}")


def _all(kind: type[R], reports: Iterable[Report]) -> Iterable[R]:
    return [each for each in reports if isinstance(each, kind)]


def _union(lists: Iterable[Iterable[str]]) -> list[str]:
    return sorted({*chain.from_iterable(lists)})
