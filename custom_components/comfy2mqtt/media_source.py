"""Media: what workflows have made, to browse, to show, and to attach to a task.

A result is `<entry>/<workflow>/<job>/<index>`. Its bytes are fetched over MQTT when they are
wanted, and kept in Home Assistant's cache folder, so that it can be an attachment; each bridge has
a folder there.
"""

from __future__ import annotations

import asyncio
import mimetypes
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from aiohttp import web
from homeassistant.components.media_player.const import MediaClass
from homeassistant.components.media_player.errors import BrowseError
from homeassistant.components.media_source import (
    BrowseMediaSource,
    MediaSource,
    MediaSourceItem,
    PlayMedia,
    Unresolvable,
)
from homeassistant.config_entries import ConfigEntryState
from homeassistant.core import HomeAssistant
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers.http import KEY_HASS, HomeAssistantView
from homeassistant.util import dt as dt_util

from .const import DOMAIN, LOGGER
from .hub import Comfy2MQTTConfigEntry, bridges
from .protocol.decode import MalformedError
from .protocol.messages import Output, RefusedError, Result, read_listed
from .protocol.topics import is_id
from .requests import Media, error_text

_SHOWN = 200
_KEPT = 50
_THUMBNAIL = 256
_LARGEST_WIDTH = 4096
# Python reads no number of thousands of digits.
_WIDTH = re.compile(r"[1-9][0-9]{0,3}")
# Who wants a result waits while another one fetches it.
_TURNS: WeakValueDictionary[Path, asyncio.Lock] = WeakValueDictionary()
# A page that a workflow has made runs no script in the name of Home Assistant.
_HEADERS = {"Content-Security-Policy": "sandbox", "X-Content-Type-Options": "nosniff"}
_CLASSES = {
    "image": MediaClass.IMAGE,
    "video": MediaClass.VIDEO,
    "audio": MediaClass.MUSIC,
}


async def async_get_media_source(hass: HomeAssistant) -> ResultsSource:
    """Set up the source."""
    return ResultsSource(hass)


def loaded_entry(hass: HomeAssistant, entry_id: str) -> Comfy2MQTTConfigEntry | None:
    """Return a bridge that is set up."""
    entry = hass.config_entries.async_get_entry(entry_id)
    if entry is None or entry.domain != DOMAIN:
        return None
    return entry if entry.state is ConfigEntryState.LOADED else None


class ResultsSource(MediaSource):
    """The outputs of workflows, by bridge and workflow."""

    name = "ComfyUI"

    def __init__(self, hass: HomeAssistant) -> None:
        super().__init__(DOMAIN)
        self.hass = hass

    async def async_resolve_media(self, item: MediaSourceItem) -> PlayMedia:
        """Fetch a result. Raises Unresolvable."""
        entry_id, _, rest = item.identifier.partition("/")
        _, _, place = rest.partition("/")
        job_id, _, index = place.partition("/")
        try:
            file = await cached_file(self.hass, entry_id, job_id, index)
        except (HomeAssistantError, RefusedError) as error:
            raise _unresolvable(item.identifier, str(error)) from error
        url = f"/api/{DOMAIN}/{entry_id}/{job_id}/{index}"
        return PlayMedia(url, file.content_type, path=file.path)

    async def async_browse_media(self, item: MediaSourceItem) -> BrowseMediaSource:
        """Show bridges, the workflows of one, or the results of one, the newest first."""
        entry_id, _, workflow = (item.identifier or "").partition("/")
        if not entry_id:
            entries = self.hass.config_entries.async_loaded_entries(DOMAIN)
            return _folder(None, self.name, [_folder(e.entry_id, e.title) for e in entries])
        entry = loaded_entry(self.hass, entry_id)
        if entry is None:
            raise BrowseError(translation_domain=DOMAIN, translation_key="no_entry")
        if not workflow:
            found = [
                _folder(f"{entry_id}/{each.name}", each.title)
                for each in sorted(entry.runtime_data.workflows.values(), key=lambda w: w.title)
            ]
            return _folder(entry_id, entry.title, found)
        try:
            jobs = await entry.runtime_data.jobs(_SHOWN, workflow=workflow, states=["succeeded"])
        except (HomeAssistantError, RefusedError) as error:
            raise BrowseError(str(error), **error_text(error)) from error
        definition = entry.runtime_data.workflows.get(workflow)
        return _folder(
            item.identifier,
            workflow if definition is None else definition.title,
            [each for job in jobs for each in _results(entry_id, job)],
        )


def _folder(
    identifier: str | None, title: str, children: list[BrowseMediaSource] | None = None
) -> BrowseMediaSource:
    return BrowseMediaSource(
        domain=DOMAIN,
        identifier=identifier,
        media_class=MediaClass.DIRECTORY,
        media_content_type="",
        title=title,
        can_play=False,
        can_expand=True,
        children=children,
        children_media_class=MediaClass.DIRECTORY if identifier is None else MediaClass.IMAGE,
    )


