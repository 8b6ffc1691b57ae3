"""The web adapter: a connection's memory, the time until many receive a message, its latency."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable
from contextlib import AsyncExitStack, closing
from typing import Any

from msgspec import Struct
from websockets.asyncio.client import connect

from bridge.adapters.web import frames
from bridge.mqtt import Address, Connection, Subscription
from tests.bench.browsers import Readers, WebServer, broadcasting, connected, web_server
from tests.bench.figures import Spread, compare, p50
from tests.bench.processes import memory, processor_s
from tests.bench.report import Aim, Row
from tests.bench.stand import NOWHERE, Measurement, Stand
from tests.support.bridge import BridgeProcess
from tests.support.visitor import Visitor

MANY = 1000
SOME = 200
MESSAGES = 50
FEW = 20
TURNS = 20
REQUESTS = 200
SIZE = 1024
WAITING = 8 * 1024 * 1024
_KB = 1000.0

CONNECTION = Aim(25.0)
AS_FAST = Aim(1.0, at_least=True)
UNDISTURBED = Aim(1.2)
ROUND_TRIP = Aim(1.3)

_BASE = "comfy2mqtt"
_OTHER = "comfy2mqtt/client/plain"


async def measure(stand: Stand) -> list[Row]:
    """Measure idle connections, fan-out beside `broadcast`, a stalled reader, and a round trip."""
    return [
        await _idle(stand),
        *await _fan_out(stand),
        await _stalled(stand),
        *await _latency(stand),
    ]


async def _idle(stand: Stand) -> Row:
    each: list[float] = []
    for _ in range(stand.rounds):
        async with (
            stand.broker() as broker,
            web_server(stand, broker, websocket_max_per_key=MANY) as one,
        ):
            async with Readers(one, 10):
                pass
            before = memory(one.pid).resident
            async with Readers(one, MANY):
                each.append((memory(one.pid).resident - before) / MANY / _KB)
        stand.tell(f"{MANY} idle connections: {each[-1]:.1f} KB each")
    what = f"web adapter: an idle connection, of {MANY}"
    return Row(what=what, unit="KB", value=Spread.of(each), aim=CONNECTION)


async def _fan_out(stand: Stand) -> list[Row]:
    """Messages that arrive, all connections together: a second, and a processor's second."""
    ours, alone = Sending([], []), Sending([], [])
    payload = _status(SIZE)
    async with (
        stand.broker() as broker,
        Connection(Address.parse(broker.url)) as bridge,
        web_server(stand, broker, websocket_max_per_key=MANY) as one,
        broadcasting(stand) as other,
    ):
        for number in range(stand.rounds):
            async with Readers(one, MANY) as readers:
                await ours.note(one, _time_to_all(bridge, readers, payload, MESSAGES))
            async with Readers(other, MANY) as readers:
                await alone.note(other, _broadcast(other, readers))
            stand.tell(
                f"round {number + 1} of {stand.rounds}: {ours.by_clock[-1][0]:.0f} messages a "
                f"second, broadcast {alone.by_clock[-1][0]:.0f}"
            )
    what = f"web adapter: {SIZE} B to {MANY} connections, over websockets.broadcast"
    by_clock = compare(ours.by_clock, alone.by_clock, p50)
    by_processor = compare(ours.by_processor, alone.by_processor, p50)
    return [
        Row.compared(what, "messages/s", by_clock, AS_FAST),
        Row.compared(f"{what}, by the server's processor time", "messages/s", by_processor),
    ]


class Sending(Struct):
    """Messages a second, and a second of the server's processor time, by round."""

    by_clock: list[list[float]]
    by_processor: list[list[float]]

    async def note(self, served: WebServer, sending: Awaitable[float]) -> None:
        """Watch one round; `sending` gives how long it took."""
        before = processor_s(served.pid)
        count = MANY * MESSAGES
        self.by_clock.append([count / await sending])
        self.by_processor.append([count / max(0.01, processor_s(served.pid) - before)])


