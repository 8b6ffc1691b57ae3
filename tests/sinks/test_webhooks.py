from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from bridge.contract.errors import Forbidden
from bridge.contract.numbering import Numbered
from bridge.jobs.database import LeaseLost
from bridge.jobs.job import Envelope, ResultWebhook
from bridge.jobs.journal import Journal, webhooks
from bridge.jobs.journal.webhooks import PendingWebhook
from bridge.jobs.queue import Key
from bridge.media.download import AllowedHosts
from bridge.sinks import schedule, signature
from bridge.sinks.webhooks import AT_ONCE, WebhookSender
from tests.jobs.drafts import draft
from tests.sinks.servers import Receiver, in_turn, never
from tests.support.patience import PATIENCE_S

KEY = bytes(32)
HERE = AllowedHosts(("127.0.0.1",), "x")
RESULT = Numbered(b'{"job_id":"j1","n":', b"}")


async def end(journal: Journal, job_id: str, *urls: str, client: str = "alice") -> None:
    """End a job whose result is to be sent to some URLs."""
    hooks = [ResultWebhook(url) for url in urls]
    await journal.accept(draft(job_id, client=client, envelope=Envelope(webhooks=hooks)), 1.0)
    now, key = journal.clock.now(), Key(client, job_id)
    new = webhooks.new("job", key, "succeeded", hooks, now=now, shown=1_700_000_000.5)
    await journal.finish(key, state="succeeded", result=RESULT, now=now, hooks=new)


async def waiting(journal: Journal) -> list[PendingWebhook]:
    return await journal.webhooks.due(9e18, (), 1000)


class Sent:
    """The outcomes of webhooks."""

    def __init__(self) -> None:
        self.given_up: list[tuple[PendingWebhook, str]] = []
        self.over = asyncio.Event()

    def gave_up(self, hook: PendingWebhook, problem: str) -> None:
        self.given_up.append((hook, problem))
        self.over.set()


@asynccontextmanager
async def sending(
    journal: Journal,
    check: Callable[[PendingWebhook], AllowedHosts] = lambda _: HERE,
    **options: Any,
) -> AsyncIterator[Sent]:
    sent = Sent()
    room = WebhookSender(journal, key=lambda: KEY, check=check, gave_up=sent.gave_up, **options)
    running = asyncio.create_task(room.run())
    try:
        yield sent
        assert not running.done()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def empty(journal: Journal) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while await waiting(journal):  # the journal's thread has its turn each time
            pass


async def test_a_result_is_sent_signed_once_it_is_written(
    journal: Journal, receiver: Receiver
) -> None:
    async with sending(journal):
        await end(journal, "j1", receiver.url())
        await empty(journal)
    (taken,) = receiver.taken
    body = json.loads(taken.body)
    assert body["type"] == "job.succeeded"
    assert body["timestamp"] == "2023-11-14T22:13:20.500Z"
    assert (body["client"], body["data"]["job_id"]) == ("alice", "j1")
    assert body["data"]["n"] > 0
    sent = {name: taken.headers[name] for name in ("webhook-id", "webhook-timestamp")}
    at = int(sent["webhook-timestamp"])
    signed = signature.headers(KEY, "alice", sent["webhook-id"], at, taken.body)
    assert taken.headers["webhook-signature"] == signed["webhook-signature"]


async def test_one_that_is_refused_is_sent_again_under_the_same_id(
    journal: Journal, receiver: Receiver
) -> None:
    receiver.answer = in_turn(500, 404, 200)
    async with sending(journal, pauses=lambda *_: 0.01) as sent:
        await end(journal, "j1", receiver.url())
        await empty(journal)
    assert len(receiver.taken) == 3
    assert len({each.headers["webhook-id"] for each in receiver.taken}) == 1
    assert sent.given_up == []


async def test_one_that_was_not_sent_when_the_bridge_died_is_sent_by_the_next(
    journal: Journal, receiver: Receiver
) -> None:
    await end(journal, "j1", receiver.url())
    assert receiver.taken == []
    async with sending(journal):
        await empty(journal)
    assert len(receiver.taken) == 1


