from __future__ import annotations

from bridge.adapters.homeassistant.inputs import Inputs
from bridge.jobs.journal import Journal


async def opened(journal: Journal) -> Inputs:
    inputs = Inputs(journal.kept)
    await inputs.read()
    return inputs


async def test_what_was_set_is_there_after_a_restart(journal: Journal) -> None:
    inputs = await opened(journal)
    assert inputs.get("demo", "steps") is None
    await inputs.set("demo", "steps", 30)
    await inputs.set("demo", "prompt", "a barn")
    await inputs.set("other", "upscale", True)  # noqa: FBT003 - a value
    again = await opened(journal)
    assert again.get("demo", "steps") == 30
    assert again.get("demo", "prompt") == "a barn"
    assert again.get("other", "upscale") is True


async def test_what_another_bridge_set_is_read_again(journal: Journal) -> None:
    mine, others = await opened(journal), await opened(journal)
    await others.set("demo", "steps", 30)
    assert mine.get("demo", "steps") is None
    await mine.read()
    assert mine.get("demo", "steps") == 30


async def test_a_value_that_cannot_be_read_has_its_default(journal: Journal) -> None:
    await journal.kept.keep("homeassistant input", {"demo/steps": b"{", "demo/size": b"7"})
    inputs = await opened(journal)
    assert inputs.get("demo", "steps") is None
    assert inputs.get("demo", "size") == 7
