"""A client's bounds, and the estimates of its jobs, after the intake has moved."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from bridge.mosquitto import Mosquitto
from tests.end_to_end.group import Start, member
from tests.support.peer import Peer

pytestmark = [pytest.mark.comfyui, pytest.mark.postgresql]

PNG = b"\x89PNG\r\n\x1a\n"
# So many requests at once, ten seconds' worth, and then none for a long time.
BURST, PER_S = 4, 0.4


async def asks_until_refused(peer: Peer) -> int:
    """Send requests until one is refused; returns how many were granted before."""
    granted = 0
    while (answer := await peer.ask("list", {"limit": 1}))["status"] == "ok":
        granted += 1
    assert answer["error"]["code"] == "quota_exceeded"
    assert answer["error"]["details"]["setting"] == "clients.bob.requests_per_s"
    return granted


async def noted(journal: str, workflow: str) -> None:
    """Wait until the journal has how long a workflow takes, which is not written at once."""
    async with await psycopg.AsyncConnection.connect(journal, autocommit=True) as connection:
        query = "SELECT 1 FROM estimates WHERE workflow = %s"
        while (await (await connection.execute(query, (workflow,))).fetchone()) is None:
            pass


async def test_bytes_stay_bounded_estimates_stay_known_and_rates_begin_again_over_a_failover(
    start: Start, broker: Mosquitto, watcher: Peer, journal: str
) -> None:
    bounds = {"alice": {"max_uploads": 6000}, "bob": {"requests_per_s": PER_S}}
    first = await start("a", clients=bounds)
    await start("b", clients=bounds)
    async with Peer(broker.url) as alice, Peer(broker.url, client="bob") as bob:
        for peer in (alice, bob):
            await peer.listen()
        assert (await alice.ask("upload/one", PNG + b"x" * 2000))["data"]["complete"]
        assert (await alice.ask("run/slow/before"))["status"] == "ok"
        await alice.result("before")
        await noted(journal, "slow")
        assert await asks_until_refused(bob) >= BURST

        await first.kill()
        await member(watcher, "a", b"offline")
        error = (await alice.ask("upload/two", PNG + b"y" * 4000))["error"]
        assert (error["code"], error["details"]["setting"]) == (
            "quota_exceeded",
            "clients.alice.max_uploads",
        )
        assert (await alice.ask("upload/three", PNG + b"z" * 900))["data"]["complete"]
        # What another one has learnt is read when the intake is taken, a moment later.
        found: Any = {}
        while "eta_s" not in found:
            found = (await alice.ask("submit", {"workflow": "slow", "dry_run": True}))["data"]
        assert 0.3 < found["eta_s"] < 30
        # The next one begins to count: once more so many, and not without end. The request that the
        # killed one refused may come again, if that was not acknowledged yet, and counts there.
        assert BURST - 1 <= await asks_until_refused(bob) < 3 * BURST
