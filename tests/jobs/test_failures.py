from __future__ import annotations

import pytest

from bridge.comfyui.errors import (
    ComfyUIUnreachable,
    NodeProblems,
    PromptRejected,
    ValidationProblem,
)
from bridge.comfyui.events import Failed
from bridge.contract.messages import encode
from bridge.jobs import failures


def test_what_a_node_says_at_length_is_cut_to_what_a_packet_takes() -> None:
    said = "x" * 3_000_000
    error = failures.execution_failed(Failed("ValueError", said, "9", "SaveImage", (said,) * 20))
    assert error.message.startswith("node 9 (SaveImage): xxx")
    assert len(encode(error.wire())) < 64 * 1024
    short = failures.execution_failed(
        Failed("ValueError", "no such file", "9", "SaveImage", ("line 1",))
    )
    assert short.message == "node 9 (SaveImage): no such file"
    assert short.details["traceback"] == ["line 1"]


def test_a_failure_names_files_without_their_folders() -> None:
    trace = ('  File "/home/ada/ComfyUI/nodes.py", line 3, in load',)
    error = failures.execution_failed(
        Failed("OSError", "no /home/ada/a.ckpt", "9", "Loader", trace)
    )
    assert "ada" not in str(error.wire())
    assert error.details["traceback"] == ['  File ".../nodes.py", line 3, in load']


def test_a_secret_in_others_words_is_in_no_error() -> None:
    event = Failed("Exception", "401: comfyui-abc is no key", "9", "Gemini", ("got comfyui-abc",))
    error = failures.without(failures.execution_failed(event), "comfyui-abc")
    assert b"comfyui-abc" not in encode(error.wire())
    assert (error.code, error.message) == (
        "execution_error",
        "node 9 (Gemini): 401: *** is no key",
    )
    assert error.details["traceback"] == ["got ***"]
    nested = failures.without(type(error)("m", received={"a": ["comfyui-abc", 3]}), "comfyui-abc")
    assert nested.details == {"received": {"a": ["***", 3]}}


@pytest.mark.parametrize(
    ("message", "full"),
    [
        ("[Errno 28] No space left on device: '/out/a.png'", True),
        ("[Errno 122] Disk quota exceeded", True),
        ("Error while writing: No space left on device", True),
        ("[Errno 2] No such file or directory", False),
        ("there is no space between the words", False),
    ],
)
def test_a_full_disk_is_distinguished_from_other_failures(message: str, *, full: bool) -> None:
    assert failures.is_full_disk(Failed("OSError", message, "9", "SaveImage", ())) is full


def test_a_class_that_only_seems_to_be_an_output_is_explained() -> None:
    problem = ValidationProblem(type="prompt_no_outputs", message="Prompt has no outputs")
    error = failures.rejected(PromptRejected(problem, {}), {})
    assert error.message.startswith("Prompt has no outputs: a class counts as an output")
    assert "OUTPUT_NODE" in error.message


def test_errors_show_neither_paths_nor_colours() -> None:
    home = "/home/somebody/my ComfyUI"
    event = Failed(
        "FileNotFoundError",
        f"\x1b[31m[Errno 2] No such file or directory: '{home}/models/vae.safetensors'\x1b[0m",
        "9",
        "VAELoader",
        (f'  File "{home}/execution.py", line 510, in execute\n',),
    )
    for error in (
        failures.execution_failed(event),
        failures.prompt_lost(f"the process of {home.replace(' ', '_')}/main.py ended"),
        failures.unavailable(ComfyUIUnreachable(f"'{home}/x.sock'", sent=False), "main"),
        failures.rejected(_rejected(f"Invalid image file: {home.replace(' ', '_')}/a.png"), {}),
    ):
        wire = encode(error.wire()).decode()
        assert "somebody" not in wire
        assert "\\u001b" not in wire
    assert failures.execution_failed(event).message.endswith("directory: '.../vae.safetensors'")


def _rejected(details: str) -> PromptRejected:
    problem = ValidationProblem("custom", "refused", details, {"received_value": details})
    nodes = {"1": NodeProblems((problem,), (), "LoadImage")}
    return PromptRejected(ValidationProblem("custom", details), nodes)
