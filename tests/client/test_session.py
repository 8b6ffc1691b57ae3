"""The broker's and the bridge's bad days."""

from __future__ import annotations

import asyncio

import pytest

from bridge.client import Client, Job
from bridge.client import session as session_module
from bridge.mqtt import ConnectionRefused, Incoming, Unreachable
from tests.client.fakebridge import (
    Broker,
    FakeBridge,
    fake_bridge,
    fetches,
    listed,
    submitted,
)

pytestmark = pytest.mark.broker


async def test_an_unanswered_request_is_sent_again_under_the_same_job_id(
    client: Client, fake: FakeBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "_FIRST_AGAIN_S", 0.01)
    submitting = asyncio.create_task(client.submit("wf"))
    first = await fake.asked("submit")
    again = await fake.asked("submit")
    assert again == first
    await fake.accept(again)
    assert (await submitting).id == first.body["job_id"]


async def test_a_request_is_sent_again_when_the_bridge_comes_back(
    client: Client, fake: FakeBridge
) -> None:
    await fake.publish("bridge/state", "online", retain=True)
    submitting = asyncio.create_task(client.submit("wf"))
    first = await fake.asked("submit")
    await fake.publish("bridge/state", "offline", retain=True)
    await fake.publish("bridge/state", "online", retain=True)
    again = await fake.asked("submit")
    assert again == first
    await fake.accept(again)
    await submitting


async def test_an_answer_that_fits_no_request_is_passed_over(
    client: Client, fake: FakeBridge
) -> None:
    submitting = asyncio.create_task(client.submit("wf"))
    asked = await fake.asked("submit")
    await fake.publish("client/alice/response/submit", "not JSON")
    await fake.publish("client/alice/response/submit", '{"status": "ok", "transaction": "other"}')
    await fake.accept(asked)
    await submitting


async def test_a_job_survives_a_restarted_broker(
    broker: Broker, client: Client, fake: FakeBridge
) -> None:
    job = await submitted(client, fake)
    waiting = asyncio.create_task(job.outputs())
    await broker.kill()
    await broker.start()
    async with fake_bridge(broker) as bridge:
        # It ended while the client was away: it asks.
        result = bridge.result(job.id, outputs=[listed(0, b"1234567")])
        view = bridge.view(job.id, "succeeded", result=result)
        await bridge.answer(await bridge.asked("status"), view)
        await fetches(bridge, b"1234567", 4)
        assert (await waiting)[0].data == b"1234567"


async def test_a_request_made_while_the_broker_is_away_waits_for_it(
    broker: Broker, client: Client, fake: FakeBridge
) -> None:
    del fake
    await broker.kill()
    submitting = asyncio.create_task(client.submit("wf", job_id="patient"))
    await broker.start()
    async with fake_bridge(broker) as bridge:
        assert await bridge.accept(await bridge.asked("submit")) == "patient"
        assert (await submitting).state == "queued"


async def test_what_is_still_asked_when_the_client_closes_fails(
    broker: Broker, fake: FakeBridge
) -> None:
    async with Client(broker.url, client="alice") as client:
        submitting = asyncio.create_task(client.submit("wf"))
        asked = await fake.asked("submit")
        waiting = asyncio.create_task(client.job("old").result())
        await fake.asked("status")
    assert asked.verb == "submit"
    for each in (submitting, waiting):
        with pytest.raises(RuntimeError, match="closed"):
            await each
    with pytest.raises(RuntimeError, match="closed"):
        await client.submit("wf")


async def test_an_exception_in_the_block_comes_out_as_it_is(broker: Broker) -> None:
    with pytest.raises(LookupError):
        async with Client(broker.url, client="alice"):
            raise LookupError


async def test_a_fault_of_the_clients_own_is_not_swallowed(broker: Broker) -> None:
    def stumble(_: Incoming) -> None:
        raise LookupError

    def run(client: Client) -> asyncio.Task[Job]:
        client._session._on_message = stumble
        return asyncio.create_task(client.submit("wf"))

    async def use() -> None:
        async with fake_bridge(broker) as fake, Client(broker.url, client="alice") as client:
            submitting = run(client)
            await fake.asked("submit")
            await fake.status("alice", "any", "running")
            with pytest.raises(LookupError):
                await submitting

    with pytest.raises(LookupError):
        await use()


async def test_entering_can_be_cancelled() -> None:
    async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(never, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await Client(f"mqtt://127.0.0.1:{port}", client="alice").__aenter__()


async def test_a_broker_that_is_not_there_is_reported_at_once(broker: Broker) -> None:
    await broker.stop()
    with pytest.raises(Unreachable):
        await Client(broker.url, client="alice").__aenter__()


async def test_a_broker_that_does_not_know_us_is_reported_at_once(broker: Broker) -> None:
    await broker.stop()
    broker.anonymous = "false"
    await broker.start()
    with pytest.raises(ConnectionRefused):
        await Client(broker.url, client="alice").__aenter__()
