"""MQTT 5 connections, for the bridge and for its clients, with what aiomqtt lacks.

A `Connection` reports everything that the broker says (CONNACK, refusals, who ended it), sends in
order, within the broker's limits and without blocking the event loop, and leaves acknowledging to
its user. It does not reconnect: who uses it makes the next one after a `bridge.retry.Backoff`.

From the bytes up: `packets` (pure: PUBLISH, PUBACK, and splitting a stream into packets), `stream`
(the socket), `internals` (every private name of aiomqtt and paho that is used), `link` (one
connection on both), `outbox` (order, receive window), `pacing` (pure: how fast), `inbox` (pure:
turns, and the order of PUBACKs), `connection`;
beside them `address` and `errors`. Nothing here knows the rest of bridge but `bridge.aio`,
`bridge.regular` and `bridge.tokenbucket`.
"""

from bridge.mqtt.address import Address
from bridge.mqtt.connection import Connection, Messages, Subscription
from bridge.mqtt.errors import (
    NOT_AUTHORISED,
    PACKET_TOO_LARGE,
    SESSION_TAKEN_OVER,
    UNSPECIFIED,
    BadAddress,
    BadCertificate,
    ConnectionLost,
    ConnectionRefused,
    InvalidMessage,
    MqttError,
    PacketTooLarge,
    PublishRefused,
    SubscribeRefused,
    Unreachable,
    lower_limit,
    reason_of,
)
from bridge.mqtt.inbox import Flow
from bridge.mqtt.link import Connack, Version, Will
from bridge.mqtt.outbox import PubAck
from bridge.mqtt.pacing import Pacer
from bridge.mqtt.packets import Incoming, Publish, PublishProperties, check_topic

__all__ = [
    "NOT_AUTHORISED",
    "PACKET_TOO_LARGE",
    "SESSION_TAKEN_OVER",
    "UNSPECIFIED",
    "Address",
    "BadAddress",
    "BadCertificate",
    "Connack",
    "Connection",
    "ConnectionLost",
    "ConnectionRefused",
    "Flow",
    "Incoming",
    "InvalidMessage",
    "Messages",
    "MqttError",
    "Pacer",
    "PacketTooLarge",
    "PubAck",
    "Publish",
    "PublishProperties",
    "PublishRefused",
    "SubscribeRefused",
    "Subscription",
    "Unreachable",
    "Version",
    "Will",
    "check_topic",
    "lower_limit",
    "reason_of",
]
