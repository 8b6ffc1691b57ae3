from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from bridge.adapters.web.frames import JSON
from bridge.adapters.web.requests import (
    PartOf,
    PendingRequest,
    Reply,
    Requests,
    UnreadableReply,
    named,
    place_of,
)
from bridge.contract.errors import Busy


class Asker:
    """Collects what one request is answered with."""

    def __init__(self, requests: Requests, client: str = "alice", deadline: float = 30.0) -> None:
        self.replies: list[Reply] = []
        self.parts: list[PartOf] = []
        self.correlation = requests.correlation()
        requests.add(
            self.correlation,
            PendingRequest(client, deadline, self.replies.append, self.parts.append),
        )


@pytest.fixture
def requests() -> Requests:
    return Requests(b"12345678")


def answer(data: object) -> bytes:
    return json.dumps({"status": "ok", "data": data}).encode()


def test_an_answer_finds_the_request_with_its_correlation_once(requests: Requests) -> None:
    one, other = Asker(requests), Asker(requests)
    match = requests.match_reply("alice", "run", other.correlation, answer(7))
    assert match is not None
    request, reply = match
    request.answered(reply)
    assert ([bytes(each.data or b"") for each in other.replies], one.replies) == ([b"7"], [])
    assert requests.match_reply("alice", "run", other.correlation, answer(7)) is None
    assert len(requests) == 1


def test_answers_and_parts_of_another_client_or_another_correlation_match_nothing(
    requests: Requests,
) -> None:
    asker = Asker(requests)
    place, content = ("j", "0", "0"), (None, b"x")
    for client, correlation in (
        ("bob", asker.correlation),
        ("alice", asker.correlation[:-1] + b"?"),
        ("alice", b""),
        ("alice", None),
    ):
        assert requests.match_reply(client, "run", correlation, answer(1)) is None
        assert requests.match_part(client, correlation, place, content) is None
    assert len(requests) == 1


@pytest.mark.parametrize("payload", [b"", b"[]", b"\xff", b'{"status": 7}', b"[" * 9999])
def test_a_request_still_waits_after_an_answer_that_cannot_be_read(
    requests: Requests, payload: bytes
) -> None:
    asker = Asker(requests)
    with pytest.raises(UnreadableReply):
        requests.match_reply("alice", "run", asker.correlation, payload)
    assert requests.match_reply("alice", "run", asker.correlation, answer(1)) is not None


def test_parts_go_to_the_request_that_asked_for_them_and_it_still_waits(
    requests: Requests,
) -> None:
    asker = Asker(requests)
    for offset in ("0", "3"):
        match = requests.match_part(
            "alice", asker.correlation, ("j", "1", offset), ("image/png", b"abc")
        )
        assert match is not None
        request, part = match
        assert request.part is not None
        request.part(part)
    assert asker.parts == [
        PartOf("j", 1, 0, "image/png", b"abc"),
        PartOf("j", 1, 3, "image/png", b"abc"),
    ]
    assert requests.match_part("alice", asker.correlation, ("j", "x", "0"), (None, b"")) is None
    assert len(requests) == 1
    match = requests.match_part("alice", asker.correlation, ("s", "0", "0"), (None, b"x"), "set")
    assert match is not None
    assert (match[1].whose, match[1].owner) == ("set", "s")


def test_an_answer_that_overtakes_its_part_is_given_after_it(
    requests: Requests,
) -> None:
    asker, inline = Asker(requests), Asker(requests)
    assert requests.match_reply("alice", "fetch", asker.correlation, answer({"count": 3})) is None
    match = requests.match_part("alice", asker.correlation, ("j", "0", "0"), (None, b"abc"))
    assert match is not None
    request, part = match
    assert part.data == b"abc"
    assert request.reply == Reply("ok", data=Raw(b'{"count": 3}'))
    # Bytes within the answer, an error, and no bytes at all: there is nothing to wait for.
    for said in ({"count": 3, "base64": "YWJj"}, {"count": 0}, [3]):
        assert requests.match_reply("alice", "fetch", inline.correlation, answer(said)) is not None
        inline = Asker(requests)
    error = b'{"status": "error", "error": {}}'
    assert requests.match_reply("alice", "fetch", inline.correlation, error) is not None
    assert len(requests) == 0


def test_a_request_that_takes_no_parts_gets_none(requests: Requests) -> None:
    correlation = requests.correlation()
    requests.add(correlation, PendingRequest("alice", 1.0, lambda _: None))
    assert requests.match_part("alice", correlation, ("j", "0", "0"), (None, b"x")) is None


