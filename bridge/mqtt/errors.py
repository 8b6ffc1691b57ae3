"""Errors between us and a broker.

    MqttError
    ├── BadAddress           the address, or a file it names, cannot be used (also a ValueError)
    ├── InvalidMessage       a topic or property that must not be sent (also a ValueError)
    ├── PacketTooLarge       more bytes than the broker takes; has `size` and `limit`
    ├── Unreachable          no connection: name, network, TLS or a broker that stays silent
    │   └── BadCertificate   its certificate is expired, of another host, or of nobody we trust
    ├── ConnectionRefused    the broker refused it; has `code`, `reason`, `bad_credentials`
    ├── ConnectionLost       the connection ended; has `code` where the broker gave one
    ├── PublishRefused       the broker did not take a message; has `topic`, `code`, `reason`
    └── SubscribeRefused     the broker did not take a filter; has `filter`, `code`, `reason`

Codes are MQTT 5 reason codes (section 2.4).
"""

from __future__ import annotations

from typing import Final

UNSPECIFIED: Final = 0x80
UNSUPPORTED_PROTOCOL_VERSION: Final = 0x84
CLIENT_ID_NOT_VALID: Final = 0x85
BAD_USER_NAME_OR_PASSWORD: Final = 0x86
NOT_AUTHORISED: Final = 0x87
SESSION_TAKEN_OVER: Final = 0x8E
PACKET_TOO_LARGE: Final = 0x95
QUOTA_EXCEEDED: Final = 0x97
RETAIN_NOT_SUPPORTED: Final = 0x9A
QOS_NOT_SUPPORTED: Final = 0x9B
WILDCARDS_NOT_SUPPORTED: Final = 0xA2

_REASONS: Final = {
    0x00: "success",
    0x01: "granted QoS 1",
    0x02: "granted QoS 2",
    0x04: "disconnect with will message",
    0x10: "no matching subscribers",
    0x80: "unspecified error",
    0x81: "malformed packet",
    0x82: "protocol error",
    0x83: "implementation specific error",
    0x84: "unsupported protocol version",
    0x85: "client identifier not valid",
    0x86: "bad user name or password",
    0x87: "not authorised",
    0x88: "server unavailable",
    0x89: "server busy",
    0x8A: "banned",
    0x8B: "server shutting down",
    0x8C: "bad authentication method",
    0x8D: "keep alive timeout",
    0x8E: "session taken over",
    0x8F: "topic filter invalid",
    0x90: "topic name invalid",
    0x91: "packet identifier in use",
    0x93: "receive maximum exceeded",
    0x94: "topic alias invalid",
    0x95: "packet too large",
    0x96: "message rate too high",
    0x97: "quota exceeded",
    0x98: "administrative action",
    0x99: "payload format invalid",
    0x9A: "retain not supported",
    0x9B: "QoS not supported",
    0x9C: "use another server",
    0x9D: "server moved",
    0x9E: "shared subscriptions not supported",
    0x9F: "connection rate exceeded",
    0xA0: "maximum connect time",
    0xA1: "subscription identifiers not supported",
    0xA2: "wildcard subscriptions not supported",
}


def reason_of(code: int) -> str:
    """Return an MQTT 5 reason code in words."""
    return _REASONS.get(code, f"reason code 0x{code:02X}")


def lower_limit(largest: int) -> int | None:
    """Return what a broker is taken to accept that ended a connection for a packet, in bytes.

    `largest` is the largest payload on it. Not one byte less: that would be found out a byte at a
    time. None if there was none.
    """
    return 1 << ((largest - 1).bit_length() - 1) if largest > 1 else None


class MqttError(Exception):
    """The root of this package's errors."""


class BadAddress(MqttError, ValueError):
    """A broker's address, or a file that belongs to it, cannot be used. Never shows a password."""


class InvalidMessage(MqttError, ValueError):
    """A topic or property that the specification forbids, or for which brokers disconnect."""


class PacketTooLarge(MqttError):
    """A packet above the limit; nothing of it was sent. Sizes in bytes, of the whole packet."""

    def __init__(self, size: int, limit: int) -> None:
        super().__init__(f"the packet has {size} bytes, at most {limit} are allowed")
        self.size = size
        self.limit = limit


class Unreachable(MqttError):
    """The broker cannot be reached at present: trying again may help."""


class BadCertificate(Unreachable):
    """The broker's certificate is expired, not yet valid, of another host, or not to be trusted."""


class ConnectionRefused(MqttError):
    """The broker was reached and refused the connection."""

    def __init__(self, code: int, reason: str | None = None) -> None:
        self.code = code
        self.reason = reason or reason_of(code)
        super().__init__(f"the broker refused the connection: {self.reason}")

    @property
    def bad_credentials(self) -> bool:
        """True if user name or password are at fault, so that trying again is pointless.

        Brokers that do not distinguish a wrong password from a missing right answer NOT_AUTHORISED.
        """
        return self.code in (BAD_USER_NAME_OR_PASSWORD, NOT_AUTHORISED)


class ConnectionLost(MqttError):
    """The connection has ended, and with it everything that waited for an answer on it.

    What was published and not acknowledged may or may not have reached the broker.
    """

    def __init__(self, reason: str, code: int | None = None) -> None:
        super().__init__(f"the connection to the broker ended: {reason}")
        self.reason = reason
        self.code = code


class PublishRefused(MqttError):
    """The broker answered a publish with a reason code of 0x80 or above."""

    def __init__(self, topic: str, code: int, reason: str | None = None) -> None:
        self.topic = topic
        self.code = code
        self.reason = reason or reason_of(code)
        super().__init__(f"the broker refused a message on {topic!r}: {self.reason}")


class SubscribeRefused(MqttError):
    """The broker answered a subscription with a reason code of 0x80 or above."""

    def __init__(self, filter_: str, code: int) -> None:
        self.filter = filter_
        self.code = code
        self.reason = reason_of(code)
        super().__init__(f"the broker refused to subscribe {filter_!r}: {self.reason}")
