from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.comfyui import events
from bridge.comfyui.history import read_history, read_queue


def item(number: float, prompt_id: str) -> list[Any]:
    return [number, prompt_id, {"1": {"class_type": "A", "inputs": {}}}, {"client_id": "c"}, ["1"]]


def entry(*, messages: list[Any] | None = None, **changes: Any) -> bytes:
    status = {"status_str": "success", "completed": True, "messages": messages or []}
    held = {"prompt": item(1, "p"), "outputs": {}, "status": status, "meta": {}, **changes}
    return json.dumps({"p": held}).encode()


def test_the_queue_is_listed_in_the_order_in_which_it_runs() -> None:
    body = {
        "queue_running": [item(1, "a")],
        "queue_pending": [item(2, "b"), item(7, "d"), item(-3, "first"), item(2, "c")],
    }
    queue = read_queue(json.dumps(body).encode())
    assert queue.running == ("a",)
    assert queue.pending == ("first", "b", "c", "d")
    assert "a" in queue
    assert "d" in queue
    assert "e" not in queue


def test_what_is_not_remembered_is_none() -> None:
    assert read_history(b"{}", "p") is None


def test_a_success_has_its_outputs_and_its_graph() -> None:
    outputs = {"9": {"images": [], "animated": [True]}}
    read = read_history(entry(outputs=outputs), "p")
    assert read is not None
    assert read.end == events.Succeeded(outputs)
    assert read.prompt["1"]["class_type"] == "A"


def test_a_failure_is_read_from_the_messages() -> None:
    data = {
        "prompt_id": "p",
        "node_id": "3",
        "node_type": "KSampler",
        "exception_type": "ValueError",
        "exception_message": "no",
        "traceback": ["line"],
        "current_inputs": {"cfg": [float("nan")]},
    }
    read = read_history(entry(messages=[["execution_start", {}], ["execution_error", data]]), "p")
    assert read is not None
    assert read.end == events.Failed("ValueError", "no", "3", "KSampler", ("line",))


def test_an_interruption_is_read_from_the_messages() -> None:
    read = read_history(entry(messages=[["execution_interrupted", {"prompt_id": "p"}]]), "p")
    assert read is not None
    assert read.end == events.PromptInterrupted()


def test_an_error_without_a_message_is_a_failure() -> None:
    status = {"status_str": "error", "completed": False, "messages": []}
    read = read_history(entry(status=status), "p")
    assert read is not None
    assert isinstance(read.end, events.Failed)


@pytest.mark.parametrize(
    ("changes", "end"),
    [
        ({"prompt": 7}, events.Succeeded({})),
        ({"prompt": ["1", 2, []]}, events.Succeeded({})),
        ({"outputs": []}, events.Succeeded({})),
        ({"outputs": {"8": None, "9": {"images": []}}}, events.Succeeded({"9": {"images": []}})),
        ({"status": "success"}, events.Succeeded({})),
        ({"messages": [7, None, [], ["x"], {"y": 1}]}, events.Succeeded({})),
        ({"messages": [["execution_interrupted"]]}, events.PromptInterrupted()),
    ],
)
def test_what_nobody_knows_in_an_entry_hides_not_how_the_prompt_ended(
    changes: dict[str, Any], end: events.Terminal
) -> None:
    read = read_history(entry(**changes), "p")
    assert read is not None
    assert read.end == end


@pytest.mark.parametrize("data", [[], [7], [{"prompt_id": None}], [{"traceback": 5}], [{}, {}]])
def test_an_error_that_cannot_be_read_is_a_failure(data: list[Any]) -> None:
    read = read_history(entry(messages=[["execution_error", *data]]), "p")
    assert read is not None
    assert isinstance(read.end, events.Failed)


def test_texts_that_are_cut_within_an_emoji_hide_nobodys_prompts() -> None:
    prompt = [1, "p", {"1": {"class_type": "X", "inputs": {"text": "\ud83d"}}}, {}, []]
    queue = read_queue(json.dumps({"queue_running": [prompt], "queue_pending": []}).encode())
    assert queue.running == ("p",)
    read = read_history(json.dumps({"p": {"prompt": prompt, "outputs": {}}}).encode(), "p")
    assert read is not None


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b'{"p": {}}', b'{"p": NaN}', b"{NaN"])
def test_what_is_no_history_raises_one_kind_of_error(body: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        read_history(body, "p")


@given(st.binary())
def test_no_bytes_raise_another_kind_of_error(body: bytes) -> None:
    for read in (read_queue, lambda one: read_history(one, "p")):
        try:
            read(body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
