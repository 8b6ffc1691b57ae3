from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bridge.config import ClientRights, ConfigError, Sink, SinkFolder
from bridge.contract import targets
from bridge.contract.errors import BadRequest, Forbidden, QuotaExceeded
from bridge.contract.messages import Submit
from bridge.contract.sinks import Put, Webhook
from bridge.jobs.job import JobSinks, ResultWebhook
from bridge.jobs.job import OutputSink as JobSink
from bridge.jobs.queue import Key
from bridge.requests.permissions import Permissions
from bridge.requests.sinks import Sinks, check_folder
from bridge.workflows.sidecar import SinkRules
from tests.requests.stand import standing

RIGHTS = {
    "alice": ClientRights(
        sink_hosts=("*.example.com", "nas.local"),
        sink_folders=("photos",),
        sink_topics=("home/#",),
    )
}
NOTHING = SinkRules()


def sinks(*tables: Sink, folders: tuple[str, ...] = ("photos", "private")) -> Sinks:
    return Sinks(Permissions(RIGHTS), tables, folders)


def asked(*urls: str, **changes: Any) -> Submit:
    return Submit(workflow="w", put=[Put(url=url) for url in urls], **changes)


@pytest.mark.parametrize(
    "url",
    [
        "https://a.example.com/x?sig=1",
        "http://NAS.local/dav/",
        "folder:photos",
        "mqtt:home/frame",
        "mqtt:{client}/x",  # known once it is delivered
    ],
)
def test_a_client_may_deliver_where_its_rights_say(url: str) -> None:
    found = sinks().of("alice", "w", NOTHING, asked(url))
    assert found == JobSinks([JobSink(url)])


@pytest.mark.parametrize(
    ("url", "right"),
    [
        ("https://example.com/x", "sink_hosts"),
        ("https://evil.com/x.example.com", "sink_hosts"),
        ("http://127.0.0.1/x", "sink_hosts"),
        ("folder:private", "sink_folders"),
        ("mqtt:other/x", "sink_topics"),
        ("mqtt:comfy2mqtt/bridge/request/queue/clear", "sink_topics"),
    ],
)
def test_and_nowhere_else(url: str, right: str) -> None:
    for client in ("alice", "bob"):
        with pytest.raises(Forbidden) as refused:
            sinks().of(client, "w", NOTHING, asked(url))
        assert refused.value.details["setting"] == f"clients.{client}.{right}"


def test_a_folder_that_there_is_none_of_is_named() -> None:
    with pytest.raises(BadRequest) as refused:
        sinks().of("alice", "w", NOTHING, asked("folder:other"))
    assert refused.value.details["allowed"] == ["photos", "private"]


def test_a_host_that_is_named_in_full_may_be_private() -> None:
    target = targets.read("http://nas.local/x")
    assert sinks().check("alice", JobSink("x"), target).hosts == ("nas.local",)


def test_a_webhook_is_held_to_the_same_rights() -> None:
    submit = asked(webhook=Webhook(url="https://a.example.com/hook"))
    found = sinks().of("alice", "w", NOTHING, submit)
    assert found.webhooks == [ResultWebhook("https://a.example.com/hook")]
    with pytest.raises(Forbidden):
        sinks().of("alice", "w", NOTHING, asked(webhook=Webhook(url="http://127.0.0.1/hook")))
    with pytest.raises(BadRequest):
        sinks().of("alice", "w", NOTHING, asked(webhook=Webhook(url="mqtt:home/x")))


def test_headers_are_for_http() -> None:
    submit = Submit(workflow="w", put=[Put(url="folder:photos", headers={"X": "y"})])
    with pytest.raises(BadRequest, match="only with an http"):
        sinks().of("alice", "w", NOTHING, submit)


@pytest.mark.parametrize("url", ["https://a.example.com/x.png", "mqtt:home/frame"])
def test_the_jobs_of_a_set_may_not_overwrite_each_other(url: str) -> None:
    with pytest.raises(BadRequest, match="overwrite"):
        sinks().of("alice", "w", NOTHING, asked(url, repeat=3))
    for apart in ("https://a.example.com/{job_id}.png", "https://a.example.com/dav/"):
        assert sinks().of("alice", "w", NOTHING, asked(apart, repeat=3)).put


