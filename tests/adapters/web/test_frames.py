from __future__ import annotations

import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET
from websockets.frames import Frame, Opcode

from bridge.adapters.web import frames
from bridge.adapters.web.frames import (
    BridgeRequest,
    LinkRequest,
    MalformedFrame,
    PingRequest,
    RefusedRequest,
    Register,
)
from bridge.contract.requests import VERBS
from bridge.contract.topics import is_id
from tests.support.visitor import packed

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
TYPES = [*VERBS, "run", "upload", "link", "ping", "register", "nonsense"]
FIELDS = [
    "workflow",
    "job_id",
    "inputs",
    "text",
    "upload",
    "offset",
    "fin",
    "transaction",
    "output",
]
BODIES = st.builds(
    lambda kind, fields: {"type": kind, **fields},
    st.sampled_from(TYPES) | JSON,
    st.dictionaries(st.sampled_from(FIELDS), JSON | st.sampled_from(["demo", "a/b", "#", "+"])),
)


def ask(**body: Any) -> BridgeRequest:
    said = frames.read(json.dumps(body))
    assert isinstance(said, BridgeRequest)
    return said


@given(
    frame=st.text()
    | st.binary()
    | JSON.map(json.dumps)
    | BODIES.map(json.dumps)
    | st.builds(packed, BODIES, st.binary())
)
def test_any_frame_is_read_or_refused_and_never_leaves_its_clients_tree(
    frame: str | bytes,
) -> None:
    try:
        said = frames.read(frame)
    except MalformedFrame:
        return
    if isinstance(said, BridgeRequest):
        assert said.verb in (*VERBS, "run", "upload")
        assert all(is_id(level) for level in said.levels)
    elif isinstance(said, RefusedRequest):
        assert said.error.code == "bad_request"
    with pytest.raises(MalformedFrame):
        frames.read_register(frame)


def test_a_register_names_a_key_and_what_was_seen() -> None:
    frame = '{"type": "register", "key": "k", "after": 7, "new": 1}'
    assert frames.read_register(frame) == Register(type="register", key="k", after=7)
    assert frames.read_register('{"type": "register", "key": "k"}').after is UNSET


@pytest.mark.parametrize(
    "frame",
    [
        '{"type": "run", "key": "k"}',
        '{"type": "register"}',
        '{"type": "register", "key": "k", "after": -1}',
        '{"type": "register", "key": ' + '"' + "k" * 201 + '"}',
        "[" * 10_000,
        b'{"type": "register", "key": "k"}',
    ],
)
def test_another_first_message_is_malformed(frame: str | bytes) -> None:
    with pytest.raises(MalformedFrame):
        frames.read_register(frame)


def test_a_verb_is_passed_on_as_it_was_sent() -> None:
    said = ask(type="submit", workflow="demo", inputs={"a": 1.0}, transaction="t")
    assert said.levels == ("submit",)
    body = {"workflow": "demo", "inputs": {"a": 1.0}, "transaction": "t"}
    assert (json.loads(said.payload), said.transaction) == (body, "t")


def test_a_run_gives_inputs_by_name() -> None:
    said = ask(type="run", workflow="demo", job_id="j", inputs={"a": 1}, text="x", preview=True)
    assert said.levels == ("run", "demo", "j")
    assert json.loads(said.payload) == {"a": 1, "$text": "x", "$preview": True}
    assert ask(type="run", workflow="demo").payload == b"{}"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"type": "run"}, "workflow"),
        ({"type": "run", "workflow": "a/../b"}, "workflow"),
        ({"type": "run", "workflow": "demo", "job_id": "#"}, "job_id"),
        ({"type": "run", "workflow": "demo", "inputs": [1]}, "inputs"),
        ({"type": "run", "workflow": "demo", "inputs": {"$workflow": 1}}, "inputs"),
        ({"type": "upload", "upload": "a b"}, "upload"),
        ({"type": "list", "transaction": {}}, "transaction"),
        ({"type": "nonsense"}, "type"),
        ({"type": 7}, "type"),
        ({}, "type"),
    ],
)
def test_what_does_not_fit_is_answered_with_the_field(body: dict[str, Any], field: str) -> None:
    said = frames.read(json.dumps(body))
    assert isinstance(said, RefusedRequest)
    assert said.error.details["field"] == field


def test_a_workflow_that_is_left_out_is_required() -> None:
    said = frames.read('{"type": "run", "workflw": "demo"}')
    assert isinstance(said, RefusedRequest)
    assert said.error.message == "workflow: required"


