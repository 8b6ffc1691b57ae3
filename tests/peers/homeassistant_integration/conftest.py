"""Home Assistant with its MQTT integration, a bridge behind it, and the integration."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fake_bridge import FakeBridge
from homeassistant.config_entries import ConfigSubentryDataWithId
from homeassistant.core import HomeAssistant
from homeassistant.setup import async_setup_component
from pytest_homeassistant_custom_component.common import MockConfigEntry

import custom_components

DOMAIN = "comfy2mqtt"
# The harness has a package of that name, with integrations of its own.
custom_components.__path__ = [str(Path(__file__).parents[3] / "custom_components")]
# Libraries for voices have to be compiled. Whoever lists the actions of `update` needs them, since
# what those act on is described by all of Home Assistant's own components.
for _module, _name in (("pymicro_vad", "MicroVad"), ("pyspeex_noise", "AudioProcessor")):
    sys.modules.setdefault(_module, SimpleNamespace(**{_name: object}))  # type: ignore[arg-type] # as one


@pytest.fixture(autouse=True)
def integration(enable_custom_integrations: None) -> None:
    """Let Home Assistant find the integration, which is on the path."""


@pytest.fixture
def expected_lingering_timers() -> bool:
    """Say that there are: one is the MQTT client's own, which nobody stops."""
    return True


@pytest.fixture
async def home(hass: HomeAssistant, tmp_path: Path) -> HomeAssistant:
    """Home Assistant with a folder of its own, in which results are kept."""
    hass.config.config_dir = str(tmp_path)
    hass.config.media_dirs = {"local": str(tmp_path / "media")}
    await async_setup_component(hass, "homeassistant", {})
    return hass


@pytest.fixture
def bridge(home: HomeAssistant, mqtt_client_mock: Any, mqtt_mock: Any) -> FakeBridge:
    """A bridge that has published nothing yet."""
    return FakeBridge(home, mqtt_client_mock)


def entry_with(*subentries: dict[str, Any], **data: Any) -> MockConfigEntry:
    """An entry of ours, with AI tasks of these options."""
    return MockConfigEntry(
        domain=DOMAIN,
        title="The bridge",
        unique_id=data.get("base", "comfy2mqtt"),
        data={"base": "comfy2mqtt", "client": "homeassistant", **data},
        subentries_data=[
            ConfigSubentryDataWithId(
                data=each,
                subentry_id=f"task{number}",
                subentry_type="ai_task",
                title=f"Task {each['workflow']}",
                unique_id=None,
            )
            for number, each in enumerate(subentries)
        ],
    )


async def set_up(
    hass: HomeAssistant, bridge: FakeBridge, entry: MockConfigEntry
) -> MockConfigEntry:
    """Set the integration up, with the bridge online."""
    if entry not in hass.config_entries.async_entries(DOMAIN):
        entry.add_to_hass(hass)
    bridge.come()
    assert await hass.config_entries.async_setup(entry.entry_id)
    await hass.async_block_till_done()
    return entry


@pytest.fixture
async def loaded(home: HomeAssistant, bridge: FakeBridge) -> MockConfigEntry:
    """The integration, set up, with an AI task for each workflow."""
    tasks = ({"workflow": "demo"}, {"workflow": "photo"}, {"workflow": "caption"})
    return await set_up(home, bridge, entry_with(*tasks))
