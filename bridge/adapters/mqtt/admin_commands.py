"""An operator's commands by MQTT: `bridge/request/<verb>`, answered on `bridge/response/<verb>`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from enum import Enum

from bridge.adapters.mqtt.extension import Extension
from bridge.adapters.mqtt.publisher import Publisher
from bridge.contract import operator
from bridge.contract.errors import BadRequest, BridgeError, Forbidden
from bridge.contract.requests import transaction_of
from bridge.contract.topics import Topics
from bridge.mqtt import Incoming, Subscription
from bridge.requests.context import Answer
from bridge.requests.handler import RequestHandler
from bridge.requests.operator import Operator


class Responder(Enum):
    """The part of one bridge of a group in a command that all of them receive."""

    ANSWER = "carry out, and answer"
    SILENT = "carry out"
    IGNORE = "leave to another"


async def _at_once() -> None:
    """Return: a bridge alone may always publish."""


class AdminCommands(Extension):
    """Executes an operator's commands; acknowledges them in order, as requests."""

    def __init__(
        self,
        topics: Topics,
        operator: Operator,
        publisher: Publisher,
        responder: Callable[[str, bytes], Responder] = lambda *_: Responder.ANSWER,
        held: Callable[[], Awaitable[None]] = _at_once,
    ) -> None:
        """`responder` says what a command, verb and payload, is to this bridge among several.

        `held` waits until it may publish: an answer that is due before is published then.
        """
        self._topics = topics
        self._operator = operator
        self._publisher = publisher
        self._responder = responder
        self._held = held

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
        responder = self._responder(verb, incoming.payload)
        if responder is Responder.IGNORE:
            return
        correlation = incoming.correlation_data
        refusal = _refusal(incoming)
        if refusal is None:
            answer = await self._operator.handle(verb, incoming.payload, correlation)
        else:
            transaction = transaction_of(incoming.payload, correlation)
            answer = Answer(error=refusal, transaction=transaction)
        if responder is Responder.ANSWER:
            await self._held()
            self._publisher.answer_command(verb, answer, correlation)


def _refusal(incoming: Incoming) -> BridgeError | None:
    if incoming.retain:
        return BadRequest(
            "a retained command would be executed at each connection: send it without retain"
        )
    if incoming.response_topic is not None:
        return Forbidden("a command is answered below bridge/response/ only")
    return None


def responder_of(
    verb: str,
    payload: bytes,
    *,
    intake: bool,
    leader: bool,
    owns: Callable[[str], bool | None],
    owns_gpu: Callable[[str], bool | None] = lambda _: None,
) -> Responder:
    """Return one bridge's part in a command to a cluster.

    It answers for its own ComfyUIs, by its own connection. What the cluster answers comes by the
    `intake` as well, whose session waits at the broker while the leader changes; there the bridge
    that takes requests answers, by what it knows itself. What all carry out, the others do by
    their own connections. `owns` says whether a ComfyUI is this bridge's, None if no bridge is
    known to have it; `owns_gpu` the same of a GPU.
    """
    rest = Responder.ANSWER if intake else Responder.IGNORE
    owned = Responder.IGNORE if intake else Responder.ANSWER
    try:
        command = operator.decode(verb, payload)
    except BridgeError:
        return rest
    match command:
        case operator.Named(instance=str(instance)):
            own = owns(instance)
            return rest if own is None else owned if own else Responder.IGNORE
        case operator.OfGpu(gpu=str(gpu)):
            own = owns_gpu(gpu)
            return rest if own is None else owned if own else Responder.IGNORE
        case (
            operator.Named()
            | operator.Reload()
            | operator.SetLogLevel()
            | operator.ReleaseQuarantine()
        ):
            return rest if intake or leader else Responder.SILENT
        case _:
            return rest
