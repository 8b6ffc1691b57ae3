"""Actions, and the media that they and others name."""

from __future__ import annotations

from http import HTTPStatus
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import pytest
from conftest import DOMAIN, entry_with, set_up
from fake_bridge import DEMO, PNG, FakeBridge
from homeassistant.components import media_source
from homeassistant.components.media_player import BrowseError
from homeassistant.config_entries import ConfigEntryDisabler
from homeassistant.core import HomeAssistant
from homeassistant.exceptions import HomeAssistantError, ServiceValidationError
from homeassistant.helpers.service import async_get_all_descriptions
from homeassistant.setup import async_setup_component
from pytest_homeassistant_custom_component.common import MockConfigEntry
from seen import settled


async def call(home: HomeAssistant, action: str, *, response: bool = True, **data: Any) -> Any:
    return await home.services.async_call(
        DOMAIN, action, data, blocking=True, return_response=response
    )


async def test_a_workflow_is_run_and_its_outputs_returned(
    home: HomeAssistant, bridge: FakeBridge, loaded: MockConfigEntry
) -> None:
    found = await call(
        home,
        "run",
        workflow="demo",
        inputs={"prompt": "a boat", "steps": 8.0},
        timeout=60,
        priority=5,
    )
    (job,) = bridge.asked("submit")
    assert job["inputs"] == {"prompt": "a boat", "steps": 8}
    assert (job["timeout_s"], job["priority"]) == (60, 5)
    assert (found["state"], found["job_id"]) == ("succeeded", job["job_id"])
    place = f"media-source://comfy2mqtt/{loaded.entry_id}/demo/{job['job_id']}/0"
    assert found["outputs"][0]["media_content_id"] == place


async def test_without_a_response_it_is_done_once_the_job_is_accepted(
    home: HomeAssistant, bridge: FakeBridge, loaded: MockConfigEntry
) -> None:
    bridge.ends = False
    assert await call(home, "run", response=False, workflow="demo") is None
    assert bridge.asked("submit")[0]["inputs"] == {}


async def test_each_workflow_has_an_action_with_its_inputs_as_fields(
    home: HomeAssistant, bridge: FakeBridge, loaded: MockConfigEntry
) -> None:
    described = (await async_get_all_descriptions(home))[DOMAIN]
    assert described["run_demo"]["name"] == "Run Demo"
    fields = described["run_demo"]["fields"]
    assert set(fields) == {"prompt", "steps", "style"}
    assert fields["steps"]["selector"]["number"]["max"] == 50
    assert fields["style"]["selector"]["select"]["options"] == ["oil", "ink"]
    photo = described["run_photo"]["fields"]["image"]
    assert photo["required"]
    assert photo["selector"] == {"media": {"accept": ["image/*"]}}
    await call(home, "run_demo", prompt="a boat", style="ink")
    assert bridge.asked("submit")[0]["inputs"] == {"prompt": "a boat", "style": "ink"}
    # A model that was installed is in a list, and the definition that names the list is as before.
    bridge.fire("bridge/choices/styles", {"name": "styles", "choices": ["oil", "ink", "wash"]})
    described = (await async_get_all_descriptions(home))[DOMAIN]
    options = described["run_demo"]["fields"]["style"]["selector"]["select"]["options"]
    assert options == ["oil", "ink", "wash"]
    # A changed definition changes the fields, a removed one removes the action.
    fewer = {**DEMO, "title": "New", "inputs": {"properties": {"prompt": {"x-kind": "text"}}}}
    bridge.fire("workflow/demo", fewer, retain=True)
    described = (await async_get_all_descriptions(home))[DOMAIN]
    assert described["run_demo"]["name"] == "Run New"
    assert set(described["run_demo"]["fields"]) == {"prompt"}
    bridge.fire("workflow/demo", "", retain=True)
    assert not home.services.has_service(DOMAIN, "run_demo")


