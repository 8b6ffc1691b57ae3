from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.adapters.web import frames
from bridge.adapters.web.hub import (
    PREVIEW_ROOM,
    PROGRESS_ROOM,
    BrowserSession,
    Hub,
    Importance,
    SendDecision,
    send_decision,
)

BUFFER = 1_000_000


class Wire:
    """A reader that takes only what the test lets it take."""

    def __init__(self) -> None:
        self.waiting = 0
        self.written: list[bytes] = []
        self.dropped = False

    def write(self, frame: bytes) -> None:
        self.written.append(frame)

    def drop(self) -> None:
        self.dropped = True

    @property
    def texts(self) -> list[dict[str, Any]]:
        """Text frames, none of them long."""
        return [json.loads(each[2 if each[1] < 126 else 4 :]) for each in self.written]

    @property
    def types(self) -> list[str]:
        return [each["type"] for each in self.texts]


def session(wire: Wire, client: str = "alice", key: str = "k") -> BrowserSession:
    return BrowserSession(wire, name="s", client=client, key=key, buffer=BUFFER)


def joined(hub: Hub, client: str = "alice") -> tuple[BrowserSession, Wire]:
    wire = Wire()
    new = session(wire, client)
    hub.add(new)
    wire.written.clear()
    return new, wire


def status(hub: Hub, n: int, state: str = "running", job: str = "j") -> None:
    body = json.dumps({"job_id": job, "n": n, "state": state}).encode()
    hub.on_job("alice", [job, "status"], body, None, [])


def result(hub: Hub, n: int, job: str = "j") -> None:
    body = json.dumps({"job_id": job, "n": n, "state": "succeeded"}).encode()
    hub.on_job("alice", [job, "result"], body, None, [])


def progress(hub: Hub, percent: float = 5, job: str = "j") -> None:
    hub.on_job("alice", [job, "progress"], json.dumps({"percent": percent}).encode(), None, [])


def preview(hub: Hub, job: str = "j") -> None:
    hub.on_job("alice", [job, "preview"], b"jpeg", "image/jpeg", [])


@pytest.mark.parametrize("importance", Importance)
@given(waiting=st.integers(0, 2 * BUFFER))
def test_a_slow_reader_loses_previews_then_progress_and_nothing_else(
    importance: Importance, waiting: int
) -> None:
    found = send_decision(importance, waiting, BUFFER)
    assert (found is SendDecision.DROP) == (waiting > BUFFER)
    if found is SendDecision.SKIP:
        assert waiting > PREVIEW_ROOM
        assert importance is not Importance.KEEP
        assert importance is Importance.PREVIEW or waiting > PROGRESS_ROOM


def test_what_is_skipped_for_one_is_sent_to_the_others() -> None:
    hub = Hub()
    (_, slow), (_, fast) = joined(hub), joined(hub)
    slow.waiting = PROGRESS_ROOM + 1
    preview(hub)
    progress(hub)
    status(hub, 1)
    result(hub, 2)
    assert slow.types == ["status", "result"]
    assert len(fast.written) == 4


def test_a_reader_that_stopped_is_dropped_and_gets_no_more() -> None:
    hub = Hub()
    (stopped, wire), (_, other) = joined(hub), joined(hub)
    wire.waiting = BUFFER + 1
    status(hub, 1)
    status(hub, 2)
    assert (wire.dropped, wire.written, stopped.ended) == (True, [], True)
    assert other.types == ["status", "status"]


def test_only_the_clients_own_connections_get_its_jobs() -> None:
    hub = Hub()
    (_, alice), (_, bob) = joined(hub, "alice"), joined(hub, "bob")
    status(hub, 1)
    preview(hub)
    hub.on_job("alice", ["j", "output", "0"], b"png", "image/png", [("size", "3")])
    assert (len(alice.written), bob.written) == (3, [])


def test_everybody_gets_the_same_bytes() -> None:
    hub = Hub()
    (_, one), (_, two) = joined(hub), joined(hub)
    status(hub, 1)
    assert one.written[0] is two.written[0]