def test_what_a_sidecar_or_a_setting_says_needs_no_right() -> None:
    rules = SinkRules((Put(url="http://10.0.0.1/x", headers={"A": "b"}),), Webhook(url="http://h/"))
    table = Sink(put="folder:private", workflows=("w*",), clients=("bob",))
    found = sinks(table).of("bob", "w", rules, asked())
    assert found.put == [
        JobSink("http://10.0.0.1/x", headers={"A": "b"}, own=True),
        JobSink("folder:private", own=True),
    ]
    assert found.webhooks == [ResultWebhook("http://h/", own=True)]
    target = targets.read("http://10.0.0.1/x")
    assert sinks().check("bob", found.put[0], target).hosts == ("10.0.0.1",)


def test_a_setting_is_for_the_workflows_and_clients_that_it_names() -> None:
    room = sinks(Sink(webhook="https://h/x", workflows=("w*",), clients=("bob",)))
    assert room.of("bob", "w1", NOTHING, asked()).webhooks
    assert not room.of("bob", "x", NOTHING, asked()).webhooks
    assert not room.of("alice", "w1", NOTHING, asked()).webhooks


def test_what_is_asked_for_twice_is_done_once() -> None:
    found = sinks().of("alice", "w", NOTHING, asked("folder:photos", "folder:photos"))
    assert len(found.put) == 1


@pytest.mark.parametrize(
    "table",
    [
        Sink(),
        Sink(put="folder:photos", webhook="https://h/"),
        Sink(put="ftp://x"),
        Sink(put="folder:other"),
        Sink(put="https://h/", headers={"Host": "x"}),
        Sink(webhook="folder:photos"),
    ],
)
def test_a_setting_of_no_use_ends_the_start(table: Sink) -> None:
    with pytest.raises(ConfigError, match=r"sink\[0\]|no folder"):
        sinks(table)


def test_a_template_that_leads_out_of_its_folder_ends_the_start() -> None:
    check_folder(SinkFolder(name="x", path=Path("/srv")))
    with pytest.raises(ConfigError, match=r"sink_folder\.x\.file"):
        check_folder(SinkFolder(name="x", path=Path("/srv"), file="../{job_id}"))


async def test_a_request_carries_its_sinks_and_may_be_sent_again_with_new_signatures(
    tmp_path: Path,
) -> None:
    async with standing(tmp_path, alice=RIGHTS["alice"]) as stand:
        url = "https://a.example.com/x?sig=1"
        put = [{"url": url, "headers": {"A": "b"}}]
        hook = {"url": "https://a.example.com/hook"}
        await stand.submitted("j1", put=put, webhook=hook)
        envelope = (await stand.journal.get(Key("alice", "j1"))).job.envelope
        assert envelope.put == [JobSink(url, headers={"A": "b"})]
        assert envelope.webhooks == [ResultWebhook(hook["url"])]
        again = await stand.submitted("j1", put=[{"url": "https://a.example.com/x?sig=2"}])
        assert again["duplicate"]


async def test_a_request_with_too_many_sinks_or_a_strange_one_is_refused(tmp_path: Path) -> None:
    async with standing(tmp_path, alice=RIGHTS["alice"]) as stand:
        one = {"url": "mqtt:home/x"}
        strange: list[Any] = [[{**one, "more": 1}], [{}], "x", [{"url": 3}], [{"url": ""}]]
        for wrong in [[one] * 17, *strange]:
            error = await stand.error("submit", workflow="simple", put=wrong)
            assert error.code == "bad_request", wrong
            assert "put" in error.details["field"], wrong
        error = await stand.error("submit", workflow="simple", put=[{"url": "http://127.0.0.1/"}])
        assert error.code == "forbidden"


async def test_jobs_of_which_the_outputs_are_being_delivered_count_as_waiting(
    tmp_path: Path,
) -> None:
    async with standing(tmp_path, alice=ClientRights(max_queue=2)) as stand:
        stand.admission._under_way = lambda client: 2 if client == "alice" else 0
        error = await stand.error("submit", workflow="simple")
        assert isinstance(error, QuotaExceeded)
        stand.admission._under_way = lambda _: 1
        await stand.submitted("j1")


async def test_a_run_takes_them_behind_a_dollar(tmp_path: Path) -> None:
    async with standing(tmp_path, alice=RIGHTS["alice"]) as stand:
        put = '[{"url": "mqtt:home/x"}]'
        payload = b'{"$put": %b, "$webhook": {"url": "https://a.example.com/"}}' % put.encode()
        answer = await stand.ask("run", payload, workflow="simple", job_id="j1")
        assert answer.error is None, answer.error
        envelope = (await stand.journal.get(Key("alice", "j1"))).job.envelope
        assert envelope.put == [JobSink("mqtt:home/x")]
