"""Whatever comes over the bus is read, or is one kind of error."""

from __future__ import annotations

import copy
import importlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import is_dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.contract.messages import encode
from tests.custom_components.samples import definition, result

automation_events: Any = importlib.import_module("comfy2mqtt_protocol.automation_events")
card: Any = importlib.import_module("comfy2mqtt_protocol.card")
decode: Any = importlib.import_module("comfy2mqtt_protocol.decode")
definitions: Any = importlib.import_module("comfy2mqtt_protocol.definitions")
stored: Any = importlib.import_module("comfy2mqtt_protocol.stored")
messages: Any = importlib.import_module("comfy2mqtt_protocol.messages")
pictures: Any = importlib.import_module("comfy2mqtt_protocol.pictures")
problems: Any = importlib.import_module("comfy2mqtt_protocol.problems")
releases: Any = importlib.import_module("comfy2mqtt_protocol.releases")
selectors: Any = importlib.import_module("comfy2mqtt_protocol.selectors")

DEFINITION = {
    **json.loads(encode(definition(description="Paints."))),
    "missing": {
        "nodes": ["KSampler"],
        "choices": [{"node": "4", "input": "ckpt", "value": "a.pt", "folder": "x", "allowed": []}],
        "inputs": [{"node": "K", "input": "cfg"}],
        "api_key": ["Flux"],
    },
    "forbidden": ["Shell"],
}
ERROR = {"code": "invalid_input", "message": "no", "details": {"near": ["a"], "setting": "x"}}
RESULT = {**json.loads(encode(result())), "error": ERROR}
ENTRY = {
    "job_id": "ha-1",
    "workflow": "demo",
    "n": 9,
    "state": "succeeded",
    "accepted_at": 1.5,
    "acked": True,
    "attempt": 1,
    "result": RESULT,
}
PART = {"job_id": "j", "output": 0, "content_type": "image/png", "base64": "YWJj", "next": 3}
INFO = {
    "name": "pc",
    "version": "1.0",
    "contract": 1,
    "isolation": "none",
    "limits": {"max_packet": 9, "max_inline_input": 9, "max_upload": 9},
    "restrictions": {"qos": "none above 0"},
    "page": "https://pc.example/c2m",
}
HEALTH = {
    "store": "away",
    "held": "full",
    "paused": False,
    "hooks": {"games": {"state": "preparing", "error": "timeout"}},
}
STATE = {
    "state": "unreachable",
    "reason": "forbidden",
    "last_error": "403",
    "unguarded": True,
    "release": {"installed": "1", "latest": "2", "url": "https://x.example", "error": "no"},
}
PICTURE = {
    "n": 3,
    "job_id": "j",
    "index": 0,
    "content_type": "image/png",
    "size": 3,
    "sha256": "ab",
    "at": "2026-11-30T00:00:00+00:00",
}
KEPT = {
    "base": "comfy2mqtt",
    "client": "ha",
    "after": 7,
    "last": "j7",
    "taken": {"j7": 7, "j8": None},
    "pictures": {"demo": PICTURE},
}
NAMES = {"entry1": {"demo": "run_demo"}, "entry2": {"demo": "run_demo_2"}}


def of_workflow(payload: bytes) -> Any:
    """Read a definition, and draw all that Home Assistant shows of it."""
    workflow = definitions.read_workflow(payload)
    lists = {"checkpoints": ["sd15"]}
    return [
        *(selectors.field(each, lists) for each in workflow.inputs),
        selectors.as_integers(workflow, {each.name: 2.0 for each in workflow.inputs}),
        card.shown(workflow, None, is_online=True),
        *problems.of_workflows("PC", [workflow]),
        workflow,
    ]


def of_answer(payload: bytes) -> Any:
    response = messages.read_response(payload)
    return [response.data, response.transaction, response.error and response.error.sentence]


def of_info(payload: bytes) -> Any:
    info = messages.read_info(payload)
    return [info, *problems.of_bridge("PC", info, 1)]


def of_health(payload: bytes) -> Any:
    health = messages.read_health(payload)
    return [health.store, health.held, *problems.of_health("PC", health)]


def of_state(payload: bytes) -> Any:
    """Read a ComfyUI's state, and all that is shown of it."""
    state = decode.read_object(payload)
    return [
        state,
        releases.read_release(state),
        *problems.of_comfyui("PC", {"default": state}),
        automation_events.bridge_status([state], is_online=True),
    ]


def of_result(payload: bytes) -> Any:
    found = messages.read_result(payload)
    return [found, automation_events.ended(found)]


def data(read: Callable[..., Any], *args: Any) -> Callable[[bytes], Any]:
    """Return a reader of what an answer has as its data."""
    return lambda payload: read(decode.read_object(payload), *args)