async def test_a_workflows_action_is_named_in_home_assistants_language(
    home: HomeAssistant, bridge: FakeBridge, loaded: MockConfigEntry
) -> None:
    async def described() -> Any:
        return (await async_get_all_descriptions(home))[DOMAIN]["run_photo"]

    english = await described()
    assert english["name"] == "Run Photo"
    assert english["description"] == "Runs the workflow Photo of ComfyUI."
    for language, name, description in (
        ("de", "Photo ausführen", "Führt den Workflow Photo von ComfyUI aus."),
        ("fr", english["name"], english["description"]),
    ):
        await home.config.async_update(language=language)
        await home.async_block_till_done()
        german = await described()
        assert (german["name"], german["description"]) == (name, description)
        assert german["fields"] == english["fields"]
    # What else is set changes nothing.
    await home.config.async_update(location_name="Home")
    await home.async_block_till_done()
    assert (await described())["name"] == "Run Photo"


async def test_very_many_choices_are_all_in_the_field_and_a_wrong_one_names_those_like_it(
    home: HomeAssistant, bridge: FakeBridge, loaded: MockConfigEntry
) -> None:
    styles = [f"style{number}" for number in range(1200)]
    bridge.fire("bridge/choices/styles", {"name": "styles", "choices": styles})
    described = (await async_get_all_descriptions(home))[DOMAIN]
    field = described["run_demo"]["fields"]["style"]["selector"]["select"]
    assert field["options"] == styles
    details = {"allowed": styles[:50], "more": 1150, "near": ["style7", "style70"]}
    message = "input 'style': 'styel7' is not one of the choices"
    bridge.errors["submit"] = {"code": "invalid_input", "message": message, "details": details}
    with pytest.raises(ServiceValidationError, match="choices; like it: style7, style70, …"):
        await call(home, "run_demo", style="styel7")


async def test_a_picture_may_be_a_cameras_an_entitys_or_a_file(
    home: HomeAssistant, bridge: FakeBridge, loaded: MockConfigEntry, tmp_path: Path
) -> None:
    assert await async_setup_component(home, "camera", {"camera": {"platform": "demo"}})
    await home.async_block_till_done()
    bridge.end("j1")
    (tmp_path / "media").mkdir()
    (tmp_path / "media" / "door.png").write_bytes(PNG)
    camera = home.states.async_entity_ids("camera")[0]
    local = "media-source://media_source/local/door.png"
    for image in (
        camera,
        f"media-source://camera/{camera}",
        "image.demo_last_picture",
        local,
        {"media_content_id": local, "media_content_type": "image/png"},
    ):
        bridge.requests.clear()
        await call(home, "run_photo", image=image)
        sent = bridge.asked("submit")[0]["inputs"]["image"]
        assert "base64" in sent or "upload" in sent, image
    for image in ({"url": "http://x/y.png"}, "cameras/door"):
        bridge.requests.clear()
        await call(home, "run_photo", image=image)
        assert bridge.asked("submit")[0]["inputs"]["image"] == image
    bridge.requests.clear()
    await call(home, "run_photo", image=[local, local])
    assert len(bridge.asked("submit")[0]["inputs"]["image"]) == 2
    with pytest.MonkeyPatch.context() as patch:
        elsewhere = AsyncMock(return_value=media_source.PlayMedia("http://x/y.png", "image/png"))
        patch.setattr(media_source, "async_resolve_media", elsewhere)
        with pytest.raises(HomeAssistantError, match="only local media"):
            await call(home, "run_photo", image=local)


async def test_what_is_refused_or_fails_says_why(
    home: HomeAssistant, bridge: FakeBridge, loaded: MockConfigEntry
) -> None:
    bridge.outcome = {"state": "failed", "error": {"code": "timeout", "message": "too long"}}
    with pytest.raises(HomeAssistantError, match="did not succeed: too long"):
        await call(home, "run", workflow="demo")
    bridge.outcome = {"state": "cancelled"}
    assert (await call(home, "run", workflow="demo"))["state"] == "cancelled"
    error = {"code": "unknown_job", "message": "no such job"}
    bridge.errors = dict.fromkeys(("submit", "cancel", "list"), error)
    for action, data in (
        ("run", {"workflow": "nothing"}),
        ("cancel", {"job_id": "x"}),
        ("list", {}),
    ):
        with pytest.raises(ServiceValidationError, match=r"no such job \(unknown_job\)"):
            await call(home, action, **data)


