"""The description of a bridge and its workflows, as it retains it or else answers it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec

from bridge.client.session import Session
from bridge.contract.errors import BadRequest, UnknownWorkflow
from bridge.contract.messages import Workflows, or_none, or_unset
from bridge.contract.retained import BridgeInfo, Definition
from bridge.contract.retained_pages import WorkflowsReport, pages
from bridge.contract.topics import ID_RULE, Topics, is_id
from bridge.mqtt import Incoming

# A bridge that is there has answered by then.
_ANSWER_S = 5.0


async def workflows(session: Session, topics: Topics) -> dict[str, Definition]:
    """Return the definitions of all workflows by name."""
    found = await session.retained([topics.workflow("+")])
    definitions = [_definition(message) for message in found if message.payload]
    if not definitions:
        definitions = [each async for page in _pages(session) for each in page.workflows]
    return {each.name: each for each in sorted(definitions, key=lambda each: each.name)}


async def workflow(session: Session, topics: Topics, name: str) -> Definition:
    """Return the definition of one workflow. Raises UnknownWorkflow."""
    if not is_id(name):
        raise UnknownWorkflow(f"a workflow's name is {ID_RULE}", workflow=name)
    found = await session.retained([topics.workflow(name)])
    if found and found[-1].payload:
        return _definition(found[-1])
    if not session.retains:
        async for page in _pages(session, name):
            for definition in page.workflows:
                return definition
    raise UnknownWorkflow(f"there is no workflow {name!r}", workflow=name)


async def state(session: Session, topics: Topics) -> str | None:
    """Return `online` or `offline` as the bridge, or its will, says; None: there was none."""
    found = await session.retained([topics.state])
    if found:
        return found[-1].payload.decode()
    return "online" if await info(session, topics) is not None else None


async def info(session: Session, topics: Topics) -> BridgeInfo | None:
    """Return the bridge's description, with its limits; None: there was none."""
    found = await session.retained([topics.info])
    if found:
        return msgspec.json.decode(found[-1].payload, type=BridgeInfo)
    async for page in _pages(session):
        return or_none(page.info)
    return None


def _pages(session: Session, name: str | None = None) -> AsyncIterator[WorkflowsReport]:
    """Ask the bridge for what it retains: this broker does not retain it, or does not say.

    Yields nothing if no bridge answers, or one that does not know the verb. Raises
    UnknownWorkflow for the name of a workflow that there is not.
    """

    async def ask(request: Workflows) -> WorkflowsReport | None:
        if not session.may_be_online:
            return None
        try:
            return await session.ask("workflows", request, WorkflowsReport, within_s=_ANSWER_S)
        except (TimeoutError, BadRequest):
            return None

    return pages(ask, or_unset(name))


def _definition(message: Incoming) -> Definition:
    return msgspec.json.decode(message.payload, type=Definition)
