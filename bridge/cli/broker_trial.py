"""Tests of a broker's features, used as the bridge uses them, in a session of its own.

It subscribes to what the bridge subscribes to, publishes below `bridge/probe/`, and leaves nothing
behind: what it retained is cleared, and its session is ended.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from itertools import pairwise
from time import monotonic

from msgspec import Struct

from bridge.adapters.mqtt.restrictions import restrictions
from bridge.adapters.mqtt.subscriber import RECEIVE_WINDOW
from bridge.cli.diagnostics import Finding
from bridge.config import Config
from bridge.contract.topics import HomeAssistantTopics, Topics
from bridge.mqtt import (
    UNSPECIFIED,
    Address,
    Connection,
    ConnectionLost,
    Incoming,
    Publish,
    PublishProperties,
    PublishRefused,
    Subscription,
    Will,
    lower_limit,
    reason_of,
)
from bridge.requests.permissions import Permissions

# What is let through comes at once, or its bytes begin to; what is not never does.
_PATIENCE_S = 2.0
# A broker that does not keep the order may send it after what was sent behind it.
_LATE_S = {"5": 0.2, "3.1.1": 0.7}
# A gigabyte's picture is no better proof than one of eight megabytes.
_SIZES = (64 * 1024, 1024 * 1024, 8 * 1024 * 1024)
# A size that is expected to take longer is not tried.
_LONGEST_S = 20.0
_IN_ORDER = 30
_NAME_WIDTH = 14
# What brokers publish of themselves: mosquitto; EMQX and NanoMQ; VerneMQ.
SYSTEM_FILTERS = ("$SYS/broker/version", "$SYS/brokers/+/version", "$SYS/+/uptime")

# Clouds publish nothing of themselves, and are known by their names.
_CLOUDS = (
    (".amazonaws.com", "AWS IoT Core"),
    (".eventgrid.azure.net", "Azure Event Grid"),
    (".azure-devices.net", "Azure IoT Hub"),
    (".emqxsl.com", "EMQX Serverless"),
    (".emqx.cloud", "EMQX Cloud"),
    (".hivemq.cloud", "HiveMQ Cloud"),
    (".cloudamqp.com", "RabbitMQ at CloudAMQP"),
    (".cedalo.cloud", "Pro Mosquitto at Cedalo"),
)


class TrialResults(Struct):
    """The results of the tests; None: not known."""

    refused: dict[str, str] = {}
    forbidden: dict[str, str] = {}
    retained: bool | None = None
    retained_by_wildcard: bool | None = None
    properties: bool | None = None
    in_order: bool | None = None
    passes: int | None = None
    drops: int | None = None
    ends: int | None = None
    slow: bool = False


async def try_broker(settings: Config, address: Address) -> AsyncIterator[Finding]:
    """Yield what the broker gives, a line each. Raises MqttError if there is no connection."""
    topics = Topics(settings.base_topic)
    name = f"doctor-{secrets.token_hex(4)}"
    connection = _connection(settings, address, topics, name)
    async with connection:
        try:
            trial = _Trial(connection, topics, name)
            system = await trial.system()
            found = await trial.all(_filters(settings, topics))
        finally:
            # The session is to outlive its connection: a clean one takes its place, and ends.
            async with Connection(address, client_id=connection.client_id):
                pass
    known = name_of(address.host, system)
    yield _row("name", known or "not known")
    for row in rows(connection, found, session_s=settings.remember_ids_s):
        yield row


def _connection(settings: Config, address: Address, topics: Topics, name: str) -> Connection:
    return Connection(
        address,
        client_id=f"{settings.mqtt_client_id}-{name}",
        session_expiry=int(settings.remember_ids_s),
        will=Will(topic=topics.probe(name, "will"), qos=1, retain=True),
        packet_limit=settings.max_packet,
        receive_maximum=RECEIVE_WINDOW,
    )


def _filters(settings: Config, topics: Topics) -> list[str]:
    """Return what a bridge with these settings subscribes to."""
    home = HomeAssistantTopics(topics, settings.homeassistant_prefix)
    filters = [topics.requests, *topics.retained, *Permissions(settings.clients).input_topics]
    if settings.operator_verbs:
        filters.append(topics.commands)
    if settings.homeassistant:
        filters += [home.birth, *home.commands]
    return list(dict.fromkeys([*filters, *(each.topic for each in settings.trigger)]))


class _Trial:
    """The trials on one connection, one after the other."""

    def __init__(self, connection: Connection, topics: Topics, name: str) -> None:
        self._connection = connection
        self._topics = topics
        self._name = name
        self._found = TrialResults()

    async def system(self) -> dict[str, bytes]:
        """Return what the broker publishes of itself, as far as it lets us see it."""
        optional = [Subscription(filter=each, optional=True) for each in SYSTEM_FILTERS]
        await self._connection.subscribe(optional)
        await self._connection.subscribe([self._own("end")])
        came = await self._until_end()
        self._connection.unsubscribe(SYSTEM_FILTERS)
        return {each.topic: each.payload for each in came if each.topic.startswith("$SYS/")}

    async def all(self, filters: Sequence[str]) -> TrialResults:
        await self._subscriptions(filters)
        await self._rights()
        await self._retained()
        await self._order()
        await self._sizes()
        return self._found

    async def _subscriptions(self, filters: Sequence[str]) -> None:
        wanted = [Subscription(filter=each, optional=True, retain_handling=2) for each in filters]
        codes = await self._connection.subscribe(wanted)
        self._found.refused = {
            each: reason_of(code)
            for each, code in zip(filters, codes, strict=True)
            if code >= UNSPECIFIED
        }
        # Requests of clients are for the bridge.
        self._connection.unsubscribe(filters)

    async def _rights(self) -> None:
        """Publish where the bridge answers and describes; what nobody reads."""
        client = self._name
        for topic in (
            self._topics.response(client, "-"),
            self._topics.job(client, "-", "status"),
            f"{self._topics.reply(client)}-",
            self._topics.workflow(client),
            self._topics.comfyui(client),
        ):
            refusal = await self._publish(topic, b"")
            if refusal is not None:
                self._found.forbidden[topic] = refusal

    async def _retained(self) -> None:
        topic = self._topics.probe(self._name, "retained")
        properties = PublishProperties(
            content_type="text/plain", correlation_data=b"1", user_properties=[("a", "b")]
        )
        if await self._publish(topic, b"1", retain=True, properties=properties) is not None:
            return
        await self._connection.subscribe([self._own("retained")])
        came = await self._until_end()
        exact = [each for each in came if each.topic == topic]
        self._found.retained = any(each.retain for each in exact)
        self._connection.unsubscribe([topic])
        await self._connection.subscribe([self._own("+")])
        came = await self._until_end()
        self._found.retained_by_wildcard = any(each.topic == topic and each.retain for each in came)
        await self._publish(topic, b"", retain=True)
        live = self._topics.probe(self._name, "live")
        await self._publish(live, b"1", properties=properties)
        found = [each for each in await self._until_end() if each.topic == live]
        if found:
            self._found.properties = all(
                each.correlation_data == b"1" and each.user_properties == [("a", "b")]
                for each in found
            )

    async def _order(self) -> None:
        topic = self._topics.probe(self._name, "order")
        for number in range(_IN_ORDER):
            await self._publish(topic, str(number).encode(), qos=number % 2)
        came = [int(each.payload) for each in await self._until_end() if each.topic == topic]
        if came:
            self._found.in_order = came == sorted(came)

    async def _sizes(self) -> None:
        """Send itself ever larger messages. It comes last: the broker may end the connection."""
        topic = self._topics.probe(self._name, "size")
        wanted = list(_SIZES)
        limit = self._connection.packet_limit
        if limit is not None:
            room = Publish.of(topic, b"", qos=0, retain=False).room(limit)
            wanted = [
                *(each for each in wanted if each < room),
                *([room] if room < wanted[-1] else []),
            ]
        for size, larger in pairwise([*wanted, 0]):
            since = monotonic()
            try:
                await self._connection.publish(topic, bytes(size), qos=0)
                came = await self._until_end()
            except ConnectionLost:
                self._found.ends = size
                return
            if not any(len(each.payload) == size for each in came):
                self._found.drops = size
                return
            self._found.passes = size
            if (monotonic() - since) * larger / size > _LONGEST_S:
                self._found.slow = True
                return

    async def _publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 1,
        retain: bool = False,
        properties: PublishProperties | None = None,
    ) -> str | None:
        """Publish, and return why the broker refuses it; None: it does not."""
        try:
            await self._connection.publish(
                topic, payload, qos=qos, retain=retain, properties=properties or PublishProperties()
            )
        except PublishRefused as error:
            return error.reason
        return None

    def _own(self, what: str) -> Subscription:
        return Subscription(filter=self._topics.probe(self._name, what), optional=True)

    async def _until_end(self) -> list[Incoming]:
        """Return what came before a message that is sent now, and a moment after it."""
        end = self._topics.probe(self._name, "end")
        mark = secrets.token_bytes(8)
        await self._publish(end, mark)
        came: list[Incoming] = []
        patience_s = _PATIENCE_S
        while True:
            since = monotonic()
            try:
                async with asyncio.timeout(patience_s):
                    message = await anext(self._connection.messages)
            except TimeoutError:
                if self._connection.moved_at > since and patience_s == _PATIENCE_S:
                    continue  # a large message is on its way, slowly
                return came
            self._connection.ack(message)
            if message.topic == end and message.payload == mark:
                patience_s = _LATE_S[self._connection.version]
            else:
                came.append(message)


def rows(connection: Connection, found: TrialResults, *, session_s: float) -> Iterable[Finding]:
    """Yield a line for each thing that a broker may give. Pure but for what it is given."""
    connack = connection.connack
    limited = restrictions(
        connack, connection.version, session_s=session_s, packet_limit=connection.packet_limit
    )
    yield _row("MQTT", connection.version, limited.get("mqtt", ""))
    limit = connection.packet_limit
    yield _row(
        "packets",
        "no limit announced" if limit is None else f"at most {limit} bytes",
        limited.get("packet", ""),
    )
    if found.ends is not None:
        yield _row(
            "size",
            f"the broker disconnects at {found.ends} bytes",
            f"set max_packet = {lower_limit(found.ends)}: otherwise the bridge finds that out by "
            "losing a connection; clients fetch larger outputs in parts",
        )
    elif found.drops is not None:
        yield _row(
            "size",
            f"{found.drops} bytes at QoS 0 are silently dropped",
            "the bridge measures the limit, and clients fetch larger outputs in parts; or "
            "set max_packet",
        )
    elif found.passes is not None:
        yield _row(
            "size",
            f"{found.passes} bytes at QoS 0 are delivered",
            "the connection is too slow to test more" if found.slow else "",
        )
    yield _row("QoS", f"at most {min(connack.maximum_qos, 1)}", limited.get("qos", ""))
    yield _retained_row(found, limited.get("retain", ""))
    if found.in_order is not None:
        yield _row(
            "order",
            "kept" if found.in_order else "not kept",
            ""
            if found.in_order
            else "clients order messages by `n`, and wait for outputs after a result",
        )
    if found.properties is not None and connection.version == "5":
        yield _row(
            "properties",
            "pass" if found.properties else "get lost",
            "" if found.properties else "give each request a `transaction`",
        )
    kept = session_s if connack.session_expiry is None else connack.session_expiry
    lasting = "for ever" if connection.version != "5" else f"for {kept:.0f} s"
    yield _row("session", f"kept {lasting}", limited.get("session", ""))
    window = f"{connack.receive_maximum} messages at a time"
    yield _row("window", window, limited.get("window", ""))
    if connack.server_keep_alive is not None:
        yield _row("keep-alive", f"{connack.server_keep_alive} s, set by the broker")
    for filter_, reason in found.refused.items():
        needed = filter_.endswith("/client/+/request/#")
        yield _row(
            "subscribe",
            f"{filter_}: {reason}",
            "the bridge cannot work without it: allow its user to read that filter"
            if needed
            else "the bridge misses these messages: allow its user to read that filter",
            good=not needed,
        )
    for topic, reason in found.forbidden.items():
        advice = "allow the bridge's user to write there: docs/brokers.md"
        yield _row("publish", f"{topic}: {reason}", advice, good=False)


def _retained_row(found: TrialResults, follows: str) -> Finding:
    if found.retained is None:
        return _row("retained", "could not be tested", follows)
    if not found.retained:
        follows = follows or "clients request the retained messages by the verb `workflows`"
        return _row("retained", "nothing is", follows)
    if not found.retained_by_wildcard:
        return _row(
            "retained",
            "not sent to filters with a wildcard",
            "clients request them by the verb `workflows`; our clients do so by themselves",
        )
    return _row("retained", "also for wildcards")


def _row(name: str, found: str, follows: str = "", *, good: bool = True) -> Finding:
    return Finding(good=good, what=f"broker: {name:<{_NAME_WIDTH}} {found}", advice=follows)


def name_of(host: str, system: Mapping[str, bytes]) -> str | None:
    """Return a broker's name, with its version if it is known; None: it cannot be known.

    `system` are the messages at `SYSTEM_FILTERS`, by topic.
    """
    for topic, payload in system.items():
        text = payload.decode(errors="replace").strip()[:80]
        match topic.split("/"):
            case ["$SYS", "broker", "version"]:
                # "mosquitto version 2.0.11"; others give a bare number.
                return text.replace(" version ", " ") or None
            case ["$SYS", "brokers", node, "version"]:
                maker = "NanoMQ" if "nanomq" in node.lower() else "EMQX"
                return f"{maker} {text}"
            case ["$SYS", node, "uptime"] if "vernemq" in node.lower():
                return "VerneMQ"
    return next((name for end, name in _CLOUDS if host.lower().endswith(end)), None)
