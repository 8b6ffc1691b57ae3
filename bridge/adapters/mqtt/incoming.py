"""Classifies each PUBLISH that arrives, and names the client whose turn it takes. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Literal

from msgspec import Struct

from bridge.contract.errors import BadRequest, BridgeError, Forbidden
from bridge.contract.topics import JOB_VERBS, BadTopic, RequestTopic, Topics, matches
from bridge.mqtt.inbox import Flow
from bridge.mqtt.packets import Incoming
from bridge.requests.context import RequestContext, Room

# All clients that the bridge does not know share their turns: names may be free.
_NEW = "?"


class Received(Struct, frozen=True):
    """A client's request; one with a `refusal` is only answered, with that error."""

    context: RequestContext
    refusal: BridgeError | None = None


def read_request(
    topics: Topics, incoming: Incoming, *, delivery: str | None, room: Room | None
) -> Received | None:
    """Return a message as a request; None if it is none, or nobody could be answered."""
    try:
        topic = topics.parse_request(incoming.topic)
    except BadTopic as bad:
        topic = RequestTopic(bad.client, bad.verb)
        return Received(_context(topics, incoming, topic, delivery=delivery, room=room), bad)
    if topic is None:
        return None
    context = _context(topics, incoming, topic, delivery=delivery, room=room)
    return Received(context, _refusal(topics, incoming, context))


def _refusal(topics: Topics, incoming: Incoming, context: RequestContext) -> BridgeError | None:
    if incoming.retain:
        return BadRequest(
            "a retained request would run at each connection: send it without retain; an empty "
            "retained message clears what the broker keeps"
        )
    if incoming.response_topic != context.response_topic:
        return Forbidden(
            f"the Response Topic {incoming.response_topic!r} is not allowed",
            field="response_topic",
            allowed=topics.reply(context.client),
        )
    return None


def _context(
    topics: Topics,
    incoming: Incoming,
    topic: RequestTopic,
    *,
    delivery: str | None,
    room: Room | None,
) -> RequestContext:
    response = incoming.response_topic
    allowed = response is not None and topics.is_reply(topic.client, response)
    return RequestContext(
        topic=topic,
        payload=incoming.payload,
        content_type=incoming.content_type,
        user_properties=incoming.user_properties,
        response_topic=response if allowed else None,
        correlation=incoming.correlation_data,
        expiry_s=incoming.message_expiry,
        delivery=delivery,
        redelivered=incoming.dup,
        room=room,
    )


def is_nameless(topics: Topics, incoming: Incoming) -> bool:
    """True if a message would be a request, but names no client and verb that could be answered."""
    asked = matches(topics.requests, incoming.topic)
    try:
        return asked and topics.parse_request(incoming.topic) is None
    except BadTopic:
        return False


def flow_of(topics: Topics, incoming: Incoming, knows: Callable[[str], bool]) -> Flow | None:
    """Return the flow of a message, its client's; None for messages of no client.

    `knows` tells whether a client has turns of its own. Messages of no client, such as the value
    of a topic that jobs name as an input, are not passed by later messages.
    """
    found = topics.client_of(incoming.topic)
    if found is None:
        return None
    client = found[0]
    return Flow(client, client if knows(client) else _NEW)


def is_dropped(topics: Topics, incoming: Incoming, would_drop: Callable[[str], bool]) -> bool:
    """True if a message is of a client so far above its rate that nothing would be answered."""
    found = topics.client_of(incoming.topic)
    return found is not None and would_drop(found[0])


def kind_of_other(
    topics: Topics, incoming: Incoming, input_topics: Sequence[str], *, clustered: bool
) -> Literal["leftover", "input"] | None:
    """Return the kind of a message that is no request.

    `leftover`: the broker retains it on a topic of ours, perhaps from an earlier process; in a
    cluster also what another bridge publishes there now. `input`: jobs may name its
    topic as an input.
    """
    if any(matches(each, incoming.topic) for each in topics.retained):
        return "leftover" if incoming.payload and (incoming.retain or clustered) else None
    return "input" if any(matches(each, incoming.topic) for each in input_topics) else None


def needs_delivery(topics: Topics, incoming: Incoming) -> bool:
    """True if a redelivery of the message has to be recognised.

    Only what makes a job is kept with its delivery. A message at QoS 0 never comes again.
    """
    if not incoming.qos:
        return False
    found = topics.client_of(incoming.topic)
    if found is None:
        return True
    match found[1]:
        case ["request", verb, *_]:
            return verb in JOB_VERBS
    return False


def delivery_of(session: str, incoming: Incoming) -> str:
    """Name a delivery, to recognise it if it comes again. Hashes the payload."""
    content = hashlib.sha256(incoming.topic.encode() + b"\0")
    content.update(incoming.payload)
    return f"{session}:{incoming.mid}:{content.hexdigest()}"
