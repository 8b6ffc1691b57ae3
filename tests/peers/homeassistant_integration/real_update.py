"""The releases of a ComfyUI in a real Home Assistant, by discovery, with a bridge that has some.

Run by `tests/peers/test_homeassistant_integration.py`.
"""

from __future__ import annotations

from homeassistant.components.update import DOMAIN as UPDATE
from homeassistant.components.update import UpdateEntityFeature
from homeassistant.core import HomeAssistant, State
from real_run import control, house, until

__all__ = ["house"]  # a fixture

RELEASE = "update.comfy2mqtt_release_default"


async def test_a_release_is_offered_and_installed_by_a_click(house: HomeAssistant) -> None:
    def shown(state: str, **attributes: object) -> State | None:
        found = house.states.get(RELEASE)
        is_it = found is not None and found.state == state
        is_it = is_it and all(found.attributes[name] == attributes[name] for name in attributes)
        return found if is_it else None

    await until(house, lambda: shown("off", installed_version="0.9.0", latest_version="0.9.0"))
    await control("release 0.10.0")
    found = await until(house, lambda: shown("on", latest_version="0.10.0", in_progress=False))
    wanted = UpdateEntityFeature.INSTALL | UpdateEntityFeature.PROGRESS
    assert found.attributes["supported_features"] == wanted
    assert (found.attributes["title"], found.attributes["release_summary"]) == ("ComfyUI", "")
    entity = {"entity_id": RELEASE}
    await house.services.async_call(UPDATE, "install", entity, blocking=True)
    await until(house, lambda: shown("on", in_progress=True))
    await until(house, lambda: shown("off", installed_version="0.10.0", in_progress=False))

    # One that does not start is said, and may be tried again.
    await control("release 0.11.0 broken")
    await until(house, lambda: shown("on", latest_version="0.11.0"))
    await house.services.async_call(UPDATE, "install", entity, blocking=True)
    await until(house, lambda: shown("on", in_progress=True))
    found = await until(house, lambda: shown("on", in_progress=False))
    assert found.attributes["installed_version"] == "0.10.0"
    assert "0.11.0 is not installed" in found.attributes["release_summary"]
