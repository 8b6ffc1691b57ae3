"""Requests as adapters pass them on, and the answers to them. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from msgspec import UNSET, Struct, UnsetType

from bridge.contract.errors import BridgeError
from bridge.contract.messages import Part, Submit, Transaction
from bridge.contract.requests import Text
from bridge.contract.sources import Inline
from bridge.contract.topics import RequestTopic


class Room(Protocol):
    """The room for data in the packets of an answer, at present, in bytes; None: no limit.

    `transaction` is the answer's. `max_packet` bounds a packet as the broker's limit does, in
    bytes.
    """

    def answer_room(
        self,
        context: RequestContext,
        transaction: Transaction | UnsetType,
        max_packet: int | None = None,
    ) -> int | None:
        """Return the bytes of JSON in the answer to a request."""

    def part_room(
        self,
        context: RequestContext,
        transaction: Transaction | UnsetType,
        part: Part,
        max_packet: int | None,
    ) -> int | None:
        """Return the bytes of an output beside the answer to a `fetch`."""


def _nothing() -> None:
    """Do nothing."""


class RequestContext(Struct, frozen=True, kw_only=True):
    """A request as an adapter received it; `topic` names the client, the verb and what it is about.

    `submit` is work that the adapter has composed itself, in place of a payload to be decoded.
    `response_topic` was checked by the adapter. `expiry_s` is how long the job may wait for its
    start, `delivery` names the MQTT delivery, and `redelivered` says that it may have come before.
    `room` says what fits into the packets of its answer. `let_pass` lets later requests be
    acknowledged before this one: for what takes long and changes nothing, so that it may be lost.
    """

    topic: RequestTopic
    payload: bytes = b""
    submit: Submit | None = None
    content_type: str | None = None
    user_properties: list[tuple[str, str]] = []
    response_topic: str | None = None
    correlation: bytes | None = None
    expiry_s: float | None = None
    delivery: str | None = None
    redelivered: bool = False
    room: Room | None = None
    let_pass: Callable[[], None] = _nothing

    @property
    def client(self) -> str:
        """The client that sent it."""
        return self.topic.client

    @property
    def verb(self) -> str:
        """The verb that it asks for."""
        return self.topic.verb


class Submission(Struct, frozen=True):
    """A request for work, decoded. `main` is the main input that a payload on `run` stands for."""

    context: RequestContext
    submit: Submit
    main: Text | Inline | None
    transaction: Transaction | UnsetType

    @property
    def client(self) -> str:
        """The client that sent it."""
        return self.context.client


class PartBytes(Struct, frozen=True):
    """Bytes to publish beside the answer to a `fetch`."""

    part: Part
    data: bytes


class Answer(Struct, frozen=True):
    """The answer to a request: data or an error, and bytes if they were asked for."""

    data: Any = None
    error: BridgeError | None = None
    transaction: Transaction | UnsetType = UNSET
    bytes: PartBytes | None = None


# Sends an answer, at once.
Respond = Callable[[Answer], None]