def test_a_refusal_finds_its_way_back() -> None:
    said = frames.read('{"type": "nonsense", "transaction": 4}')
    assert isinstance(said, RefusedRequest)
    assert said.transaction == 4


def test_uploads_begin_go_on_and_end() -> None:
    begun = ask(type="upload", upload="u", size=5, sha256="0" * 64)
    assert begun.levels == ("upload", "u")
    assert begun.content_type == "application/json"
    assert json.loads(begun.payload) == {"size": 5, "sha256": "0" * 64}
    assert ask(type="upload", upload="u", fin=True).levels == ("upload", "u", "fin")
    part = frames.read(packed({"type": "upload", "upload": "u", "offset": 12}, b"bytes"))
    assert isinstance(part, BridgeRequest)
    assert (part.levels, part.payload) == (("upload", "u", "12"), b"bytes")


@pytest.mark.parametrize(
    "named", ["application/json", "Application/JSON", "APPLICATION/json; charset=utf-8"]
)
def test_bytes_that_are_json_are_an_upload_and_not_the_announcement_of_one(named: str) -> None:
    header = {"type": "upload", "upload": "u", "content_type": named}
    whole = frames.read(packed(header, b'{"size": 1}'))
    assert isinstance(whole, BridgeRequest)
    assert (whole.levels, whole.content_type) == (("upload", "u"), "application/octet-stream")


@pytest.mark.parametrize("offset", [-1, 10**15, "1", 1.5])
def test_an_offset_is_a_number_of_bytes(offset: object) -> None:
    said = frames.read(packed({"type": "upload", "upload": "u", "offset": offset}, b"x"))
    assert isinstance(said, RefusedRequest)


def test_other_binary_frames_are_refused() -> None:
    assert isinstance(frames.read(packed({"type": "run", "workflow": "demo"})), RefusedRequest)


@pytest.mark.parametrize(
    "frame", [b"", b"\0\0\0", struct.pack("!I", 3) + b"{}", struct.pack("!I", 2**32 - 1) + b"{}"]
)
def test_a_binary_frame_without_its_header_is_malformed(frame: bytes) -> None:
    with pytest.raises(MalformedFrame):
        frames.read(frame)


def test_links_and_pings_are_for_the_adapter_itself() -> None:
    said = frames.read('{"type": "link", "job_id": "j", "output": 2, "transaction": 1}')
    assert said == LinkRequest(job_id="j", output=2, transaction=1)
    said = frames.read('{"type": "link", "set_id": "s"}')
    assert said == LinkRequest(set_id="s")
    for wrong in ('{"type": "link"}', '{"type": "link", "job_id": "j", "set_id": "s"}'):
        assert isinstance(frames.read(wrong), RefusedRequest)
    assert frames.read('{"type": "ping"}') == PingRequest()


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536])
@pytest.mark.parametrize("opcode", [Opcode.TEXT, Opcode.BINARY])
def test_frames_are_those_of_the_library(size: int, opcode: Opcode) -> None:
    payload = b"x" * size
    expected = Frame(opcode, payload).serialize(mask=False)
    assert frames.framed(payload, binary=opcode is Opcode.BINARY) == expected


@pytest.mark.parametrize("body", [b"{}", b" { } ", b'{"n":1}', b'\n{"n":1}\n'])
def test_a_type_is_put_before_what_was_encoded(body: bytes) -> None:
    frame = frames.spliced("status", body)
    assert json.loads(frame[2:]) == {"type": "status", **json.loads(body)}


@pytest.mark.parametrize(
    "header", [b'{"type": "\xd9"}', b'{"\xff": 1}', b'{"type": "\xed\xa0\x80"}']
)
def test_a_header_that_is_not_utf_8_is_malformed(header: bytes) -> None:
    with pytest.raises(MalformedFrame):
        frames.read(struct.pack("!I", len(header)) + header)


@pytest.mark.parametrize("verb", ["run", "submit", "link", "ping", "upload", "fetch", "dance"])
def test_no_depth_of_nesting_is_read_at_first_and_fails_later(verb: str) -> None:
    for depth in range(900, 1000):
        deep = "[" * depth + "]" * depth
        try:
            said = frames.read(f'{{"type": "{verb}", "workflow": "w", "upload": "u", "x": {deep}}}')
        except MalformedFrame:
            continue
        assert isinstance(said, BridgeRequest | PingRequest | RefusedRequest)


@pytest.mark.parametrize("job_id", ["5", "[]", '"a/b"'])
def test_a_link_to_what_is_no_job_is_refused(job_id: str) -> None:
    assert isinstance(frames.read(f'{{"type": "link", "job_id": {job_id}}}'), RefusedRequest)
