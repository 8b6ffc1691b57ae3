"""The journal's records for sinks, on both databases: undelivered outputs, and webhooks."""

from __future__ import annotations

import pytest

from bridge.contract.numbering import Numbered
from bridge.jobs.job import Envelope, ResultWebhook
from bridge.jobs.journal import Journal, webhooks
from bridge.jobs.queue import Key
from tests.jobs.drafts import KEPT_PICTURE, PICTURE, draft

RESULT = Numbered(b'{"n":', b"}")


async def end(journal: Journal, job_id: str, *hooks: ResultWebhook, client: str = "alice") -> None:
    key = Key(client, job_id)
    await journal.accept(draft(job_id, client, envelope=Envelope(webhooks=[*hooks])), 1.0)
    new = webhooks.new("job", key, "failed", hooks, now=2.0, shown=1_700_000_000.0)
    await journal.finish(key, state="failed", result=RESULT, now=2.0, hooks=new)


async def test_a_webhook_waits_until_it_was_sent(journal: Journal) -> None:
    await end(journal, "j1", ResultWebhook("https://h/1"), ResultWebhook("https://h/2", own=True))
    await end(journal, "j2", ResultWebhook("https://h/3"), client="bob")
    assert await journal.webhooks.due(1.0, (), 9) == []
    found = await journal.webhooks.due(2.0, (), 9)
    assert {(each.client, each.name, each.url, each.own) for each in found} == {
        ("alice", "j1", "https://h/1", False),
        ("alice", "j1", "https://h/2", True),
        ("bob", "j2", "https://h/3", False),
    }
    assert found[0].body.startswith(b'{"type":"job.failed","timestamp":"2023-11-14T22:13:20.000Z"')
    assert len(await journal.webhooks.due(2.0, {"alice"}, 9)) == 1
    assert len(await journal.webhooks.due(2.0, (), 1)) == 2
    first, second, other = found
    await journal.webhooks.remove(first)
    await journal.webhooks.postpone(second, 9.0)
    assert await journal.webhooks.due(2.0, (), 9) == [other]
    assert await journal.webhooks.next_due(2.0) == 9.0
    (again,) = await journal.webhooks.due(9.0, {"bob"}, 9)
    assert (again.id, again.attempts) == (second.id, 1)
    await journal.forget(Key("alice", "j1"))
    assert await journal.webhooks.next_due(2.0) is None


async def test_of_a_client_only_so_many_wait(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "MOST_OF_CLIENT", 2)
    for number in range(4):
        await end(journal, f"j{number}", ResultWebhook("https://h/"))
    assert len(await journal.webhooks.due(2.0, (), 9)) == 2


async def test_what_is_undelivered_is_kept_until_the_outcome(journal: Journal) -> None:
    job = (await journal.accept(draft("j1"), 1.0)).record.job
    assert await journal.undelivered(job.key) is None
    await journal.keep_undelivered(job.key, b"what", [KEPT_PICTURE])
    await journal.sweep(now=9e9, results_before=0.0, forget_before=0.0)
    assert await journal.undelivered(job.key) == b"what"
    assert await journal.blob(KEPT_PICTURE.sha256) == PICTURE
    await journal.finish(job.key, state="failed", result=RESULT, now=2.0)
    assert await journal.undelivered(job.key) is None
    await journal.sweep(now=9e9, results_before=0.0, forget_before=0.0)
    assert await journal.blob(KEPT_PICTURE.sha256) is None
