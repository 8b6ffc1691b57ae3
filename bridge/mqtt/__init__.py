"""MQTT as this project needs it: what aiomqtt lacks, for the bridge's door and for its clients.

A `Connection` tells everything that the broker says (CONNACK, refusals, who ended it), sends in
order, within the broker's limits and without blocking the event loop, and leaves acknowledging to
its user. It does not reconnect: who uses it makes the next one after a `bridge.retry.Backoff`.

From the bytes up: `packets` (pure), `sockets`, `link` (all that knows aiomqtt and paho), `outbox`,
`connection`; beside them `address` and `errors`. Nothing here knows the rest of bridge.
"""

from bridge.mqtt.address import Address
from bridge.mqtt.connection import Connection, Messages, Subscription
from bridge.mqtt.errors import (
    NOT_AUTHORISED,
    SESSION_TAKEN_OVER,
    BadAddress,
    ConnectionLost,
    ConnectionRefused,
    InvalidMessage,
    MqttError,
    PacketTooLarge,
    PublishRefused,
    SubscribeRefused,
    Unreachable,
)
from bridge.mqtt.link import Connack, Will
from bridge.mqtt.outbox import PubAck
from bridge.mqtt.packets import Incoming, Publish, PublishProperties, check_topic

__all__ = [
    "NOT_AUTHORISED",
    "SESSION_TAKEN_OVER",
    "Address",
    "BadAddress",
    "Connack",
    "Connection",
    "ConnectionLost",
    "ConnectionRefused",
    "Incoming",
    "InvalidMessage",
    "Messages",
    "MqttError",
    "PacketTooLarge",
    "PubAck",
    "Publish",
    "PublishProperties",
    "PublishRefused",
    "SubscribeRefused",
    "Subscription",
    "Unreachable",
    "Will",
    "check_topic",
]
