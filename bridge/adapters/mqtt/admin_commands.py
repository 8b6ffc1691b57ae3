"""An operator's commands by MQTT: `bridge/request/<verb>`, answered on `bridge/response/<verb>`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from bridge.adapters.mqtt.extension import Extension
from bridge.adapters.mqtt.publisher import Publisher
from bridge.contract.errors import BadRequest, BridgeError, Forbidden
from bridge.contract.requests import transaction_of
from bridge.contract.topics import Topics
from bridge.jobs.database import LeaseLost
from bridge.mqtt import Incoming, Subscription
from bridge.requests.context import Answer
from bridge.requests.handler import RequestHandler

log = logging.getLogger(__name__)

# A command whose answer takes longer is acknowledged before it: all that came after it can only be
# acknowledged then, and the broker holds more back. A bridge of a group that died is missed sooner.
LATE_S = 3.0


class AdminCommands(Extension):
    """Executes an operator's commands; acknowledges them in order, as requests."""

    def __init__(
        self,
        topics: Topics,
        handle: Callable[[str, bytes, bytes | None], Awaitable[Answer]],
        publisher: Publisher,
        held: Callable[[], Awaitable[None]],
    ) -> None:
        """`handle` carries out a verb with its payload and correlation data.

        `held` waits until this bridge may publish: an answer that is due before is published then.
        """
        self._topics = topics
        self._handle = handle
        self._publisher = publisher
        self._held = held
        self._late: set[asyncio.Task[None]] = set()

    @property
    def subscriptions(self) -> Sequence[Subscription]:
        """All commands; none that the broker retains; a live one is known by its flag."""
        return [
            Subscription(filter=self._topics.commands, retain_as_published=True, retain_handling=2)
        ]

    async def received(
        self, incoming: Incoming, _delivery: str | None, _handler: RequestHandler
    ) -> None:
        """Carry out a command and answer it. Carried out twice, it leaves things as once."""
        verb = self._topics.parse_command(incoming.topic)
        if verb is None:
            return
        answering = asyncio.create_task(self._answer(verb, incoming))
        try:
            await asyncio.wait((answering,), timeout=LATE_S)
        except asyncio.CancelledError:
            answering.cancel()
            raise
        if answering.done():
            await answering
            return
        self._late.add(answering)
        answering.add_done_callback(self._answered_late)
        # If this bridge is none any more, the next one is to have the command.
        await self._held()

    async def _answer(self, verb: str, incoming: Incoming) -> None:
        correlation = incoming.correlation_data
        refusal = _refusal(incoming)
        if refusal is None:
            answer = await self._handle(verb, incoming.payload, correlation)
        else:
            transaction = transaction_of(incoming.payload, correlation)
            answer = Answer(error=refusal, transaction=transaction)
        await self._held()
        self._publisher.answer_command(verb, answer, correlation)

    def _answered_late(self, done: asyncio.Task[None]) -> None:
        self._late.discard(done)
        error = None if done.cancelled() else done.exception()
        # Whoever is fenced ends anyway: its heartbeats find that, too.
        if error is not None and not isinstance(error, LeaseLost):
            log.error("a command was not answered: defect in the bridge", exc_info=error)


def _refusal(incoming: Incoming) -> BridgeError | None:
    if incoming.retain:
        return BadRequest(
            "a retained command would be executed at each connection: send it without retain"
        )
    if incoming.response_topic is not None:
        return Forbidden("a command is answered below bridge/response/ only")
    return None