async def test_jobs_are_listed_newest_first_and_cancelled(
    home: HomeAssistant, bridge: FakeBridge, loaded: MockConfigEntry
) -> None:
    for number in range(5):
        bridge.result(f"j{number}", workflow="demo" if number else "photo")
    found = await call(home, "list", limit=3)
    assert [each["job_id"] for each in found["jobs"]] == ["j4", "j3", "j2"]
    found = await call(home, "list", workflow="photo", states=["succeeded"])
    assert [each["job_id"] for each in found["jobs"]] == ["j0"]
    assert (await call(home, "cancel", job_id="j1"))["cancelling"] is True


async def test_the_newest_jobs_are_listed_without_all_that_there_are(
    home: HomeAssistant, bridge: FakeBridge, loaded: MockConfigEntry
) -> None:
    for number in range(1, 20):
        bridge.result(f"old{number}", n=number)
    bridge.end("newest", n=10_000)
    await settled(home)

    async def listed(limit: int, **fields: Any) -> tuple[list[str], list[int]]:
        """Return the jobs, and where the lists began."""
        bridge.requests.clear()
        jobs = (await call(home, "list", limit=limit, **fields))["jobs"]
        begun = [
            each["after"] for each in bridge.asked("list") if each["after"] not in range(1, 20)
        ]
        return [each["job_id"] for each in jobs], begun

    assert await listed(1) == (["newest"], [9992])
    # What is not among the newest is looked for farther and farther back.
    assert await listed(2) == (["newest", "old19"], [9984, 9936, 9744, 8976, 5904, 0])
    found, begun = await listed(9, workflow="photo")
    assert (found, begun[-1]) == ([], 0)


async def test_which_bridge_is_meant_must_be_clear(
    home: HomeAssistant, bridge: FakeBridge, mqtt_client_mock: Any, loaded: MockConfigEntry
) -> None:
    with pytest.raises(ServiceValidationError, match="No such bridge"):
        await call(home, "list", config_entry_id="nothing")
    second = FakeBridge(home, mqtt_client_mock, "studio")
    other = await set_up(home, second, entry_with(base="studio"))
    with pytest.raises(ServiceValidationError, match="Several bridges"):
        await call(home, "list")
    assert (await call(home, "list", config_entry_id=other.entry_id)) == {"jobs": []}
    # Their workflows of one name have an action each.
    await call(home, "run_demo_2", prompt="x")
    assert second.asked("submit")
    assert await home.config_entries.async_unload(other.entry_id)
    with pytest.raises(ServiceValidationError, match="is not available"):
        await call(home, "list", config_entry_id=other.entry_id)
    # One that is disabled is not meant, unless it is named.
    user = ConfigEntryDisabler.USER
    await home.config_entries.async_set_disabled_by(other.entry_id, user)
    assert (await call(home, "list")) == {"jobs": []}
    with pytest.raises(ServiceValidationError, match="is not available"):
        await call(home, "list", config_entry_id=other.entry_id)


async def test_results_are_browsed_by_workflow_and_played(
    home: HomeAssistant, bridge: FakeBridge, loaded: MockConfigEntry
) -> None:
    entry = loaded.entry_id
    bridge.outputs = [("image", "image/png", PNG), ("text", "text/plain", b"no medium")]
    for number in range(3):
        bridge.result(f"j{number}")
    del bridge.jobs[1]["result"]
    root = await media_source.async_browse_media(home, f"media-source://{DOMAIN}")
    assert [each.title for each in root.children or ()] == ["The bridge"]
    found = await media_source.async_browse_media(home, f"media-source://{DOMAIN}/{entry}")
    assert [each.title for each in found.children or ()] == ["Caption", "Demo", "Photo"]
    found = await media_source.async_browse_media(home, f"media-source://{DOMAIN}/{entry}/demo")
    children = list(found.children or ())
    assert [each.identifier for each in children] == [f"{entry}/demo/{j}/0" for j in ("j2", "j0")]
    assert children[0].title.endswith("a barn")
    media = await media_source.async_resolve_media(home, children[0].media_content_id, None)
    assert media.mime_type == "image/png"
    assert media.path is not None
    assert media.path.read_bytes() == PNG
    with pytest.raises(BrowseError):
        await media_source.async_browse_media(home, f"media-source://{DOMAIN}/nothing")
    bridge.errors["list"] = {"code": "busy", "message": "later"}
    with pytest.raises(BrowseError, match="later") as refused:
        await media_source.async_browse_media(home, f"media-source://{DOMAIN}/{entry}/demo")
    assert refused.value.translation_key == "request_refused"
    assert refused.value.translation_placeholders == {"error": "later", "code": "busy"}
    bridge.leave()
    with pytest.raises(BrowseError, match="is not available") as away:
        await media_source.async_browse_media(home, f"media-source://{DOMAIN}/{entry}/demo")
    assert away.value.translation_key == "not_available"
    bridge.come()
    for place in (f"{entry}/demo/j2/7", f"{entry}/demo/../0", "nothing/demo/j2/0", entry):
        with pytest.raises(media_source.Unresolvable):
            await media_source.async_resolve_media(home, f"media-source://{DOMAIN}/{place}", None)