@given(gaps=st.lists(st.floats(0, 10), max_size=20), now=st.floats(0, 200))
def test_requests_expire_at_their_deadline_and_no_sooner(gaps: list[float], now: float) -> None:
    requests = Requests(b"12345678")
    deadlines: list[float] = []
    for gap in gaps:
        deadlines.append((deadlines[-1] if deadlines else 0.0) + gap)
        Asker(requests, deadline=deadlines[-1])
    assert requests.next_deadline == (deadlines[0] if deadlines else None)
    expired = [each.deadline for each in requests.remove_expired(now)]
    assert expired == [each for each in deadlines if each <= now]
    assert [each.deadline for each in requests.remove_all()] == deadlines[len(expired) :]
    assert requests.next_deadline is None


def test_no_correlation_is_text_nor_given_twice(requests: Requests) -> None:
    made = {requests.correlation() for _ in range(1000)}
    assert len(made) == 1000
    for each in made:
        with pytest.raises(UnicodeDecodeError):
            each.decode()


def test_a_refused_request_is_removed_and_answered_with_the_reason(requests: Requests) -> None:
    asker = Asker(requests)
    request = requests.remove(asker.correlation)
    assert request is not None
    request.answered(Reply.refusal(Busy("no", retry=True)))
    (reply,) = asker.replies
    assert json.loads(bytes(reply.error or b""))["code"] == "busy"
    assert requests.remove(asker.correlation) is None


# Over MQTT 3.1.1.


def transacted(transaction: str) -> bytes:
    return json.dumps({"status": "ok", "transaction": transaction}).encode()


@pytest.mark.parametrize(
    ("levels", "field"),
    [
        (("run", "w", "j"), "$transaction"),
        (("status",), "transaction"),
        (("upload", "u"), "transaction"),
    ],
)
def test_a_request_without_properties_is_found_by_its_transaction(
    requests: Requests, levels: tuple[str, ...], field: str
) -> None:
    asker = Asker(requests)
    payload = named(levels, b'{"a": 1, "transaction": 7}', JSON, asker.correlation)
    assert payload is not None
    fields = json.loads(payload)
    assert fields["a"] == 1
    for client, text in (("bob", fields[field]), ("alice", "other"), ("alice", "00")):
        assert requests.match_reply(client, levels[0], None, transacted(text)) is None
    assert requests.match_reply("alice", levels[0], None, transacted(fields[field])) is not None


def test_an_answer_to_an_upload_without_properties_is_the_earliests(requests: Requests) -> None:
    assert named(("upload", "u"), b"{}", "application/octet-stream", b"1") is None
    assert named(("upload", "u", "fin"), b"", JSON, b"1") is None
    first, second, other = (requests.correlation() for _ in range(3))
    for correlation, nameless in ((other, False), (first, True), (second, True)):
        requests.add(correlation, PendingRequest("alice", 1.0, print, nameless=nameless))
    for verb in ("run", "upload", "upload", "upload"):
        requests.match_reply("alice", verb, None, answer(1))
    assert requests.remove(first) is None
    assert requests.remove(second) is None
    assert requests.remove(other) is not None


def test_a_part_without_properties_goes_to_the_earliest_fetch_for_it(requests: Requests) -> None:
    parts: list[tuple[str, PartOf]] = []

    def fetch(name: str, payload: bytes) -> None:
        place = place_of(("fetch",), payload)
        pending = PendingRequest(
            "alice", 1.0, print, lambda part: parts.append((name, part)), place=place
        )
        requests.add(requests.correlation(), pending)

    fetch("another job", b'{"job_id": "i"}')
    fetch("mine", b'{"job_id": "j", "offset": 3}')
    fetch("later", b'{"job_id": "j", "offset": 3}')
    match = requests.match_part("alice", None, ("j", "0", "3"), ("image/png", b"abc"))
    assert match is not None
    assert match[0].part is not None
    match[0].part(match[1])
    assert parts == [("mine", PartOf("j", 0, 3, "image/png", b"abc"))]
    assert requests.match_part("bob", None, ("j", "0", "3"), ("image/png", b"abc")) is None
    assert place_of(("fetch",), b'{"set_id": "s", "output": 1}') == ("set", "s", 1, 0)
    assert place_of(("fetch",), b"[]") is None
    assert place_of(("fetch",), b'{"x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}") is None
    assert place_of(("status",), b'{"job_id": "j"}') is None
