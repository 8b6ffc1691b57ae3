from __future__ import annotations

import json
import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bridge.comfyui import frames
from bridge.comfyui.frames import decode

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
TYPES = [
    "status",
    "execution_start",
    "execution_cached",
    "executing",
    "progress",
    "progress_state",
    "executed",
    "execution_success",
    "execution_error",
    "execution_interrupted",
    "feature_flags",
    "crystools.monitor",
]
HEADERS = st.builds(
    frames.OutputHeader,
    node=st.text(),
    index=st.integers(0, 1000),
    name=st.text(),
    content_type=st.sampled_from(["image/png", "image/webp"]),
    size=st.just(0),
    sha256=st.text("0123456789abcdef", min_size=64, max_size=64),
    width=st.integers(0, 65536),
    height=st.integers(0, 65536),
    prompt_id=st.text(),
)

LISTED: dict[str, object] = {
    "node": "9",
    "index": 0,
    "name": "image",
    "content_type": "image/png",
    "size": 3,
    "sha256": "00",
    "width": 1,
    "height": 2,
}


def text(kind: str, **data: object) -> str:
    return json.dumps({"type": kind, "data": data})


def binary(kind: int, header: dict[str, object] | bytes, data: bytes) -> bytes:
    encoded = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack(">II", kind, len(encoded)) + encoded + data


def output(data: bytes, **changes: object) -> bytes:
    return binary(frames.OUTPUT, {**LISTED, "prompt_id": "p", "size": len(data), **changes}, data)


@given(st.binary())
def test_no_bytes_make_the_decoder_raise(message: bytes) -> None:
    decode(message)


@given(st.sampled_from([1, 2, 3, 4, frames.OUTPUT]), st.binary())
def test_no_bytes_after_a_known_type_make_the_decoder_raise(kind: int, rest: bytes) -> None:
    decode(struct.pack(">I", kind) + rest)


@given(st.text())
@example("[" * 100_000)
@example('{"type": "executed", "data": ' + '{"a":' * 5000 + "1" + "}" * 5001)
def test_no_text_makes_the_decoder_raise(message: str) -> None:
    decode(message)


@given(st.sampled_from(TYPES), JSON)
def test_no_data_makes_the_decoder_raise(kind: str, data: object) -> None:
    decode(json.dumps({"type": kind, "data": data}))


@given(HEADERS, st.binary())
def test_an_output_comes_out_as_it_went_in(header: frames.OutputHeader, data: bytes) -> None:
    described = {name: getattr(header, name) for name in header.__struct_fields__}
    frame = decode(binary(frames.OUTPUT, {**described, "size": len(data)}, data))
    assert isinstance(frame, frames.OutputBytes)
    assert frame.data == data
    assert frame.header.node == header.node
    assert frames.prompt_of(frame) == header.prompt_id


def test_an_outputs_bytes_are_not_copied() -> None:
    message = output(b"\x89PNG" * 1000)
    frame = decode(message)
    assert isinstance(frame, frames.OutputBytes)
    assert frame.data.obj is message


@pytest.mark.parametrize(
    "message",
    [
        output(b"abc", size=4),
        output(b"abc", index="0"),
        output(b"abc")[:20],
        binary(frames.OUTPUT, b"not json", b"abc"),
        struct.pack(">II", frames.OUTPUT, 2**32 - 1),
    ],
)
def test_a_torn_output_is_none(message: bytes) -> None:
    assert decode(message) is None


def test_a_preview_with_metadata_knows_its_node() -> None:
    metadata = {"node_id": "3", "prompt_id": "p", "image_type": "image/jpeg", "more": 1}
    frame = decode(binary(frames.PREVIEW_WITH_METADATA, metadata, b"jpeg"))
    assert frame == frames.PreviewImage("image/jpeg", memoryview(b"jpeg"), "p", "3")


@pytest.mark.parametrize(
    ("image_format", "content_type"),
    [(1, "image/jpeg"), (2, "image/png"), (7, "application/octet-stream")],
)
def test_an_older_preview_knows_its_format_only(image_format: int, content_type: str) -> None:
    frame = decode(struct.pack(">II", frames.PREVIEW, image_format) + b"image")
    assert frame == frames.PreviewImage(content_type, memoryview(b"image"))


