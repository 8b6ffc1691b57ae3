from __future__ import annotations

from pathlib import Path

from bridge.adapters.homeassistant.inputs import Inputs


async def test_what_was_set_is_there_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "homeassistant" / "inputs.json"
    inputs = Inputs(path)
    await inputs.open()
    assert inputs.get("demo", "steps") is None
    await inputs.set("demo", "steps", 30)
    await inputs.set("demo", "prompt", "a barn")
    await inputs.set("other", "upscale", True)  # noqa: FBT003 - a value
    again = Inputs(path)
    await again.open()
    assert again.get("demo", "steps") == 30
    assert again.get("demo", "prompt") == "a barn"
    assert again.get("other", "upscale") is True


async def test_a_file_that_cannot_be_read_is_as_none(tmp_path: Path) -> None:
    path = tmp_path / "inputs.json"
    path.write_text('{"demo": [1]}')
    inputs = Inputs(path)
    await inputs.open()
    assert inputs.get("demo", "steps") is None