def test_a_new_connection_gets_what_is_retained_and_then_ready() -> None:
    hub = Hub()
    hub.on_public("workflow", "demo", b'{"name":"demo"}')
    hub.on_public("comfyui", "gpu0", b'{"state":"ready"}')
    hub.on_public("choices", "models", b'{"name":"models","choices":[1]}')
    hub.on_public("info", None, b'{"name":"bridge"}')
    hub.on_public("state", None, b"online")
    wire = Wire()
    hub.add(session(wire))
    assert wire.texts == [
        {"type": "bridge", "state": "online"},
        {"type": "info", "name": "bridge"},
        {"type": "comfyui", "instance": "gpu0", "state": "ready"},
        {"type": "choices", "name": "models", "choices": [1]},
        {"type": "workflow", "name": "demo", "definition": {"name": "demo"}},
        {"type": "ready"},
    ]


def test_what_is_retained_is_sent_when_it_changes_and_when_it_goes() -> None:
    hub = Hub()
    _, wire = joined(hub)
    for payload in (b'{"title":"a"}', b'{"title":"a"}', b'{"title":"b"}', b"", b""):
        hub.on_public("workflow", "demo", payload)
    told = [each["definition"] for each in wire.texts]
    assert told == [{"title": "a"}, {"title": "b"}, None]
    hub.on_public("comfyui", "gpu0", b'{"state":"ready"}')
    hub.on_public("comfyui", "gpu0", b"")
    assert wire.texts[-1] == {"type": "comfyui", "instance": "gpu0"}
    hub.on_public("event", None, b'{"type":"x"}')
    assert wire.texts[-1] == {"type": "event", "event": {"type": "x"}}


@given(
    levels=st.lists(
        st.sampled_from(["j", "status", "result", "output", "preview", "7"]), max_size=4
    ),
    payload=st.binary() | st.builds(lambda n: json.dumps({"n": n}).encode(), st.integers()),
    properties=st.lists(st.tuples(st.sampled_from(["size", "type", "job_id"]), st.text())),
)
def test_whatever_is_published_is_passed_on_or_not_and_nothing_breaks(
    levels: list[str], payload: bytes, properties: list[tuple[str, str]]
) -> None:
    hub = Hub()
    _, wire = joined(hub)
    hub.on_job("alice", levels, payload, None, properties)
    for what in ("info", "workflow", "comfyui", "choices", "event", "state", "health"):
        hub.on_public(what, "x", payload)
    for each in wire.written:
        assert each[0] == 0x82 or json.loads(each[2 if each[1] < 126 else 4 :])["type"] != 7


@pytest.mark.parametrize(
    "garbage",
    [
        b"[]",
        b"7",
        b"{",
        b'{"a":"\xff"}',
        b"\xff",
        b"[" * 9999,
        b'{"type":"registered","n":-1}',
        b'{"n":1e400}',
        b'{"n":99999999999999999999}',
    ],
)
def test_what_is_not_the_bridges_is_passed_on_to_nobody(garbage: bytes) -> None:
    hub = Hub()
    _, wire = joined(hub)
    if not garbage.endswith(b"}") or b"a" in garbage[:4]:
        for what in ("info", "workflow", "comfyui", "choices", "event"):
            hub.on_public(what, "x", garbage)
    for what in ("status", "progress", "result"):
        hub.on_job("alice", ["j", what], garbage, None, [])
    hub.on_job("alice", ["j", "output", "x"], b"", None, [])
    hub.on_job("alice", ["j"], b"{}", None, [])
    assert wire.written == []


def test_after_a_time_without_broker_what_did_not_come_again_is_gone() -> None:
    hub = Hub()
    hub.on_connecting()
    hub.on_public("state", None, b"online")
    hub.on_public("workflow", "stays", b"{}")
    hub.on_public("workflow", "goes", b"{}")
    hub.on_connected()
    _, wire = joined(hub)
    hub.on_disconnected()
    hub.on_connecting()
    hub.on_public("workflow", "stays", b"{}")
    hub.on_connected()
    assert wire.texts == [
        {"type": "bridge", "state": "unreachable"},
        {"type": "workflow", "name": "goes", "definition": None},
        {"type": "bridge", "state": "offline"},
    ]