# As ComfyUI 0.3.75 sends them.
@pytest.mark.parametrize(
    ("message", "frame"),
    [
        (
            text("status", status={"exec_info": {"queue_remaining": 2}}, sid="c"),
            frames.StatusMessage(frames.QueueStatus(frames.ExecInfo(2))),
        ),
        (
            text("execution_start", prompt_id="p", timestamp=1),
            frames.ExecutionStart("p"),
        ),
        (
            text("execution_cached", nodes=["1", "58:43"], prompt_id="p", timestamp=1),
            frames.ExecutionCached("p", ("1", "58:43")),
        ),
        (
            text("executing", node="406.0.0.428", display_node="406", prompt_id="p"),
            frames.Executing("406.0.0.428", "p", "406"),
        ),
        (text("executing", node=None, prompt_id="p"), frames.Executing(None, "p")),
        (
            text("progress", value=1, max=12, prompt_id="p", node="3"),
            frames.StepProgress(1, 12, "p", "3"),
        ),
        (
            text(
                "progress_state",
                prompt_id="p",
                nodes={"3": {"value": 0.5, "max": 1.0, "state": "running", "node_id": "3"}},
            ),
            frames.ProgressState("p", {"3": frames.NodeProgress(0.5, 1.0, "running")}),
        ),
        (
            text("executed", node="9", display_node="9", output={"images": []}, prompt_id="p"),
            frames.NodeExecuted("p", "9", "9", {"images": []}),
        ),
        (
            text("executed", node="9", display_node="9", output=None, prompt_id="p"),
            frames.NodeExecuted("p", "9", "9", None),
        ),
        (text("execution_success", prompt_id="p"), frames.ExecutionSuccess("p")),
        (
            text("execution_interrupted", prompt_id="p", node_id="3", executed=[]),
            frames.ExecutionInterrupted("p"),
        ),
    ],
)
def test_each_kind_of_text_is_typed(message: str, frame: frames.Frame) -> None:
    assert decode(message) == frame


def test_a_failure_whose_inputs_are_not_json_is_not_lost() -> None:
    frame = decode(
        text(
            "execution_error",
            prompt_id="p",
            node_id="3",
            node_type="KSampler",
            exception_type="ValueError",
            exception_message="cfg",
            traceback=["a", "b"],
            current_inputs={"cfg": [float("nan")], "limit": [float("inf")]},
        )
    )
    assert frame == frames.ExecutionFault("p", "3", "KSampler", "ValueError", "cfg", ("a", "b"))


def test_what_names_a_file_whose_name_is_not_utf_8_is_not_lost() -> None:
    fault = decode(text("execution_error", prompt_id="p", exception_message="no \udcff.png"))
    assert fault == frames.ExecutionFault("p", exception_message="no ?.png")
    output = {"text": ["cut within an emoji: \ud83d"]}
    done = decode(text("executed", prompt_id="p", node="1", output=output))
    assert done == frames.NodeExecuted("p", "1", output={"text": ["cut within an emoji: ?"]})


@pytest.mark.parametrize(
    "message",
    [
        text("crystools.monitor", cpu=1),
        text("feature_flags", supports_preview_metadata=True),
        text("executing"),
        text("progress", value="1", max=2),
        '{"data": {}}',
        '{"type": "status", "data": 1}',
        "null",
        struct.pack(">II", 3, 1) + b"3text",
        struct.pack(">I", 99),
        b"",
    ],
)
def test_what_is_unknown_is_none(message: str | bytes) -> None:
    assert decode(message) is None


def test_the_outputs_that_our_nodes_list_are_read() -> None:
    (header,) = frames.output_headers({"comfy2mqtt": [LISTED]})
    assert (header.node, header.index, header.prompt_id) == ("9", 0, "")
    assert frames.output_headers({"images": [{"filename": "a.png"}]}) == ()


@given(JSON)
def test_no_ui_output_makes_the_reader_raise(value: object) -> None:
    frames.output_headers({"comfy2mqtt": value})
