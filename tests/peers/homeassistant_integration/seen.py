"""Entities' states, repairs and events, as a person sees them in Home Assistant."""

from __future__ import annotations

from typing import Any

from conftest import DOMAIN
from homeassistant.core import HomeAssistant
from homeassistant.helpers import issue_registry

PICTURE, ENDED = "image.demo_last_picture", "event.demo_job_ended"


def state(home: HomeAssistant, entity: str) -> Any:
    found = home.states.get(entity)
    assert found is not None, [each.entity_id for each in home.states.async_all()]
    return found


async def settled(home: HomeAssistant) -> None:
    await home.async_block_till_done(wait_background_tasks=True)


def issues(home: HomeAssistant) -> set[str | None]:
    found = issue_registry.async_get(home).issues.values()
    return {each.translation_key for each in found if each.domain == DOMAIN}


def placeholders_of(home: HomeAssistant, key: str) -> list[dict[str, str] | None]:
    """Return what fills the texts of the repairs of a kind that are shown."""
    return [
        each.translation_placeholders
        for each in issue_registry.async_get(home).issues.values()
        if each.translation_key == key and each.active and each.dismissed_version is None
    ]


def ends(events: list[Any]) -> list[str]:
    """Return the jobs whose ends were reported, among events of ours."""
    return [each.data["job_id"] for each in events if "job_id" in each.data]
