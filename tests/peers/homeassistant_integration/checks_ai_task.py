"""AI tasks: pictures and texts of workflows, attachments, errors, time limits, cancels."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import Any

import probatio as vol
import pytest
from conftest import entry_with, set_up
from fake_bridge import CAPTION, DEMO, PNG, FakeBridge
from homeassistant.components import ai_task
from homeassistant.components.ai_task import AITaskEntityFeature
from homeassistant.core import HomeAssistant
from homeassistant.exceptions import HomeAssistantError
from pytest_homeassistant_custom_component.common import MockConfigEntry

DEMO_TASK, PHOTO_TASK, CAPTION_TASK = (
    "ai_task.demo_task_demo",
    "ai_task.photo_task_photo",
    "ai_task.caption_task_caption",
)


async def make(home: HomeAssistant, entity: str = DEMO_TASK, **fields: Any) -> Any:
    return await ai_task.async_generate_image(
        home, task_name="barn", entity_id=entity, instructions="a red barn", **fields
    )


async def describe(home: HomeAssistant, **fields: Any) -> Any:
    found = await ai_task.async_generate_data(
        home, task_name="what", entity_id=CAPTION_TASK, instructions="what is there?", **fields
    )
    return found.data


def attachment(tmp_path: Path, data: bytes = PNG) -> list[dict[str, str]]:
    """A picture in the local media."""
    (tmp_path / "media").mkdir(exist_ok=True)
    (tmp_path / "media" / "door.png").write_bytes(data)
    content_id = "media-source://media_source/local/door.png"
    return [{"media_content_id": content_id, "media_content_type": "image/png"}]


async def test_a_task_makes_a_picture_of_its_instructions(
    home: HomeAssistant, bridge: FakeBridge, loaded: MockConfigEntry, tmp_path: Path
) -> None:
    found = await make(home)
    (job,) = bridge.asked("submit")
    assert job["inputs"] == {"prompt": "a red barn"}
    assert (job["timeout_s"], job["start_within_s"]) == (300, 300)
    assert found["model"] == "demo"
    assert found["url"].startswith("/ai_task/image/")
    kept = list((tmp_path / "media" / "ai_task" / "image").iterdir())
    assert [each.read_bytes() for each in kept] == [PNG]


async def test_what_a_workflow_gives_and_takes_is_what_its_entity_can_do(
    home: HomeAssistant, bridge: FakeBridge, loaded: MockConfigEntry
) -> None:
    def features(entity: str) -> Any:
        state = home.states.get(entity)
        assert state is not None
        return AITaskEntityFeature(state.attributes["supported_features"])

    attach = AITaskEntityFeature.SUPPORT_ATTACHMENTS
    assert features(DEMO_TASK) == AITaskEntityFeature.GENERATE_IMAGE
    assert features(PHOTO_TASK) == AITaskEntityFeature.GENERATE_IMAGE | attach
    assert features(CAPTION_TASK) == AITaskEntityFeature.GENERATE_DATA | attach
    both = {**DEMO, "outputs": [*DEMO["outputs"], *CAPTION["outputs"]]}
    bridge.fire("workflow/demo", both, retain=True)
    assert AITaskEntityFeature.GENERATE_DATA in features(DEMO_TASK)


async def test_the_chosen_inputs_take_instructions_and_attachment_and_others_are_fixed(
    home: HomeAssistant, bridge: FakeBridge, tmp_path: Path
) -> None:
    task = {
        "workflow": "photo",
        "attachment_input": "image",
        "prompt_input": "prompt",
        "timeout": 20,
        "inputs": {"strength": 0.5},
    }
    await set_up(home, bridge, entry_with(task))
    await make(home, PHOTO_TASK, attachments=attachment(tmp_path))
    (job,) = bridge.asked("submit")
    assert job["inputs"]["image"]["content_type"] == "image/png"
    assert (job["inputs"]["prompt"], job["inputs"]["strength"]) == ("a red barn", 0.5)
    assert "mask" not in job["inputs"]
    assert job["timeout_s"] == 20


async def test_a_large_attachment_goes_before_its_job_in_parts(
    home: HomeAssistant, bridge: FakeBridge, loaded: MockConfigEntry, tmp_path: Path
) -> None:
    data = PNG + bytes(700_000)
    bridge.silent = {"upload": 2}  # the first answers are lost
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("custom_components.comfy2mqtt.requests.ANSWER_S", 0.01)
        await make(home, PHOTO_TASK, attachments=attachment(tmp_path, data))
    (upload,) = bridge.uploads
    assert bytes(bridge.uploads[upload]) == data
    assert bridge.asked("submit")[0]["inputs"]["mask"] == {"upload": upload}
    begun = bridge.asked("upload")[0]
    assert (begun["size"], begun["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())


async def test_an_attachment_that_is_not_taken_is_an_error_before_any_job(
    home: HomeAssistant, bridge: FakeBridge, loaded: MockConfigEntry, tmp_path: Path
) -> None:
    with pytest.raises(HomeAssistantError, match="takes 2 attachments at most"):
        await make(home, PHOTO_TASK, attachments=attachment(tmp_path) * 3)
    with pytest.raises(HomeAssistantError, match="the bridge takes 4000000"):
        await make(home, PHOTO_TASK, attachments=attachment(tmp_path, bytes(4_000_001)))
    gone = attachment(tmp_path)
    (tmp_path / "media" / "door.png").unlink()
    with pytest.raises(HomeAssistantError, match="cannot be read: No such file"):
        await make(home, PHOTO_TASK, attachments=gone)
    bridge.errors["upload"] = {"code": "quota_exceeded", "message": "full"}
    with pytest.raises(HomeAssistantError, match="refused Photo: full"):
        await make(home, PHOTO_TASK, attachments=attachment(tmp_path, bytes(700_000)))
    assert not bridge.asked("submit")


async def test_a_text_workflow_gives_data(
    home: HomeAssistant, bridge: FakeBridge, loaded: MockConfigEntry, tmp_path: Path
) -> None:
    bridge.outputs = [("text", "text/plain", b"a door, open \n")]
    assert await describe(home, attachments=attachment(tmp_path)) == "a door, open"
    assert set(bridge.asked("submit")[0]["inputs"]) == {"image"}  # it has no text to take
    one = vol.Schema({vol.Required("caption"): str})
    assert await describe(home, structure=one) == {"caption": "a door, open"}
    two = vol.Schema({vol.Required("what"): str, vol.Optional("open"): bool})
    with pytest.raises(HomeAssistantError, match="no JSON object"):
        await describe(home, structure=two)
    bridge.outputs = [("text", "application/json", b'{"what": "door", "open": true}')]
    assert await describe(home, structure=two) == {"what": "door", "open": True}
    bridge.outputs = [("text", "application/json", b'{"what": 7}')]
    with pytest.raises(HomeAssistantError, match="does not fit the structure"):
        await describe(home, structure=two)


@pytest.mark.parametrize(
    ("outcome", "message"),
    [
        (
            {"state": "failed", "error": {"code": "out_of_memory", "message": "no memory"}},
            "Demo did not succeed: no memory",
        ),
        ({"state": "cancelled"}, "Demo did not succeed: cancelled"),
        ({"state": "succeeded", "outputs": []}, "demo gave no picture"),
    ],
)
async def test_a_job_without_a_picture_is_an_error_that_says_why(
    home: HomeAssistant,
    bridge: FakeBridge,
    loaded: MockConfigEntry,
    outcome: dict[str, Any],
    message: str,
) -> None:
    bridge.outcome = outcome
    with pytest.raises(HomeAssistantError, match=message):
        await make(home)


async def test_no_text_is_an_error(
    home: HomeAssistant, bridge: FakeBridge, loaded: MockConfigEntry
) -> None:
    with pytest.raises(HomeAssistantError, match="caption gave no text"):
        await describe(home)


async def test_what_the_bridge_refuses_is_an_error_with_its_words(
    home: HomeAssistant, bridge: FakeBridge, loaded: MockConfigEntry
) -> None:
    bridge.errors["submit"] = {"code": "busy", "message": "100 jobs wait", "details": {}}
    with pytest.raises(HomeAssistantError, match="refused Demo: 100 jobs wait"):
        await make(home)
    del bridge.errors["submit"]
    bridge.errors["fetch"] = {"code": "expired", "message": "kept no longer"}
    with pytest.raises(HomeAssistantError, match="refused demo: kept no longer"):
        await make(home)
    del bridge.errors["fetch"]
    bridge.damages = True
    with pytest.raises(HomeAssistantError, match="not those of its result"):
        await make(home)


async def test_a_workflow_that_is_gone_is_an_error_and_its_entity_unavailable(
    home: HomeAssistant, bridge: FakeBridge, loaded: MockConfigEntry
) -> None:
    bridge.fire("workflow/demo", "", retain=True)
    state = home.states.get(DEMO_TASK)
    assert state is not None
    assert state.state == "unavailable"
    with pytest.raises(HomeAssistantError, match="has no workflow demo"):
        await make(home)


async def test_a_task_of_a_workflow_that_never_was_can_do_nothing(
    home: HomeAssistant, bridge: FakeBridge
) -> None:
    await set_up(home, bridge, entry_with({"workflow": "nothing"}))
    state = home.states.get("ai_task.nothing_task_nothing")
    assert state is not None
    assert state.attributes["supported_features"] == 0


async def test_a_request_is_sent_again_under_the_same_id_until_it_is_answered(
    home: HomeAssistant,
    bridge: FakeBridge,
    loaded: MockConfigEntry,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("custom_components.comfy2mqtt.requests.ANSWER_S", 0.01)
    bridge.silent = {"submit": 2}
    await make(home)
    assert len({job["job_id"] for job in bridge.asked("submit")}) == 1
    bridge.silent = {"submit": 3}
    with pytest.raises(HomeAssistantError, match="does not answer the client homeassistant"):
        await make(home)


async def test_a_job_that_takes_too_long_is_cancelled(
    home: HomeAssistant,
    bridge: FakeBridge,
    loaded: MockConfigEntry,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("custom_components.comfy2mqtt.hub.MARGIN_S", -600.0)
    bridge.ends = False
    with pytest.raises(HomeAssistantError, match="took too long"):
        await make(home)
    await home.async_block_till_done(wait_background_tasks=True)
    assert bridge.asked("cancel")[0]["job_id"] == bridge.asked("submit")[0]["job_id"]


async def test_whoever_cancels_a_task_cancels_its_job(
    home: HomeAssistant, bridge: FakeBridge, loaded: MockConfigEntry
) -> None:
    bridge.ends = False
    # One that has ended by then cannot be cancelled; nobody waits for it.
    bridge.errors["cancel"] = {"code": "unknown_job", "message": "nothing"}
    # It is cancelled before it was accepted, and after.
    for turns in (0, 50):
        bridge.requests.clear()
        task = asyncio.create_task(make(home))
        while not bridge.asked("submit"):
            await asyncio.sleep(0)
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await home.async_block_till_done(wait_background_tasks=True)
        assert bridge.asked("cancel")[0]["job_id"] == bridge.asked("submit")[0]["job_id"]


async def test_while_the_bridge_is_away_a_task_fails_at_once(
    home: HomeAssistant, bridge: FakeBridge, loaded: MockConfigEntry
) -> None:
    bridge.leave()
    state = home.states.get(DEMO_TASK)
    assert state is not None
    assert state.state == "unavailable"
    with pytest.raises(HomeAssistantError, match="is not available"):
        await make(home)


async def test_a_task_that_waits_fails_when_the_integration_is_unloaded(
    home: HomeAssistant, bridge: FakeBridge, loaded: MockConfigEntry
) -> None:
    bridge.ends = False
    task = asyncio.create_task(make(home))
    while not bridge.asked("submit"):
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert await home.config_entries.async_unload(loaded.entry_id)
    with pytest.raises(HomeAssistantError, match="was stopped"):
        await task
