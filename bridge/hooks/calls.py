"""The calls of a hook: an HTTP request, an MQTT message, a command, a wake-on-LAN packet.

Each call ends, is cancelled, or raises `CallFailed` with one line that says why. Who calls bounds
the time. What the operator's settings name is called whatever its address: no client can name one.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import aiohttp
import msgspec
from yarl import URL

from bridge.adapters.mqtt.encoder import Packet
from bridge.adapters.mqtt.publisher import Publisher
from bridge.config import Call
from bridge.mqtt import ConnectionLost, Incoming, InvalidMessage, PublishProperties, PublishRefused
from bridge.mqtt.packets import Publish
from bridge.programs import running
from bridge.text import clip, one_line, problem_of

# Of an answer and of what a command prints so much is read, in bytes.
_MOST = 256 * 1024
_SHOWN = 200
_OK, _MULTIPLE = 200, 300
# A network card that sleeps may miss a packet.
_WAKE_AGAIN_S = 5.0
_CONNECT_S = 2.0
_POLL_S = 0.5
_WAKE_PORT = 9


class CallFailed(Exception):
    """A call failed; the text is one line."""


async def ask(
    method: str, url: str, *, json: Any = None, headers: Mapping[str, str] | None = None
) -> bytes:
    """Make an HTTP request and return the body of its answer. Raises CallFailed."""
    at = URL(url)
    shown = f"{method} {at.with_user(None).with_query(None)}"
    body = None if json is None else msgspec.json.encode(json)
    sent = {**({} if json is None else {"Content-Type": "application/json"}), **(headers or {})}
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)) as session,
            session.request(method, at, data=body, headers=sent) as response,
        ):
            # One chunk after the other: an answer without an end is not kept.
            read = bytearray()
            async for chunk in response.content.iter_any():
                read += chunk
                if len(read) > _MOST:
                    raise CallFailed(f"{shown}: the answer is larger than {_MOST} bytes")
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise CallFailed(f"{shown}: {clip(problem_of(error), _SHOWN)}") from None
    if not _OK <= response.status < _MULTIPLE:
        said = _line(read.decode(errors="replace"))
        raise CallFailed(f"{shown}: answered {response.status}{f': {said}' if said else ''}")
    return bytes(read)


async def run(command: Sequence[str]) -> None:
    """Run a program. Raises CallFailed unless it ends with 0; cancelling kills it and its own."""
    said = bytearray()
    try:
        async with running(
            *command,
            group=True,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        ) as process:
            if process.stderr is not None:
                while chunk := await process.stderr.read(4096):
                    said = (said + chunk)[-_SHOWN:]
            status = await process.wait()
    except (OSError, ValueError) as error:
        raise CallFailed(f"{command[0]}: {_line(str(error))}") from None
    if status:
        lines = said.decode(errors="replace").strip().splitlines()
        why = f": {_line(lines[-1])}" if lines else ""
        raise CallFailed(f"{command[0]} ended with {status}{why}")


async def wake(mac: str, broadcast: str, url: str) -> None:
    """Wake a machine, again and again, and return once `url`'s port can be connected to.

    Raises CallFailed if nothing can be sent; otherwise it lasts until it is cancelled.
    """
    at = URL(url)
    packet = b"\xff" * 6 + bytes.fromhex(mac.replace(":", "").replace("-", "")) * 16
    loop = asyncio.get_running_loop()
    next_packet = loop.time()
    while not await _answers(at):
        if loop.time() >= next_packet:
            try:
                _send_to_all(packet, broadcast)
            except OSError as error:
                raise CallFailed(f"cannot send to {broadcast}: {error.strerror}") from None
            next_packet = loop.time() + _WAKE_AGAIN_S
        await asyncio.sleep(_POLL_S)


def _send_to_all(packet: bytes, broadcast: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        sender.sendto(packet, (broadcast, _WAKE_PORT))


async def _answers(at: URL) -> bool:
    try:
        async with asyncio.timeout(_CONNECT_S):
            _, writer = await asyncio.open_connection(at.host, at.port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return True


class MqttCalls:
    """Messages of hooks, and their answers. For the event loop's thread."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        # By the call's Correlation Data.
        self._waiting: dict[bytes, tuple[str, asyncio.Future[bytes]]] = {}

    async def call(self, call: Call) -> None:
        """Publish a call's message, and wait for the answer if there is to be one.

        Raises CallFailed; cancelling it ends the wait.
        """
        correlation = secrets.token_bytes(12)
        answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        topic = call.topic or ""
        if call.answer is not None:
            self._waiting[correlation] = call.answer, answered
        try:
            await self._publish(topic, _payload(call.payload), call.answer, correlation)
            if call.answer is None:
                return
            said = await answered
        finally:
            self._waiting.pop(correlation, None)
        if call.expect is not None and said != call.expect.encode():
            shown = _line(said.decode(errors="replace"))
            raise CallFailed(f"{call.answer}: answered {shown!r}, not {call.expect!r}")

    async def _publish(
        self, topic: str, payload: bytes, answer: str | None, correlation: bytes
    ) -> None:
        properties = PublishProperties()
        if answer is not None:
            properties = PublishProperties(response_topic=answer, correlation_data=correlation)
        try:
            publish = Publish.of(topic, payload, qos=1, retain=False, properties=properties)
            [sent] = self._publisher.send([Packet(topic=topic, publish=publish)]) or [None]
            if sent is None:
                raise CallFailed(
                    f"{topic}: it cannot be sent, there is no connection to the broker"
                )
            await sent
        except (InvalidMessage, ConnectionLost, PublishRefused) as error:
            raise CallFailed(f"{topic}: {error}") from None

    def received(self, incoming: Incoming) -> None:
        """Take a message that may be an answer; what was retained is none.

        With Correlation Data it answers that call alone, without all that wait on its topic.
        """
        if incoming.retain:
            return
        correlation = incoming.correlation_data
        for key, (topic, answered) in self._waiting.items():
            fits = correlation is None or correlation == key
            if topic == incoming.topic and fits and not answered.done():
                answered.set_result(incoming.payload)


def _payload(payload: Any) -> bytes:
    return payload.encode() if isinstance(payload, str) else msgspec.json.encode(payload)


def _line(text: str) -> str:
    return clip(one_line(text), _SHOWN)