def test_what_has_a_number_waits_until_what_was_missed_is_sent() -> None:
    hub = Hub()
    back, wire = joined(hub)
    back.n = 3
    back.hold_back()
    status(hub, 8)
    result(hub, 9)
    progress(hub)
    for n in (5, 8):
        back.send_missed(frames.text("result", {"n": n}), n)
    back.release_held()
    status(hub, 10)
    assert [each.get("n") for each in wire.texts] == [None, 5, 8, 9, 10]
    assert back.n == 10


def test_messages_held_back_for_a_resuming_session_count_against_its_buffer() -> None:
    hub = Hub()
    back, wire = joined(hub)
    back.hold_back()
    body = json.dumps({"n": 9, "meta": "x" * (BUFFER // 10)}).encode()
    for _ in range(12):
        hub.on_job("alice", ["j", "result"], body, None, [])
    assert (wire.dropped, back.ended) == (True, True)
    back.release_held()
    assert wire.written == []


def test_a_session_that_was_released_has_its_whole_buffer_again() -> None:
    hub = Hub()
    back, wire = joined(hub)
    body = json.dumps({"n": 9, "meta": "x" * (BUFFER // 2)}).encode()
    for _ in range(5):
        back.hold_back()
        hub.on_job("alice", ["j", "result"], body, None, [])
        back.release_held()
    assert (wire.dropped, len(wire.written)) == (False, 5)


def test_messages_of_a_bridge_that_counts_from_one_again_are_passed_on() -> None:
    hub = Hub()
    back, wire = joined(hub)
    back.n = 500
    back.hold_back()
    status(hub, 1)
    back.release_held()
    result(hub, 2)
    assert [each["n"] for each in wire.texts] == [1, 2]


def test_what_comes_after_a_jobs_result_does_not_make_it_run_again() -> None:
    hub = Hub()
    first, _ = joined(hub)
    result(hub, 3)
    status(hub, 2)
    progress(hub)
    preview(hub)
    assert not hub.is_waiting(first)
    late, wire = joined(hub)
    hub.send_progress(late)
    assert wire.written == []
    # So many ids are remembered, and no more.
    for number in range(1001):
        result(hub, 4, job=f"j{number}")
    status(hub, 2)
    assert hub.is_waiting(first)


def test_sets_are_sent_to_their_client_and_the_newest_to_who_comes_later() -> None:
    hub = Hub()
    (first, wire), (_, other) = joined(hub), joined(hub, "bob")
    for done in (1, 2):
        hub.on_set("alice", "s", "status", json.dumps({"set_id": "s", "done": done}).encode())
    assert hub.is_waiting(first)
    late, later = joined(hub)
    hub.send_progress(late)
    assert later.texts == [{"type": "set_status", "set_id": "s", "done": 2}]
    hub.on_set("alice", "s", "result", b'{"set_id":"s","n":7}')
    assert wire.texts[-1] == {"type": "set_result", "set_id": "s", "n": 7}
    assert not hub.is_waiting(first)
    assert first.n is None
    # Messages that are not the bridge's, and those that nobody receives.
    for garbage in (b"[]", b"\xff", b'{"type":"ready"}'):
        hub.on_set("alice", "s", "status", garbage)
    hub.on_set("carol", "s", "status", b"{}")
    assert (wire.types, other.written) == (["set_status", "set_status", "set_result"], [])


def test_who_comes_later_gets_the_newest_of_what_runs() -> None:
    hub = Hub()
    first, _ = joined(hub)
    status(hub, 1, job="ended")
    progress(hub, 50, job="ended")
    result(hub, 2, job="ended")
    status(hub, 3)
    progress(hub, 10)
    progress(hub, 20)
    late, wire = joined(hub)
    hub.send_progress(late)
    assert [each["percent"] for each in wire.texts] == [20]
    assert hub.is_waiting(first)
    result(hub, 4)
    assert not hub.is_waiting(first)
    # With a client's last connection all that goes.
    progress(hub)
    hub.remove(first)
    hub.remove(late)
    assert (len(hub), hub.clients) == (0, [])
    late, wire = joined(hub)
    hub.send_progress(late)
    assert wire.written == []
