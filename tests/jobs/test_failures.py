from __future__ import annotations

from bridge.comfyui.events import Failed
from bridge.contract.messages import encode
from bridge.jobs import failures


def test_what_a_node_says_at_length_is_cut_to_what_a_packet_takes() -> None:
    said = "x" * 3_000_000
    error = failures.failed(Failed("ValueError", said, "9", "SaveImage", (said,) * 20))
    assert error.message.startswith("node 9 (SaveImage): xxx")
    assert len(encode(error.wire())) < 64 * 1024
    short = failures.failed(Failed("ValueError", "no such file", "9", "SaveImage", ("line 1",)))
    assert short.message == "node 9 (SaveImage): no such file"
    assert short.details["traceback"] == ["line 1"]


def test_a_failure_names_files_without_their_folders() -> None:
    trace = ('  File "/home/ada/ComfyUI/nodes.py", line 3, in load',)
    error = failures.failed(Failed("OSError", "no /home/ada/a.ckpt", "9", "Loader", trace))
    assert "ada" not in str(error.wire())
    assert error.details["traceback"] == ['  File ".../nodes.py", line 3, in load']
