"""Commands that add what is missing."""

from __future__ import annotations

import pytest

from bridge.resources import how_to_add


def test_the_command_for_an_extra_can_be_pasted_where_a_folder_has_a_space(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.executable", "/Application Support/pipx/bin/python")
    assert how_to_add("s3") == (
        '"/Application Support/pipx/bin/python" -m pip install "comfy2mqtt[s3]"'
    )
