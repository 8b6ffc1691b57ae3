"""Requests in the outbox get to the bridge, whoever is away in between."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from bridge.client import Client, Unreachable
from bridge.client import outbox as module
from bridge.client.outbox import RequestOutbox
from bridge.contract.errors import InvalidInput
from tests.client.fakebridge import Broker, FakeBridge, fake_bridge
from tests.support.patience import PATIENCE_S

pytestmark = pytest.mark.broker


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "somewhere" / "outbox.db"


async def left(path: Path, owner: str = "comfy2mqtt/alice") -> list[str]:
    outbox = RequestOutbox(path, owner)
    found = await outbox.open()
    await outbox.close()
    return list(found)


async def test_what_was_not_accepted_is_sent_by_the_next_program(
    broker: Broker, fake: FakeBridge, path: Path
) -> None:
    async with Client(broker.url, "alice", outbox=path) as client:
        job = await client.submit("wf", prompt="a mill", job_id="j1", wait=False)
        assert job.workflow == "wf"
        assert client.posting == ["j1"]
        first = await fake.asked("submit")
    assert await left(path) == ["j1"]
    assert await left(path, "comfy2mqtt/bob") == []
    async with Client(broker.url, "alice", outbox=path) as client:
        again = await fake.asked("submit")
        assert again.body["inputs"] == first.body["inputs"] == {"prompt": "a mill"}
        assert again.body["job_id"] == "j1"
        await fake.accept(again)
        waiting = asyncio.create_task(client.job("j1").outcome())
        await fake.end("alice", fake.result("j1"))
        assert (await waiting).state == "succeeded"
        await client.flush()
    assert await left(path) == []


async def test_a_job_that_is_accepted_is_crossed_out(
    broker: Broker, fake: FakeBridge, path: Path
) -> None:
    async with Client(broker.url, "alice", outbox=path) as client:
        submitting = asyncio.create_task(client.submit("wf", job_id="j1"))
        asked = await fake.asked("submit")
        assert await left(path) == ["j1"]  # on disk before it is sent
        await fake.accept(asked)
        await submitting
        assert await left(path) == []


async def test_a_refusal_is_reported_where_the_job_is_waited_for(
    broker: Broker, fake: FakeBridge, path: Path
) -> None:
    async with Client(broker.url, "alice", outbox=path) as client:
        job = await client.submit("wf", wait=False)
        waiting = asyncio.create_task(job.result())
        await fake.refuse(await fake.asked("submit"), "invalid_input")
        with pytest.raises(InvalidInput):
            await waiting
        await client.flush()
        submitting = asyncio.create_task(client.submit("wf"))
        await fake.refuse(await fake.asked("submit"), "invalid_input")
        with pytest.raises(InvalidInput):
            await submitting
    assert await left(path) == []


async def test_a_busy_bridge_is_asked_again(
    broker: Broker, fake: FakeBridge, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_FIRST_AGAIN_S", 0.01)
    async with Client(broker.url, "alice", outbox=path) as client:
        await client.submit("wf", job_id="j1", wait=False)
        for code in ("busy", "quota_exceeded"):
            asked = await fake.asked("submit")
            await fake.refuse(asked, code)
            assert await left(path) == ["j1"]
        await fake.accept(await fake.asked("submit"))
        await client.flush()
    assert await left(path) == []


async def test_not_to_wait_needs_an_outbox(client: Client) -> None:
    with pytest.raises(ValueError, match="needs an outbox"):
        await client.submit("wf", wait=False)


async def test_a_file_that_is_no_outbox_is_an_error(broker: Broker, tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database " * 100)
    with pytest.raises(OSError, match=r"notes\.txt"):
        await Client(broker.url, "alice", outbox=path).__aenter__()


async def test_a_broker_that_is_away_from_the_start_gets_it_when_it_is_there(
    tmp_path: Path, path: Path
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"mqtt://127.0.0.1:{port}"
    with pytest.raises(Unreachable):
        await Client(url, "alice").__aenter__()
    async with Client(url, "alice", outbox=path) as client:
        job = await client.submit("wf", job_id="j1", wait=False)
        assert client.posting == ["j1"]
        async with Broker(tmp_path, port) as late, fake_bridge(late) as fake:
            async with asyncio.timeout(PATIENCE_S):
                await fake.accept(await fake.asked("submit"))
                await client.flush()
                await fake.end("alice", fake.result("j1"))
                assert (await job.outcome()).state == "succeeded"
    assert await left(path) == []


async def test_a_job_that_was_handed_in_twice_is_on_its_way_until_both_requests_are_answered(
    broker: Broker, fake: FakeBridge, path: Path
) -> None:
    async with Client(broker.url, "alice", outbox=path) as client:
        for _ in range(2):
            await client.submit("wf", job_id="j1", wait=False)
        first, second = await fake.asked("submit"), await fake.asked("submit")
        await fake.accept(first)
        other = asyncio.create_task(client.submit("wf", job_id="j2"))
        await fake.accept(await fake.asked("submit"))
        await other  # answered after the first
        assert client.posting == ["j1"]
        await fake.accept(second, duplicate=True)
        await client.flush()
        assert client.posting == []
