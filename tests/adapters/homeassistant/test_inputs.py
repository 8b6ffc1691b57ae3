from __future__ import annotations

from pathlib import Path

import pytest

from bridge.adapters.homeassistant.inputs import TAKEN_OVER, Inputs
from bridge.jobs.journal import Journal


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return tmp_path / "inputs.json"


def files(old: Path) -> list[str]:
    return sorted(each.name for each in old.parent.glob(f"{old.name}*"))


def write(old: Path, text: str) -> None:
    old.write_text(text)


async def opened(journal: Journal, old: Path) -> Inputs:
    inputs = Inputs(journal.adapter_store, old)
    await inputs.open()
    return inputs


async def test_what_was_set_is_there_after_a_restart(journal: Journal, old: Path) -> None:
    inputs = await opened(journal, old)
    assert inputs.get("demo", "steps") is None
    await inputs.set("demo", "steps", 30)
    await inputs.set("demo", "prompt", "a barn")
    await inputs.set("other", "upscale", True)  # noqa: FBT003 - a value
    again = await opened(journal, old)
    assert again.get("demo", "steps") == 30
    assert again.get("demo", "prompt") == "a barn"
    assert again.get("other", "upscale") is True


async def test_what_another_bridge_set_is_read_again(journal: Journal, old: Path) -> None:
    mine, others = await opened(journal, old), await opened(journal, old)
    await others.set("demo", "steps", 30)
    assert mine.get("demo", "steps") is None
    await mine.read()
    assert mine.get("demo", "steps") == 30


async def test_the_file_of_an_earlier_version_is_taken_over_once(
    journal: Journal, old: Path
) -> None:
    await (await opened(journal, old)).set("demo", "prompt", "newer")
    write(old, '{"demo": {"steps": 30, "prompt": "older"}, "other": {"upscale": true}}')
    inputs = await opened(journal, old)
    assert inputs.get("demo", "steps") == 30
    assert inputs.get("demo", "prompt") == "newer"
    assert inputs.get("other", "upscale") is True
    assert files(old) == [old.name + TAKEN_OVER]


async def test_a_file_that_cannot_be_read_is_as_none(journal: Journal, old: Path) -> None:
    write(old, '{"demo": [1]}')
    inputs = await opened(journal, old)
    assert inputs.get("demo", "steps") is None
    assert files(old) == [old.name]


async def test_a_value_that_cannot_be_read_has_its_default(journal: Journal, old: Path) -> None:
    await journal.adapter_store.keep("homeassistant input", {"demo/steps": b"{", "demo/size": b"7"})
    inputs = await opened(journal, old)
    assert inputs.get("demo", "steps") is None
    assert inputs.get("demo", "size") == 7