async def test_results_are_served_to_who_is_signed_in(
    home: HomeAssistant,
    bridge: FakeBridge,
    loaded: MockConfigEntry,
    hass_client: Any,
    hass_client_no_auth: Any,
) -> None:
    bridge.result("j1")
    path = f"/api/{DOMAIN}/{loaded.entry_id}/j1/0"
    assert (await (await hass_client_no_auth()).get(path)).status == HTTPStatus.UNAUTHORIZED
    client = await hass_client()
    answer = await client.get(path)
    assert (answer.status, answer.content_type) == (HTTPStatus.OK, "image/png")
    assert await answer.read() == PNG
    fetches = len(bridge.asked("fetch"))
    await client.get(path)
    assert len(bridge.asked("fetch")) == fetches  # it is in the cache
    thumbnail = await client.get(f"{path}?width=256")
    assert thumbnail.content_type == "image/webp"
    # A page that a workflow has made may do nothing in the name of Home Assistant.
    for each in (answer, thumbnail):
        assert each.headers["Content-Security-Policy"] == "sandbox"
    digits = "7" * 5000
    for wrong in ("x", "0", "4097", digits):
        assert (await client.get(f"{path}?width={wrong}")).status == HTTPStatus.BAD_REQUEST
    for wrong in ("7", digits):
        assert (await client.get(f"{path}{wrong}")).status == HTTPStatus.NOT_FOUND
    bridge.leave()
    assert (await client.get(path)).status == HTTPStatus.BAD_GATEWAY


async def test_only_the_newest_results_stay_in_the_cache(
    home: HomeAssistant,
    bridge: FakeBridge,
    loaded: MockConfigEntry,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr("custom_components.comfy2mqtt.media_source._KEPT", 2)
    for number in range(4):
        bridge.outputs = [("image", "image/png", PNG + bytes(number))]
        bridge.result(f"j{number}")
        place = f"media-source://{DOMAIN}/{loaded.entry_id}/demo/j{number}/0"
        await media_source.async_resolve_media(home, place, None)
    assert len(list((tmp_path / ".cache" / DOMAIN / loaded.entry_id).iterdir())) == 2


async def test_the_results_of_one_bridge_stay_when_another_is_removed(
    home: HomeAssistant,
    bridge: FakeBridge,
    mqtt_client_mock: Any,
    loaded: MockConfigEntry,
    tmp_path: Path,
) -> None:
    second = FakeBridge(home, mqtt_client_mock, "studio")
    other = await set_up(home, second, entry_with(base="studio"))
    for each, entry in ((bridge, loaded), (second, other)):
        each.result("j1")
        place = f"media-source://{DOMAIN}/{entry.entry_id}/demo/j1/0"
        await media_source.async_resolve_media(home, place, None)
    cache = tmp_path / ".cache" / DOMAIN
    assert {each.name for each in cache.iterdir()} == {loaded.entry_id, other.entry_id}
    await home.config_entries.async_remove(loaded.entry_id)
    assert [each.name for each in cache.iterdir()] == [other.entry_id]
