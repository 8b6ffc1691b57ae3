"""An operator's orders by MQTT: `bridge/request/<verb>`, answered on `bridge/response/<verb>`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum

from bridge.adapters.mqtt.publisher import Publisher
from bridge.contract import operator as orders
from bridge.contract.errors import BadRequest, BridgeError, Forbidden
from bridge.contract.requests import transaction_of
from bridge.contract.topics import Topics
from bridge.mqtt import Connection, Incoming, Subscription
from bridge.requests.context import Answer
from bridge.requests.operator import Operator


class Part(Enum):
    """What one of several bridges has to do with an order that all of them hear."""

    ANSWER = "carry out, and answer"
    SILENT = "carry out"
    IGNORE = "leave to another"


class Orders:
    """A `Side` of the MQTT door. Orders are acknowledged in their order, like requests."""

    def __init__(
        self,
        topics: Topics,
        operator: Operator,
        publisher: Publisher,
        whose: Callable[[str, bytes], Part] = lambda *_: Part.ANSWER,
    ) -> None:
        """`whose` tells what an order, verb and payload, is to this bridge among several."""
        self._topics = topics
        self._operator = operator
        self._publisher = publisher
        self._whose = whose

    @property
    def subscriptions(self) -> Sequence[Subscription]:
        """All orders; none that the broker had retained, and a live one is told by its flag."""
        return [
            Subscription(filter=self._topics.orders, retain_as_published=True, retain_handling=2)
        ]

    async def connected(self, connection: Connection) -> None:
        """Nothing of this is retained."""

    async def take(self, incoming: Incoming, delivery: str | None) -> None:
        """Carry out an order, and answer it, whatever it is."""
        del delivery  # each order may be given twice, and leaves things as it does once
        verb = self._topics.parse_order(incoming.topic)
        if verb is None:
            return
        part = self._whose(verb, incoming.payload)
        if part is Part.IGNORE:
            return
        correlation = incoming.correlation_data
        refusal = _refusal(incoming)
        if refusal is None:
            answer = await self._operator.handle(verb, incoming.payload, correlation)
        else:
            transaction = transaction_of(incoming.payload, correlation)
            answer = Answer(error=refusal, transaction=transaction)
        if part is Part.ANSWER:
            self._publisher.answer_command(verb, answer, correlation)


def _refusal(incoming: Incoming) -> BridgeError | None:
    if incoming.retain:
        return BadRequest("a retained order would be carried out again and again")
    if incoming.response_topic is not None:
        return Forbidden("an order is answered below bridge/response/ alone")
    return None


def part_of(verb: str, payload: bytes, *, intake: bool, ours: Callable[[str], bool | None]) -> Part:
    """Tell what an order is to one bridge of a group.

    It answers for its own ComfyUIs; the one that has the intake for all else, in its own words.
    `ours` tells whether a ComfyUI is this bridge's own, None if nobody is known to have it.
    """
    rest = Part.ANSWER if intake else Part.IGNORE
    try:
        order = orders.decode(verb, payload)
    except BridgeError:
        return rest
    match order:
        case orders.Named(instance=str(instance)):
            own = ours(instance)
            return rest if own is None else Part.ANSWER if own else Part.IGNORE
        case orders.Named() | orders.Reload() | orders.SetLogLevel():
            return Part.ANSWER if intake else Part.SILENT
        case _:
            return rest
