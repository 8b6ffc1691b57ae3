"""Every private name of aiomqtt and paho that this project uses, each with its reason.

`tests/mqtt/test_internals.py` fails if a new version of either changes the meaning of one.
"""

from __future__ import annotations

import aiomqtt
import paho.mqtt.client as paho

from bridge.mqtt.stream import Stream


def paho_of(client: aiomqtt.Client) -> paho.Client:
    """Return the client of paho's that aiomqtt made.

    aiomqtt offers no other way to what it does not wrap: the callbacks, `connect` without a thread,
    `disconnect` with a reason.
    """
    return client._client  # noqa: SLF001


def use_stream(client: paho.Client, stream: Stream) -> None:
    """Make `connect` use a stream in place of the socket that it would open.

    paho opens sockets with calls that block, knows no non-blocking TLS handshake, and reads packets
    byte by byte.
    """
    client._create_socket = lambda: stream  # type: ignore[method-assign]  # noqa: SLF001


def next_mid(client: paho.Client) -> int:
    """Return the next packet id; it may be in use.

    PUBLISH packets, which are ours, and SUBSCRIBE packets, which are paho's, draw from the same
    numbers (MQTT 5, 2.2.1).
    """
    return client._mid_generate()  # noqa: SLF001