def _results(entry_id: str, job: Mapping[str, Any]) -> Iterator[BrowseMediaSource]:
    """Yield what a job made that can be shown or played."""
    try:
        listed = read_listed(job)
    except MalformedError as error:
        LOGGER.debug("job %s is not shown: %s", job["n"], error)
        return
    result = listed.result
    accepted = dt_util.as_local(dt_util.utc_from_timestamp(listed.accepted_at))
    for each in result.outputs:
        media_class = _CLASSES.get(each.content_type.partition("/")[0])
        if media_class is None:
            continue
        url = f"/api/{DOMAIN}/{entry_id}/{result.job_id}/{each.index}"
        is_image = media_class is MediaClass.IMAGE
        yield BrowseMediaSource(
            domain=DOMAIN,
            identifier=f"{entry_id}/{result.workflow}/{result.job_id}/{each.index}",
            media_class=media_class,
            media_content_type=each.content_type,
            title=f"{accepted:%Y-%m-%d %H:%M:%S} {_prompt(result) or each.name}",
            can_play=not is_image,
            can_expand=False,
            thumbnail=f"{url}?width={_THUMBNAIL}" if is_image else None,
        )


def _prompt(result: Result) -> str:
    """Return the first of a job's texts, for its title."""
    texts = (value for value in result.inputs.values() if isinstance(value, str) and value.strip())
    return next(texts, "")[:60]


def _unresolvable(identifier: str, error: str) -> Unresolvable:
    return Unresolvable(
        translation_domain=DOMAIN,
        translation_key="not_resolved",
        translation_placeholders={"media": identifier, "error": error},
    )


class CachedFile:
    """A result's bytes as a file in the cache folder."""

    def __init__(self, path: Path, content_type: str) -> None:
        self.path = path
        self.content_type = content_type


async def _output_of(
    hass: HomeAssistant, entry_id: str, job_id: str, index: str
) -> tuple[Comfy2MQTTConfigEntry, Output]:
    entry = loaded_entry(hass, entry_id)
    if entry is None or not is_id(job_id):
        raise RefusedError("unknown_job", "no such result")
    result = await entry.runtime_data.result_of(job_id)
    outputs = () if result is None else result.outputs
    output = next((each for each in outputs if str(each.index) == index), None)
    if output is None:
        raise RefusedError("unknown_job", "no such result")
    return entry, output


async def cached_file(hass: HomeAssistant, entry_id: str, job_id: str, index: str) -> CachedFile:
    """Return a result's bytes as a file; fetch them if the cache folder does not have them.

    Raises RefusedError and HomeAssistantError.
    """
    entry, output = await _output_of(hass, entry_id, job_id, index)
    suffix = mimetypes.guess_extension(output.content_type, strict=False) or ".bin"
    path = _folder_of(hass, entry_id) / f"{output.sha256}{suffix}"
    async with _TURNS.setdefault(path, asyncio.Lock()):
        if not await hass.async_add_executor_job(path.exists):
            media = await entry.runtime_data.output(job_id, output)
            await hass.async_add_executor_job(_keep, path, media)
    return CachedFile(path, output.content_type)


def _folder_of(hass: HomeAssistant, entry_id: str) -> Path:
    """Return the folder in which the results of a bridge are kept."""
    return Path(hass.config.cache_path(DOMAIN, entry_id))


async def remove(hass: HomeAssistant, entry_id: str) -> None:
    """Remove the results of a bridge that were kept; with the last bridge everything."""
    folder = _folder_of(hass, entry_id)
    others = [each for each in bridges(hass) if each.entry_id != entry_id]
    gone = folder if others else folder.parent
    await hass.async_add_executor_job(partial(shutil.rmtree, gone, ignore_errors=True))


def _keep(path: Path, media: Media) -> None:
    """Write bytes into the folder of a bridge, in which the newest files stay.

    Others may write there meanwhile: a thread continues whose request was cancelled.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as unfinished:
        unfinished.write(media.data)
    Path(unfinished.name).replace(path)
    for old in sorted(path.parent.iterdir(), key=_written_at, reverse=True)[_KEPT:]:
        old.unlink(missing_ok=True)


def _written_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


class ResultView(HomeAssistantView):
    """Serves results to who is signed in, or has a signed path; `width` asks for a thumbnail."""

    url = f"/api/{DOMAIN}/{{entry_id}}/{{job_id}}/{{index}}"
    name = f"api:{DOMAIN}:result"

    async def get(
        self, request: web.Request, entry_id: str, job_id: str, index: str
    ) -> web.StreamResponse:
        """Return a result's bytes."""
        hass = request.app[KEY_HASS]
        width = request.query.get("width")
        if width is not None and not (_WIDTH.fullmatch(width) and int(width) <= _LARGEST_WIDTH):
            return web.Response(status=HTTPStatus.BAD_REQUEST, text="width: a number of pixels")
        try:
            if width is not None:
                entry, output = await _output_of(hass, entry_id, job_id, index)
                media = await entry.runtime_data.output(job_id, output, int(width))
                headers = {**_HEADERS, "Content-Type": media.content_type}
                return web.Response(body=media.data, headers=headers)
            file = await cached_file(hass, entry_id, job_id, index)
        except RefusedError as error:
            return web.Response(status=HTTPStatus.NOT_FOUND, text=error.message)
        except HomeAssistantError as error:
            return web.Response(status=HTTPStatus.BAD_GATEWAY, text=str(error))
        headers = {**_HEADERS, "Content-Type": file.content_type}
        return web.FileResponse(file.path, headers=headers)
