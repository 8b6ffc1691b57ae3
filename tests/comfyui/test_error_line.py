from __future__ import annotations

import pytest

from bridge.comfyui.errors import error_line


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ([], ""),
        (["starting", "torch is missing", ""], "torch is missing"),
        (
            [
                "Traceback:",
                '  File "main.py"',
                "ModuleNotFoundError: No module named 'yaml'",
                "bye",
            ],
            "ModuleNotFoundError: No module named 'yaml'",
        ),
        (
            ["AssertionError: Torch not compiled with CUDA enabled", "", "Press any key"],
            "AssertionError: Torch not compiled with CUDA enabled",
        ),
        (
            ["usage: main.py [-h]", "main.py: error: unrecognized arguments: --x"],
            "main.py: error: unrecognized arguments: --x",
        ),
        (["torch.OutOfMemoryError: CUDA", "1 file"], "torch.OutOfMemoryError: CUDA"),
    ],
)
def test_the_line_with_the_reason_is_found(lines: list[str], told: str) -> None:
    assert error_line(lines) == told