READERS: dict[str, tuple[Callable[[bytes], Any], Mapping[str, Any]]] = {
    "definition": (of_workflow, DEFINITION),
    "choices": (definitions.read_choices, {"name": "styles", "choices": ["a", 7]}),
    "answer": (of_answer, {"status": "error", "error": ERROR, "data": {}, "transaction": 7}),
    "result": (of_result, RESULT),
    "page": (data(messages.read_page, 3), {"jobs": [ENTRY, {**ENTRY, "n": 12}], "more": True}),
    "entry": (data(messages.read_listed), ENTRY),
    "status": (data(messages.read_ended), ENTRY),
    "number": (data(messages.read_number), ENTRY),
    "part": (data(messages.read_part, 0), PART),
    "info": (of_info, INFO),
    "health": (of_health, HEALTH),
    "state": (of_state, STATE),
    "step": (lambda payload: card.step("status", payload), {"state": "queued", "reason": "x"}),
    "kept": (data(stored.read_results), KEPT),
    "names": (data(stored.read_names), NAMES),
}

STRANGE: st.SearchStrategy[Any] = st.sampled_from(
    [
        *(None, True, 0, -1, 1.5, 2**63, 2**64, 10**400, float("inf"), float("nan"), 1e308),
        *("", "0", "a/b", "\ud800", "x-place", "http://[", "http://a:99999", "image/png\r\nX: y"),
        *([], {}, [[]], {"": None}, ["a", 1], {"error": 1}, {"a": {}}),
    ]
)


def places(found: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield where in a message something is."""
    yield path
    parts: Iterator[Any] = iter(())
    if isinstance(found, dict):
        parts = iter(found.items())
    elif isinstance(found, list):
        parts = iter(enumerate(found))
    for key, value in parts:
        yield from places(value, (*path, key))


@st.composite
def changed(draw: st.DrawFn, seed: Mapping[str, Any]) -> bytes:
    """A message in which one or two values are others, or are left out."""
    found: Any = {"": copy.deepcopy(dict(seed))}
    for _ in range(draw(st.integers(1, 2))):
        *path, last = draw(st.sampled_from([*places(found)][1:]))
        place = found
        for key in path:
            place = place[key]
        if draw(st.booleans()) and path:
            del place[last]
        else:
            place[last] = copy.deepcopy(draw(STRANGE))
    return json.dumps(found.get("")).encode()


@pytest.mark.parametrize("kind", READERS)
def test_a_message_is_read_as_it_is(kind: str) -> None:
    read, seed = READERS[kind]
    assert read(json.dumps(seed).encode()) is not None


@pytest.mark.parametrize("kind", READERS)
def test_whatever_is_wrong_with_a_message_is_one_kind_of_error(kind: str) -> None:
    read, seed = READERS[kind]

    @given(changed(seed))
    def is_read_or_malformed(payload: bytes) -> None:
        with suppress(decode.MalformedError):
            found = read(payload)
            # What is read can be written as Home Assistant writes it.
            json.dumps(found, ensure_ascii=False, allow_nan=False, default=parts_of).encode()

    is_read_or_malformed()


def parts_of(found: Any) -> Any:
    return vars(found) if is_dataclass(found) else str(found)


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_bytes_that_are_no_message_are_one_kind_of_error(payload: bytes) -> None:
    for read, _ in READERS.values():
        with suppress(decode.MalformedError):
            read(payload)


@pytest.mark.parametrize(
    "payload",
    [
        *(
            "",
            "{",
            "[]",
            "7",
            "null",
            b"\xff\xfe",
            '{"a": ' * 5000,
            '{"a": ' * 101 + "1" + "}" * 101,
        ),
        *('{"a": 1e999}', '{"a": NaN}', '{"a": 18446744073709551616}', '{"a": "\\ud800"}'),
    ],
    ids=lambda payload: repr(payload[:30]),
)
def test_what_home_assistant_cannot_write_is_malformed(payload: str | bytes) -> None:
    with pytest.raises(decode.MalformedError):
        decode.read_object(payload)


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"jobs": {}},
        {"jobs": [7]},
        {"jobs": [{}]},
        {"jobs": [{"n": "4"}]},
        # Asking for what follows the last number would never end.
        {"jobs": [{"n": 3}], "more": True},
        {"jobs": [{"n": 5}, {"n": 5}]},
        {"jobs": [{"n": 6}, {"n": 4}], "more": True},
    ],
    ids=repr,
)
def test_a_list_whose_numbers_do_not_rise_is_malformed(data: dict[str, Any]) -> None:
    with pytest.raises(decode.MalformedError):
        messages.read_page(data, 3)


@pytest.mark.parametrize(
    "names",
    [
        {"entry1": {"demo": "cancel"}},
        {"entry1": {"demo": "run_demo"}, "entry2": {"demo": "run_demo"}},
    ],
    ids=repr,
)
def test_names_of_actions_that_are_none_or_there_twice_are_malformed(names: Any) -> None:
    with pytest.raises(decode.MalformedError):
        stored.read_names(names)


@pytest.mark.parametrize("digest", ["../../../secrets", "/config/secrets", "a" * 65, "", "AB", 7])
def test_a_digest_that_could_name_another_file_is_malformed(digest: Any) -> None:
    output = {**RESULT["outputs"][0], "sha256": digest}
    with pytest.raises(decode.MalformedError):
        messages.read_result({**RESULT, "outputs": [output]})


def test_a_list_says_where_it_goes_on() -> None:
    assert messages.read_page({"jobs": [{"n": 4}, {"n": 9}], "more": True}, 3).after == 9
    assert messages.read_page({"jobs": [{"n": 4}], "more": False}, 3).after is None
    assert messages.read_page({"jobs": [], "more": True}, 3).after is None
