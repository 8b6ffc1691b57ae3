"""The answer to the verb `workflows`: what the bridge retains, in pages that fit a packet. Pure."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping

from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace

from bridge.contract.errors import UnknownWorkflow
from bridge.contract.messages import Workflows, encode
from bridge.contract.retained import BridgeInfo, Choices, ComfyUIState, Definition

RetainedMessage = BridgeInfo | ComfyUIState | Choices | Definition


class WorkflowsReport(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A page of what the bridge retains; with `next`, ask again `after` it.

    `left_out` names what no packet holds.
    """

    info: BridgeInfo | UnsetType = UNSET
    comfyui: dict[str, ComfyUIState] = {}
    choices: list[Choices] = []
    workflows: list[Definition] = []
    left_out: list[str] = []
    next: str | UnsetType = UNSET


async def pages(
    ask: Callable[[Workflows], Awaitable[WorkflowsReport | None]],
    name: str | UnsetType = UNSET,
) -> AsyncIterator[WorkflowsReport]:
    """Yield all pages, or that with the workflow `name`; `ask` gets one, None ends it early."""
    after: str | UnsetType = UNSET
    while (report := await ask(Workflows(name=name, after=after))) is not None:
        yield report
        if report.next is UNSET:
            return
        after = report.next


def page(retained: Mapping[str, RetainedMessage], asked: Workflows, room: int) -> WorkflowsReport:
    """Return the page that a request asks for, in at most `room` bytes of JSON.

    `retained` is by topic, below the base. Raises UnknownWorkflow for a `name` that there is none
    of.
    """
    wanted = sorted(retained)
    if asked.name is not UNSET:
        wanted = [each for each in wanted if _is_workflow(retained[each], asked.name)]
        if not wanted:
            raise UnknownWorkflow(f"there is no workflow {asked.name!r}", workflow=asked.name)
    after = "" if asked.after is UNSET else asked.after
    wanted = [each for each in wanted if each > after]
    left = room - _FIELDS - max(map(len, wanted), default=0)
    found: dict[str, RetainedMessage] = {}
    left_out: list[str] = []
    for index, topic in enumerate(wanted):
        first = index == 0
        for message in _ever_shorter(retained[topic]) if first else (retained[topic],):
            size = len(encode(message)) + len(topic) + _AROUND
            if size <= left:
                found[topic] = message
                left -= size
                break
        else:
            if not first:
                return _report(found, left_out, wanted[index - 1])
            left_out.append(topic.rpartition("/")[2])
            left -= len(topic) + _AROUND
    return _report(found, left_out, UNSET)


# What the fields' names take, and what stands around each message.
_FIELDS = len(b'{"info":,"comfyui":{},"choices":[],"workflows":[],"left_out":[],"next":""}')
_AROUND = len(b'"":,')


def _is_workflow(message: RetainedMessage, name: str) -> bool:
    return isinstance(message, Definition) and message.name == name


def _ever_shorter(message: RetainedMessage) -> Iterator[RetainedMessage]:
    """Yield a message, then one without the fields that clients need least."""
    yield message
    if isinstance(message, Definition):
        yield replace(message, nodes=[], missing=UNSET, example={}, description=UNSET)


def _report(
    found: Mapping[str, RetainedMessage], left_out: list[str], next_after: str | UnsetType
) -> WorkflowsReport:
    messages = found.values()
    return WorkflowsReport(
        info=next((each for each in messages if isinstance(each, BridgeInfo)), UNSET),
        comfyui={
            topic.rpartition("/")[2]: each
            for topic, each in found.items()
            if isinstance(each, ComfyUIState)
        },
        choices=[each for each in messages if isinstance(each, Choices)],
        workflows=[each for each in messages if isinstance(each, Definition)],
        left_out=left_out,
        next=next_after,
    )
