"""A client that is not ours: paho, as a script would use it, in MQTT 3.1.1 or 5."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import paho.mqtt.client as paho
from msgspec import Struct
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.support.patience import PATIENCE_S


class Message(Struct, frozen=True):
    """The messages that a peer received."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    properties: dict[str, Any]

    @property
    def json(self) -> Any:
        return json.loads(self.payload)

    @property
    def user(self) -> dict[str, str]:
        """User Properties, each name once."""
        return dict(self.properties.get("UserProperty", ()))


class Peer:
    """Use as `async with Peer(url) as peer`. Waits end with an error that tells what did come."""

    def __init__(
        self,
        url: str,
        *,
        version: int = 5,
        client_id: str = "",
        session_s: int | None = None,
        base: str = "comfy2mqtt",
        client: str = "alice",
    ) -> None:
        """With `session_s` the broker keeps this peer's session while it is away."""
        self.base = base
        self.client = client
        self.messages: list[Message] = []
        self.url = url
        self._url = urlsplit(url)
        self._version = version
        self._session_s = session_s
        # The numbers of the messages that no wait has returned, by topic.
        self._untaken: dict[str, dict[int, None]] = {}
        self._arrived = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        protocol = MQTTProtocolVersion.MQTTv5 if version == 5 else MQTTProtocolVersion.MQTTv311
        clean = None if version == 5 else session_s is None
        self._paho = paho.Client(
            CallbackAPIVersion.VERSION2, client_id, clean_session=clean, protocol=protocol
        )
        self._paho.on_message = self._on_message
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._paho.on_connect = lambda *args: self._answer(0, args[3])
        self._paho.on_subscribe = lambda *args: self._answer(args[2], args[3])

    async def __aenter__(self) -> Self:
        properties = None
        if self._version == 5:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call] # paho's
            if self._session_s is not None:
                properties.SessionExpiryInterval = self._session_s
        if self._url.username:
            self._paho.username_pw_set(self._url.username, self._url.password)
        done = self._answers[0] = self._loop.create_future()
        host, port = self._url.hostname or "", self._url.port or 1883
        if self._version == 5:
            clean = self._session_s is None
            self._paho.connect(host, port, clean_start=clean, properties=properties)
        else:
            self._paho.connect(host, port)
        self._paho.loop_start()
        async with asyncio.timeout(PATIENCE_S):
            code = await done
        assert not code.is_failure, code
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._paho.disconnect()
        await asyncio.to_thread(self._paho.loop_stop)
        # Left to the garbage collector, they may be found open: it knows no order.
        self._paho._reset_sockets()

    async def subscribe(self, *filters: str, qos: int = 1) -> None:
        for each in filters:
            _, mid = self._paho.subscribe(each, qos)
            assert mid is not None
            done = self._answers[mid] = self._loop.create_future()
            async with asyncio.timeout(PATIENCE_S):
                await done

    def without_delay(self) -> None:
        """Send each packet at once: one behind a PUBACK would wait for the other side's 40 ms."""
        connected = self._paho.socket()
        assert isinstance(connected, socket.socket)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    async def listen(self) -> None:
        """Subscribe to everything that concerns this peer's client."""
        tree = f"{self.base}/client/{self.client}"
        await self.subscribe(
            f"{tree}/response/#", f"{tree}/job/#", f"{tree}/set/#", f"{tree}/reply/#"
        )

    def publish(
        self, topic: str, payload: Any = b"", *, qos: int = 1, retain: bool = False, **fields: Any
    ) -> None:
        """Publish; `fields` are MQTT 5 properties by paho's names."""
        if isinstance(payload, dict | list):
            payload = json.dumps(payload)
        properties = None
        if fields:
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call] # paho's
            for name, value in fields.items():
                setattr(properties, name, value)
        self._paho.publish(topic, payload, qos, retain, properties)

    def request(self, verb: str, payload: Any = b"", **options: Any) -> None:
        """Publish a request of this peer's client, such as `run/demo/j1`."""
        self.publish(f"{self.base}/client/{self.client}/request/{verb}", payload, **options)

    async def ask(self, verb: str, payload: Any = b"", **options: Any) -> Any:
        """Publish a request and return the answer's JSON."""
        self.request(verb, payload, **options)
        return (await self.response(verb.partition("/")[0])).json

    async def response(self, verb: str) -> Message:
        return await self.next(f"{self.base}/client/{self.client}/response/{verb}")

    async def result(self, job_id: str, timeout_s: float = PATIENCE_S) -> Any:
        """Wait for a job's result and return its JSON."""
        return (await self.job(job_id, "result", timeout_s=timeout_s)).json

    async def no_position(self, job_id: str) -> None:
        """Ask until a job waits here no longer, but is at ComfyUI."""
        while "position" in (await self.ask("status", job_id))["data"]:
            pass

    async def job(
        self,
        job_id: str,
        what: str,
        where: Callable[[Message], bool] = lambda _: True,
        timeout_s: float = PATIENCE_S,
    ) -> Message:
        topic = f"{self.base}/client/{self.client}/job/{job_id}/{what}"
        return await self.next(topic, where, timeout_s)

    async def next(
        self,
        topic: str,
        where: Callable[[Message], bool] = lambda _: True,
        timeout_s: float = PATIENCE_S,
    ) -> Message:
        """Wait for the next message on a topic or filter that no wait has returned before."""
        try:
            async with asyncio.timeout(timeout_s):
                found = sorted(self._untaken_on(topic))
                while True:
                    self._arrived.clear()
                    for index in found:
                        if where(self.messages[index]):
                            return self._taken(index)
                    seen = len(self.messages)
                    await self._arrived.wait()
                    # Of many messages none is looked at twice.
                    found = self._untaken_since(seen, topic)
        except TimeoutError:
            came = [f"{each.topic} {each.payload[:300]!r}" for each in self.messages]
            raise AssertionError("\n".join((f"nothing on {topic}; what came:", *came))) from None

    def all(self, topic: str) -> list[Message]:
        """Return every message on a topic or filter so far."""
        return [message for message in self.messages if _matches(topic, message.topic)]

    def repeat(self, message: Message) -> None:
        """Make a message come once more, for another wait."""
        self._take(message)

    def forget(self) -> None:
        """Forget every message so far."""
        self.messages.clear()
        self._untaken.clear()

    def of_job(self, job_id: str, what: str = "#") -> list[Message]:
        return self.all(f"{self.base}/client/{self.client}/job/{job_id}/{what}")

    def _untaken_on(self, topic: str) -> Iterator[int]:
        if topic in self._untaken:
            yield from self._untaken[topic]
        elif set(topic) & set("+#"):
            for name, untaken in self._untaken.items():
                if _matches(topic, name):
                    yield from untaken

    def _untaken_since(self, start: int, topic: str) -> list[int]:
        return [
            index
            for index, message in enumerate(self.messages[start:], start)
            if index in self._untaken.get(message.topic, ()) and _matches(topic, message.topic)
        ]

    def _taken(self, index: int) -> Message:
        message = self.messages[index]
        untaken = self._untaken[message.topic]
        del untaken[index]
        if not untaken:
            del self._untaken[message.topic]
        return message

    def _on_message(self, _client: paho.Client, _data: Any, got: paho.MQTTMessage) -> None:
        names = (
            *("ContentType", "CorrelationData", "MessageExpiryInterval", "ResponseTopic"),
            "UserProperty",
        )
        found = {name: getattr(got.properties, name, None) for name in names}
        properties = {name: value for name, value in found.items() if value is not None}
        message = Message(got.topic, bytes(got.payload), got.qos, bool(got.retain), properties)
        self._loop.call_soon_threadsafe(self._take, message)

    def _take(self, message: Message) -> None:
        self._untaken.setdefault(message.topic, {})[len(self.messages)] = None
        self.messages.append(message)
        self._arrived.set()

    def _answer(self, key: int, value: Any) -> None:
        def set_it() -> None:
            future = self._answers.get(key)
            if future is not None and not future.done():
                future.set_result(value)

        self._loop.call_soon_threadsafe(set_it)


@lru_cache(100_000)  # paho's way takes long
def _matches(topic_filter: str, topic: str) -> bool:
    return paho.topic_matches_sub(topic_filter, topic)


@contextmanager
def no_more(peer: Peer, topic: str) -> Iterator[None]:
    """Assert that nothing comes on a topic while the block runs."""
    before = len(peer.all(topic))
    yield
    assert len(peer.all(topic)) == before
