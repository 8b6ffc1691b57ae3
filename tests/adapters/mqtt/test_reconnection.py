"""Results at a real broker whose PUBACKs are late: what clients receive, and what they ack."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

from bridge.adapters.mqtt.last_values import LastValues
from bridge.adapters.mqtt.publisher import Publisher
from bridge.adapters.mqtt.retained import Retained
from bridge.adapters.mqtt.subscriber import BrokerSettings, Subscriber
from bridge.contract.numbering import Numbered
from bridge.contract.topics import Topics
from bridge.jobs.job import Envelope
from bridge.jobs.journal import Journal
from bridge.jobs.queue import Key
from bridge.mosquitto import Mosquitto
from bridge.mqtt import Address
from bridge.retry import Backoff
from tests.jobs.drafts import draft
from tests.support.patience import PATIENCE_S
from tests.support.peer import Peer
from tests.support.tcpproxy import TcpProxy

SUBACK = b"\x90"
RESULT = Numbered(b'{"n": ', b"}")
TOPICS = Topics()


class Connected:
    """A bridge's journal, and its way to a broker through a proxy."""

    def __init__(self, journal: Journal, proxy: TcpProxy) -> None:
        self.journal = journal
        self.publisher = Publisher(
            TOPICS,
            delivered=journal.published,
            passed_over=journal.passed_over,
            keep_results_s=100,
            keep_outputs_s=100,
        )
        self.online = asyncio.Event()
        retained = Retained(TOPICS, self.publisher, None)
        say_online = retained.online

        def online() -> None:
            say_online()
            self.online.set()

        cast("Any", retained).online = online
        address = Address(host="127.0.0.1", port=urlsplit(proxy.url).port or 0)
        self.subscriber = Subscriber(
            BrokerSettings(address, "bridge", 60.0, None, ()),
            topics=TOPICS,
            handler=cast("Any", None),  # nobody asks for anything
            journal=journal,
            publisher=self.publisher,
            retained=retained,
            last_values=LastValues(),
            connected=lambda _: None,
        )
        self.subscriber._reconnect._backoff = Backoff(draw=lambda *_: 0.0)

    async def finish(self, job_id: str) -> int:
        """End a job, and publish its result, as the bridge does."""
        key = Key("alice", job_id)
        result = await self.journal.finish(key, state="succeeded", result=RESULT, now=2.0)
        self.publisher.result(key, Envelope(), result)
        return int(result.removeprefix(b'{"n": ').removesuffix(b"}"))


@asynccontextmanager
async def connected(broker: Mosquitto, folder: Path) -> AsyncIterator[tuple[Connected, TcpProxy]]:
    journal = Journal(folder / "journal.db")
    await journal.open()
    for job_id in ("a", "b", "c"):
        await journal.accept(draft(job_id), 1.0)
    async with asyncio.timeout(PATIENCE_S), TcpProxy(f"http://127.0.0.1:{broker.port}") as proxy:
        bridge = Connected(journal, proxy)
        proxy.hold_answers(SUBACK)
        running = asyncio.create_task(bridge.subscriber.run())
        yield bridge, proxy
        bridge.subscriber.close()
        proxy.release()
        await running
    await journal.close()


async def received(peer: Peer, count: int) -> list[str]:
    """Return the jobs whose results came, in the order in which they did."""
    topics = [(await peer.next(TOPICS.job("alice", "+", "result"))).topic for _ in range(count)]
    return [topic.split("/")[4] for topic in topics]


async def test_what_ends_while_a_suback_is_late_does_not_pass_what_was_missed(
    broker: Mosquitto, tmp_path: Path
) -> None:
    async with Peer(broker.url) as peer, connected(broker, tmp_path) as (bridge, proxy):
        await peer.listen()
        await bridge.finish("a")  # there is no connection yet
        await proxy.holds()
        await bridge.finish("b")
        proxy.release()
        await bridge.online.wait()
        await bridge.finish("c")
        assert await received(peer, 3) == ["a", "b", "c"]


async def test_a_link_that_breaks_before_its_suback_leaves_nothing_acked_unheard(
    broker: Mosquitto, tmp_path: Path
) -> None:
    async with Peer(broker.url) as peer, connected(broker, tmp_path) as (bridge, proxy):
        await peer.listen()
        await bridge.finish("a")
        await proxy.holds()
        await bridge.finish("b")
        proxy.cut()
        proxy.release()
        await bridge.online.wait()
        (first,) = await received(peer, 1)
        # A client that received a result has those with lower numbers.
        assert first == "a"
        n = (await bridge.journal.get(Key("alice", "a"))).n
        assert await bridge.journal.ack("alice", n) == 1
