"""Results are kept in Home Assistant's cache folder, whoever wants them at the same time."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import DOMAIN
from fake_bridge import PNG, FakeBridge
from homeassistant.components import media_source
from homeassistant.core import HomeAssistant
from homeassistant.exceptions import HomeAssistantError
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.comfy2mqtt.media_source import _keep
from custom_components.comfy2mqtt.requests import Media


async def test_a_picture_that_several_want_at_once_is_fetched_once(
    home: HomeAssistant, bridge: FakeBridge, loaded: MockConfigEntry
) -> None:
    bridge.end("j1")
    await home.async_block_till_done(wait_background_tasks=True)
    place = f"media-source://{DOMAIN}/{loaded.entry_id}/demo/j1/0"
    found = await asyncio.gather(
        *(media_source.async_resolve_media(home, place, None) for _ in range(3))
    )
    for each in found:
        assert each.path is not None
        assert await home.async_add_executor_job(each.path.read_bytes) == PNG
    offsets = [each["offset"] for each in bridge.asked("fetch")]
    assert len(offsets) == len(set(offsets)) > 1


async def test_a_result_names_no_file_outside_of_its_folder(
    home: HomeAssistant, bridge: FakeBridge, loaded: MockConfigEntry
) -> None:
    """Whoever may publish could have Home Assistant hand out any file of it."""
    private = Path(home.config.path("private.txt"))
    await home.async_add_executor_job(private.write_text, "a password")
    bridge.result("j1")
    output = bridge.jobs[0]["result"]["outputs"][0]
    output |= {"sha256": str(private.with_suffix("")), "content_type": "text/plain"}
    place = f"media-source://{DOMAIN}/{loaded.entry_id}/demo/j1/0"
    with pytest.raises(HomeAssistantError):
        await media_source.async_resolve_media(home, place, None)
    assert await home.async_add_executor_job(private.read_text) == "a password"


def test_two_threads_may_keep_the_same_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both, replace = threading.Barrier(2), Path.replace

    def replace_when_both_are_written(path: Path, target: Path) -> Path:
        both.wait()
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", replace_when_both_are_written)
    kept = tmp_path / "kept.png"
    # As one that another thread removes meanwhile.
    (tmp_path / "gone").symlink_to("nowhere")
    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(_keep, kept, Media(PNG, "image/png")) for _ in range(2)]:
            done.result()
    assert kept.read_bytes() == PNG
    assert {each.name for each in tmp_path.iterdir()} == {"kept.png", "gone"}