async def test_one_that_nobody_takes_is_given_up_and_reported(
    journal: Journal, receiver: Receiver
) -> None:
    receiver.answer = in_turn(500)
    async with sending(journal, pauses=lambda n, _: 0.01 if n < 3 else None) as sent:
        await end(journal, "j1", receiver.url("/x?secret"))
        await asyncio.wait_for(sent.over.wait(), PATIENCE_S)
    ((hook, problem),) = sent.given_up
    assert (hook.name, problem) == ("j1", "the server answers 500 Internal Server Error")
    assert len(receiver.taken) == 3
    assert await waiting(journal) == []


async def test_a_receiver_that_redirects_inward_is_not_followed(
    journal: Journal, receiver: Receiver
) -> None:
    receiver.answer = in_turn(302)
    async with sending(journal, pauses=lambda *_: None) as sent:
        await end(journal, "j1", receiver.url())
        await asyncio.wait_for(sent.over.wait(), PATIENCE_S)
    assert "redirects are not followed" in sent.given_up[0][1]


async def test_a_right_that_was_taken_away_meanwhile_counts(
    journal: Journal, receiver: Receiver
) -> None:
    def forbidden(_: PendingWebhook) -> AllowedHosts:
        raise Forbidden("not there")

    async with sending(journal, forbidden, pauses=lambda *_: None) as sent:
        await end(journal, "j1", receiver.url())
        await asyncio.wait_for(sent.over.wait(), PATIENCE_S)
    assert sent.given_up[0][1] == "not there"
    assert receiver.taken == []


async def test_a_receiver_that_hangs_holds_up_nobody_elses(
    journal: Journal, receiver: Receiver
) -> None:
    receiver.answer = lambda request: (
        never(request) if request.path == "/hangs" else in_turn(200)(request)
    )
    async with sending(journal):
        for number in range(AT_ONCE + 3):
            await end(journal, f"j{number}", receiver.url("/hangs"))
        await end(journal, "j1", receiver.url("/x"), client="bob")
        async with asyncio.timeout(PATIENCE_S):
            while "/x" not in [each.path for each in receiver.taken]:
                receiver.came.clear()
                await receiver.came.wait()
    assert sum(each.path == "/hangs" for each in receiver.taken) <= AT_ONCE


async def test_a_bridge_that_counts_as_dead_stops_sending(
    journal: Journal, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fenced(_: str) -> None:
        raise LeaseLost

    monkeypatch.setattr(journal.webhooks, "remove", fenced)
    room = WebhookSender(journal, key=lambda: KEY, check=lambda _: HERE, gave_up=lambda *_: None)
    await end(journal, "j1", receiver.url())
    with pytest.raises(ExceptionGroup) as ended:
        await asyncio.wait_for(room.run(), PATIENCE_S)
    assert ended.group_contains(LeaseLost)


async def test_a_receiver_that_does_not_answer_is_left_in_time(
    journal: Journal, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule, "WEBHOOK_TIMEOUT_S", 0.2)
    receiver.answer = never
    async with sending(journal, pauses=lambda *_: None) as sent:
        await end(journal, "j1", receiver.url())
        await asyncio.wait_for(sent.over.wait(), PATIENCE_S)
    assert sent.given_up[0][1] == "no answer within 0.2 s"


async def test_a_bridge_that_is_not_the_one_to_send_leaves_them(
    journal: Journal, receiver: Receiver
) -> None:
    async with sending(journal, leads=lambda: False):
        await end(journal, "j1", receiver.url())
        await asyncio.sleep(0)
        assert len(await waiting(journal)) == 1
    assert receiver.taken == []


async def test_a_result_that_is_forgotten_is_sent_to_nobody(journal: Journal) -> None:
    await end(journal, "j1", "http://127.0.0.1:9/x", "http://127.0.0.1:9/y")
    assert len(await waiting(journal)) == 2
    await journal.forget(Key("alice", "j1"))
    assert await waiting(journal) == []


async def test_a_client_whose_receiver_is_gone_fills_no_disk(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "MOST_OF_CLIENT", 3)
    for number in range(5):
        await end(journal, f"j{number}", "http://127.0.0.1:9/x")
    await end(journal, "j9", "http://127.0.0.1:9/x", client="bob")
    assert [each.client for each in await waiting(journal)] == ["alice"] * 3 + ["bob"]
