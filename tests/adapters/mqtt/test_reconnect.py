"""The loop of connections: what is tried again, what ends it, and how it is closed."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, cast

import pytest

from bridge.adapters.mqtt.broker_address import CERTIFICATE
from bridge.adapters.mqtt.reconnect import Reconnect
from bridge.jobs.database import DatabaseError
from bridge.mqtt import (
    SESSION_TAKEN_OVER,
    BadAddress,
    BadCertificate,
    ConnectionLost,
    ConnectionRefused,
    SubscribeRefused,
    Unreachable,
)
from bridge.retry import Backoff
from tests.adapters.mqtt.links import FakeConnection, until
from tests.support.patience import PATIENCE_S


class Attempts:
    """Fails as the test wants, then is closed."""

    def __init__(
        self, *errors: Exception | None, connects: bool = False, was_up: bool = False
    ) -> None:
        self.errors = list(errors)
        self.connects = connects
        self.lost: list[ConnectionLost | None] = []
        self.pauses: list[float] = []
        self.reconnect = Reconnect(
            self.use,
            self.lost.append,
            backoff=Backoff(draw=self.draw, first=1.0, cap=4.0),
            was_up=was_up,
        )

    def draw(self, _low: float, high: float) -> float:
        self.pauses.append(high)
        return 0.0

    async def use(self) -> None:
        if self.connects:
            self.reconnect.connected()
        error = self.errors.pop(0)
        if not self.errors:
            self.reconnect.close()
        if error is not None:
            raise error


async def test_what_passes_is_tried_again_ever_more_slowly(
    caplog: pytest.LogCaptureFixture,
) -> None:
    lost = ConnectionLost("gone")
    attempts = Attempts(
        Unreachable("no route"), lost, SubscribeRefused("t", 0x87), DatabaseError("away"), None
    )
    await attempts.reconnect.run()
    assert attempts.lost == [None, lost, None, None, None]
    assert attempts.pauses == [1.0, 2.0, 4.0, 4.0, 4.0]
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 4


async def test_the_first_line_about_a_broker_that_is_not_there_says_what_to_do(
    caplog: pytest.LogCaptureFixture,
) -> None:
    await Attempts(Unreachable("no route"), Unreachable("no route"), None).reconnect.run()
    first, second = caplog.messages
    assert first == (
        "no route; is a broker running there? mqtt_url, or -H and -p, name another; trying again"
    )
    assert second == "no route"
    caplog.clear()
    await Attempts(BadCertificate("it has expired"), None).reconnect.run()
    assert caplog.messages == [f"it has expired; {CERTIFICATE}"]
    caplog.clear()
    await Attempts(Unreachable("no route"), None, connects=True).reconnect.run()
    assert caplog.messages == ["no route"]


async def test_bad_credentials_end_it_unless_they_were_good_before() -> None:
    with pytest.RaisesGroup(ConnectionRefused):
        await Attempts(ConnectionRefused(0x86), None).reconnect.run()
    attempts = Attempts(ConnectionRefused(0x86), None, connects=True)
    await attempts.reconnect.run()
    assert attempts.errors == []
    attempts = Attempts(ConnectionRefused(0x88), None)
    await attempts.reconnect.run()
    assert attempts.errors == []


async def test_a_file_that_cannot_be_read_ends_it_unless_it_could_before(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.RaisesGroup(BadAddress):
        await Attempts(BadAddress("no CA file"), None).reconnect.run()
    attempts = Attempts(BadAddress("no CA file"), None, connects=True)
    await attempts.reconnect.run()
    assert (attempts.errors, caplog.messages) == ([], ["no CA file"])


async def test_nothing_that_may_pass_ends_a_bridge_that_the_broker_took_before(
    caplog: pytest.LogCaptureFixture,
) -> None:
    attempts = Attempts(
        BadAddress("no CA file"), ConnectionRefused(0x86), Unreachable("gone"), None, was_up=True
    )
    await attempts.reconnect.run()
    assert attempts.errors == []
    assert caplog.messages == ["no CA file", str(ConnectionRefused(0x86)), "gone"]


async def test_a_defect_ends_it() -> None:
    with pytest.raises(ZeroDivisionError):
        await Attempts(ZeroDivisionError(), None).reconnect.run()


async def test_closing_disconnects_and_ends_the_messages() -> None:
    log: list[Any] = []
    connection = FakeConnection(log)
    taken: list[int] = []

    async def use() -> None:
        async with connection, reconnect.closable(cast("Any", connection)):
            async for incoming in connection.messages:
                taken.append(incoming.mid)  # noqa: PERF401 - they come one after the other

    reconnect = Reconnect(use, log.append)
    running = asyncio.create_task(reconnect.run())
    connection.deliver("t", 1)
    await until(lambda: taken == [1])
    reconnect.close()
    async with asyncio.timeout(PATIENCE_S):
        await running
    assert log == ["connected", "disconnected", "left", None]


async def test_closing_ends_an_attempt_that_no_broker_answers() -> None:
    log: list[Any] = []

    async def use() -> None:
        await asyncio.Event().wait()

    reconnect = Reconnect(use, log.append)
    running = asyncio.create_task(reconnect.run())
    await asyncio.sleep(0)
    reconnect.close()
    async with asyncio.timeout(PATIENCE_S):
        await running
    assert log == [None]


async def test_a_loss_within_the_block_is_a_loss() -> None:
    log: list[Any] = []
    connection = FakeConnection(log)

    async def use() -> None:
        async with connection, reconnect.closable(cast("Any", connection)):
            connection.lose()
            async for _ in connection.messages:
                raise AssertionError

    def lost(loss: ConnectionLost | None) -> None:
        log.append(loss)
        reconnect.close()

    reconnect = Reconnect(use, lost)
    async with asyncio.timeout(PATIENCE_S):
        await reconnect.run()
    assert isinstance(log[-1], ConnectionLost)
    assert "disconnected" not in log


async def test_a_second_bridge_under_the_same_client_id_is_reported(
    caplog: pytest.LogCaptureFixture,
) -> None:
    attempts = Attempts(ConnectionLost("session taken over", SESSION_TAKEN_OVER), None)
    await attempts.reconnect.run()
    assert "most likely a second bridge" in caplog.messages[-1]
    assert "mqtt_client_id" in caplog.messages[-1]


async def test_it_is_reported_too_where_the_broker_only_hangs_up_again_and_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    hung_up, too_large = ConnectionLost("it hung up"), ConnectionLost("packet too large", 0x95)
    for lost, connects, told in ((hung_up, True, 1), (hung_up, False, 0), (too_large, True, 0)):
        caplog.clear()
        attempts = Attempts(lost, lost, lost, lost, None, connects=connects)
        await attempts.reconnect.run()
        assert sum("most likely a second bridge" in each for each in caplog.messages) == told