async def _stalled(stand: Stand) -> Row:
    """Measure how much later all browsers get a message, with one among them that reads nothing.

    By two adapters in turn, each with its own base topic.
    """
    with_one: list[list[float]] = []
    without: list[list[float]] = []
    payload = _status(SIZE)
    # All readers have the same key: together they may have all of the output waiting for them.
    settings = {"websocket_max_per_key": 2 * SOME, "websocket_buffer": SOME * WAITING}
    async with (
        stand.broker() as broker,
        Connection(Address.parse(broker.url)) as bridge,
        web_server(stand, broker, base_topic="stalled", **settings) as one,
        web_server(stand, broker, base_topic="calm", **settings) as other,
        Readers(one, SOME - 1) as beside,
        Readers(other, SOME - 1) as undisturbed,
    ):
        with closing(await connected(one)):
            # So much waits for it that it is not dropped, and not served by the kernel alone.
            await _output(bridge, beside, "stalled", WAITING)
            for number in range(stand.rounds):
                with_one.append([])
                without.append([])
                for _ in range(TURNS):
                    took = await _time_to_all(bridge, beside, payload, FEW, "stalled")
                    with_one[-1].append(took * 1000)
                    took = await _time_to_all(bridge, undisturbed, payload, FEW, "calm")
                    without[-1].append(took * 1000)
                stand.tell(f"round {number + 1} of {stand.rounds}: {p50(with_one[-1]):.0f} ms")
    what = f"web adapter: {FEW} messages to {SOME}, one of them stalled, over none stalled"
    return Row.compared(what, "ms", compare(with_one, without, p50), UNDISTURBED)


async def _latency(stand: Stand) -> list[Row]:
    """The round trip of a small request, by WebSocket and by MQTT, in turns.

    A request that the adapter answers itself shows its own cost, without broker and bridge.
    """
    ours: list[list[float]] = []
    alone: list[list[float]] = []
    plain: list[list[float]] = []
    async with stand.broker() as broker, AsyncExitStack() as stack:
        bridge = stand.bridge(BridgeProcess, broker, {}, comfyui_url=NOWHERE)
        stack.push_async_exit(bridge.__aexit__)
        await bridge.start(ready=False)
        one = await stack.enter_async_context(web_server(stand, broker, websocket_rate=10_000))
        url = f"ws://127.0.0.1:{one.port}/ws"
        browser = await stack.enter_async_context(Visitor(url, one.key))
        await browser.next("bridge", lambda each: each["state"] == "online")
        mqtt = await stack.enter_async_context(Connection(Address.parse(broker.url)))
        await mqtt.subscribe([Subscription(filter=f"{_OTHER}/response/+")])
        for number in range(stand.rounds):
            ours.append([await _asked(browser, "status", job_id="none") for _ in range(REQUESTS)])
            alone.append([await _asked(browser, "ping") for _ in range(REQUESTS)])
            plain.append([await _asked_plainly(mqtt) for _ in range(REQUESTS)])
            stand.tell(f"round {number + 1} of {stand.rounds}: {p50(ours[-1]):.2f} ms")
    what = "web adapter: a request and its answer, p50, over plain MQTT"
    own = (
        "web adapter: a request that it answers itself, p50, "
        "over a request and its answer by plain MQTT"
    )
    return [
        Row.compared(what, "ms", compare(ours, plain, p50), ROUND_TRIP),
        Row.compared(own, "ms", compare(alone, plain, p50)),
    ]


async def _time_to_all(
    bridge: Connection, readers: Readers, payload: bytes, count: int, base: str = _BASE
) -> float:
    """Publish statuses and return the seconds until everybody has them."""
    readers.expect(len(frames.spliced("status", payload)) * count)
    began = time.perf_counter()
    for _ in range(count):
        bridge.publish(f"{base}/client/bench/job/j/status", payload, qos=0)
    await readers.arrived()
    return time.perf_counter() - began


async def _output(bridge: Connection, readers: Readers, base: str, size: int) -> None:
    readers.expect(size)
    bridge.publish(f"{base}/client/bench/job/j/output/0", bytes(size), qos=0)
    await readers.arrived()


async def _broadcast(served: WebServer, readers: Readers) -> float:
    text = "x" * SIZE
    async with connect(f"ws://127.0.0.1:{served.port}/ws", proxy=None) as control:
        readers.expect(len(frames.framed(text.encode(), binary=False)) * MESSAGES)
        began = time.perf_counter()
        await control.send(f"{MESSAGES} {text}")
        await readers.arrived()
        return time.perf_counter() - began


async def _asked(browser: Visitor, verb: str, **fields: Any) -> float:
    # A visitor keeps all frames that it received, and searches them.
    browser.frames.clear()
    browser._taken.clear()
    began = time.perf_counter()
    await browser.ask(verb, **fields)
    return (time.perf_counter() - began) * 1000


async def _asked_plainly(mqtt: Connection) -> float:
    began = time.perf_counter()
    mqtt.publish(f"{_OTHER}/request/status", b'{"job_id":"none"}')
    async with asyncio.timeout(30):
        mqtt.ack(await anext(mqtt.messages))
    return (time.perf_counter() - began) * 1000


def _status(size: int) -> bytes:
    body = {"job_id": "j", "workflow": "w", "n": 1, "state": "running", "attempt": 1, "meta": ""}
    short = len(frames.spliced("status", json.dumps(body).encode()))
    return json.dumps({**body, "meta": "x" * (size - short)}).encode()


MEASUREMENT = Measurement("browsers", "the web adapter", measure, comfyui=False)
