"""Pictures and other bytes of Home Assistant as inputs: cameras, image entities, files."""

from __future__ import annotations

import mimetypes
from pathlib import Path
from typing import Any

from homeassistant.components import camera, image, media_source
from homeassistant.core import HomeAssistant

from .protocol.definitions import Workflow
from .requests import Media, failure

_SOURCE = "media-source://"
_UNKNOWN = "application/octet-stream"


async def read_file(hass: HomeAssistant, path: Path, content_type: str | None) -> Media:
    """Read a file. Raises HomeAssistantError."""
    try:
        data = await hass.async_add_executor_job(path.read_bytes)
    except OSError as error:
        raise failure("unreadable", media=path.name, error=error.strerror or error) from None
    return Media(data, content_type or mimetypes.guess_type(path.name)[0] or _UNKNOWN)


async def with_media(
    hass: HomeAssistant, workflow: Workflow | None, values: dict[str, Any]
) -> dict[str, Any]:
    """Return inputs with the bytes of what media inputs name.

    That is what a media selector gives, or the same as text: a `media-source://`, or the entity of
    a camera or an image. Anything else (`{"url": ...}`) is the bridge's to read. Raises
    HomeAssistantError.
    """
    if workflow is None:
        return values
    names = {each.name for each in workflow.inputs if each.is_media}
    return {
        name: await _resolved(hass, value) if name in names else value
        for name, value in values.items()
    }


async def _resolved(hass: HomeAssistant, value: Any) -> Any:
    if isinstance(value, list):
        return [await _resolved(hass, each) for each in value]
    content_id, content_type = value, None
    if isinstance(value, dict) and "media_content_id" in value:
        content_id, content_type = value["media_content_id"], value.get("media_content_type")
    if not isinstance(content_id, str):
        return value
    for integration in (camera, image):
        domain = integration.DOMAIN
        entity = content_id.removeprefix(f"{_SOURCE}{domain}/")
        if entity.startswith(f"{domain}."):
            found = await integration.async_get_image(hass, entity)
            return Media(found.content, found.content_type)
    if not content_id.startswith(_SOURCE):
        return value
    media = await media_source.async_resolve_media(hass, content_id, None)
    if media.path is None:
        raise failure("not_local", media=content_id)
    return await read_file(hass, media.path, content_type or media.mime_type)
