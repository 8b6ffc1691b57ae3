"""Requests for the bridge's retained messages, on brokers that do not send them.

RabbitMQ sends retained messages to no filter with a wildcard, and some brokers retain nothing. Then
the bridge is asked, once for each connection, in the name of a client that a browser has.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec
from msgspec import UNSET

from bridge.adapters.web.requests import Reply
from bridge.contract.messages import Workflows, encode
from bridge.contract.reading import UNREADABLE
from bridge.contract.retained_pages import WorkflowsReport, pages

log = logging.getLogger(__name__)

_VERB: Final = "workflows"

Ask = Callable[[str, str, bytes], Awaitable[Reply]]
# Takes a public message: its kind, the name of what it is about, and its bytes.
Show = Callable[[str, str | None, bytes], None]


class MissingDescriptions:
    """Asks for missing messages; `ask` sends a client's request, `show` gets each message.

    Used on the event loop's thread alone.
    """

    def __init__(self, ask: Ask, show: Show) -> None:
        self._ask = ask
        self._show = show
        self._missing = False
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Note a new connection: nothing has come yet."""
        self.end()
        self._missing = True

    def end(self) -> None:
        """Note that there is no connection."""
        self._missing = False
        if self._task is not None:
            self._task.cancel()
            self._task = None

    def received(self) -> None:
        """Note that the broker sends what it retains."""
        self._missing = False

    def ask_as(self, client: str) -> None:
        """Ask in the name of a client that is listened to, if anything is missing."""
        if self._missing:
            self._missing = False
            self._task = asyncio.create_task(self._fetch(client))

    async def _fetch(self, client: str) -> None:
        async def ask(request: Workflows) -> WorkflowsReport | None:
            reply = await self._ask(client, _VERB, encode(request))
            if reply.status != "ok" or reply.data is UNSET:
                log.info("cannot fetch the retained messages: the bridge answered %s", reply.status)
                return None
            try:
                return msgspec.json.decode(reply.data, type=WorkflowsReport)
            except UNREADABLE as error:
                log.warning("cannot read the response to %s: %s", _VERB, error)
                return None

        async for page in pages(ask):
            self._show_page(page)

    def _show_page(self, page: WorkflowsReport) -> None:
        self._show("state", None, b"online")  # it has answered
        if page.info is not UNSET:
            self._show("info", None, encode(page.info))
        for name, state in page.comfyui.items():
            self._show("comfyui", name, encode(state))
        for choices in page.choices:
            self._show("choices", choices.name, encode(choices))
        for definition in page.workflows:
            self._show("workflow", definition.name, encode(definition))
