"""Mutants of what guards the way to a broker: MQTT over WebSocket, and the sizes it delivers."""

from __future__ import annotations

from tests.mutants.mutant import Mutant

_STREAM = "bridge/mqtt/stream.py"
_WEBSOCKET = ("tests/mqtt/test_websocket.py",)
_PROBE = "bridge/adapters/mqtt/size_probe.py"
_SIZES = ("tests/adapters/mqtt/test_size_probe.py",)

BROKERS: tuple[Mutant, ...] = (
    Mutant(
        name="websocket-text-is-mqtt",
        file=_STREAM,
        old="        if any(each.opcode is Opcode.TEXT for each in frames):\n",
        new="        if False:\n",
        guarantee="a WebSocket server that sends text loses the connection",
        tests=_WEBSOCKET,
    ),
    Mutant(
        name="websocket-frame-of-any-size",
        file=_STREAM,
        old="        max_size=LARGEST_REMAINING,\n",
        new="        max_size=None,\n",
        guarantee="a WebSocket message is no larger than a packet of MQTT",
        tests=_WEBSOCKET,
    ),
    Mutant(
        name="websocket-refusal-ignored",
        file=_STREAM,
        old="    if protocol.handshake_exc is not None:\n",
        new="    if False:\n",
        guarantee="a server that speaks no WebSocket is named, not counted as a broker",
        tests=_WEBSOCKET,
    ),
    Mutant(
        name="websocket-without-subprotocol",
        file=_STREAM,
        old="        subprotocols=[_SUBPROTOCOL],\n",
        new="",
        guarantee="MQTT over WebSocket asks for the subprotocol mqtt",
        tests=_WEBSOCKET,
    ),
    Mutant(
        name="wss-without-tls",
        file=_STREAM,
        old="asyncio.to_thread(address.ssl_context) if address.tls else None",
        new="asyncio.to_thread(address.ssl_context) if address.tls and not address.path else None",
        guarantee="wss:// verifies the broker's certificate",
        tests=_WEBSOCKET,
    ),
    Mutant(
        name="websocket-end-unseen",
        file=_STREAM,
        old='return found or (None if self._protocol.state is State.OPEN else b"")',
        new="return found or None",
        guarantee="a WebSocket that its server ends is a connection lost",
        tests=_WEBSOCKET,
        equivalent="a server that was answered its close frame closes the socket, too",
    ),
    Mutant(
        name="websocket-ping-unanswered",
        file=_STREAM,
        old="        self._put_frames()  # answers to a ping, or to the end\n",
        new="        list(self._protocol.data_to_send())\n",
        guarantee="a WebSocket server's ping is answered",
        tests=_WEBSOCKET,
    ),
    Mutant(
        name="announced-packet-believed",
        file=_PROBE,
        old="        if size <= self._proven or ",
        new="        if self._room() is not None or size <= self._proven or ",
        guarantee="a broker that announces more than it delivers is found out",
        tests=_SIZES,
    ),
    Mutant(
        name="size-that-ends-connections",
        file=_PROBE,
        old="        if announced or again:\n",
        new="        if announced:\n",
        guarantee="a size at which connections end silently is not sent again and again",
        tests=_SIZES,
    ),
    Mutant(
        name="fetches-of-one-part-at-once",
        file="bridge/adapters/web/broker.py",
        old="                if not self._turns.take((client, place), again):\n",
        new="                if not self._turns.take(object(), again):\n",
        guarantee="over MQTT 3.1.1 nobody gets a small picture in place of the whole one",
        tests=("tests/adapters/web/test_broker.py",),
    ),
)
