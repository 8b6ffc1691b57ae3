"""The dashboard card: its script, and the two WebSocket commands that it uses.

`comfy2mqtt/workflow` follows a workflow and its last picture; `comfy2mqtt/run` runs it and follows
the job: its states, its progress and its previews.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import probatio as vol
from homeassistant.components import frontend, mqtt, websocket_api
from homeassistant.components.http import StaticPathConfig
from homeassistant.components.http.auth import async_sign_path
from homeassistant.components.image import infer_image_type
from homeassistant.components.websocket_api import ActiveConnection
from homeassistant.core import HomeAssistant, callback
from homeassistant.exceptions import HomeAssistantError

from .actions import ATTR_ENTRY, ATTR_INPUTS, ATTR_WORKFLOW, entry_of
from .const import DOMAIN
from .hub import AVAILABILITY, ENDED, RESULTS, WORKFLOWS, Comfy2MQTTConfigEntry, Hub, as_bytes
from .protocol import selectors
from .protocol.card import shown, step
from .protocol.messages import RefusedError, Result
from .requests import error_text

URL = f"/{DOMAIN}/card.js"
_SCRIPT = Path(__file__).parent / "frontend" / "card.js"
# How long a link to a picture works; a card that is reloaded gets another.
_LINK = timedelta(hours=24)
_FIELDS: dict[Any, Any] = {vol.Required(ATTR_WORKFLOW): str, vol.Optional(ATTR_ENTRY): str}


async def set_up(hass: HomeAssistant) -> None:
    """Serve the card, and have dashboards load it where there is a frontend."""
    await hass.http.async_register_static_paths(
        [StaticPathConfig(URL, str(_SCRIPT), cache_headers=False)]
    )
    websocket_api.async_register_command(hass, _follow)
    websocket_api.async_register_command(hass, _run)
    if frontend.DOMAIN in hass.config.components:
        frontend.add_extra_js_url(hass, URL)


def _entry(
    hass: HomeAssistant, connection: ActiveConnection, message: dict[str, Any]
) -> Comfy2MQTTConfigEntry | None:
    """Return the bridge that is meant; None once the error is sent."""
    try:
        return entry_of(hass, message.get(ATTR_ENTRY))
    except HomeAssistantError as error:
        connection.send_error(
            message["id"], websocket_api.ERR_NOT_FOUND, str(error), **error_text(error)
        )
        return None


@websocket_api.websocket_command({vol.Required("type"): f"{DOMAIN}/workflow", **_FIELDS})
@websocket_api.async_response
async def _follow(
    hass: HomeAssistant, connection: ActiveConnection, message: dict[str, Any]
) -> None:
    entry = _entry(hass, connection, message)
    if entry is None:
        return
    hub, name = entry.runtime_data, message[ATTR_WORKFLOW]

    @callback
    def send(*_: Any) -> None:
        picture, link = hub.pictures.get(name), None
        if picture is not None:
            path = f"/api/{DOMAIN}/{entry.entry_id}/{picture.job_id}/{picture.index}"
            link = async_sign_path(hass, path, _LINK, refresh_token_id=connection.refresh_token_id)
        found = shown(hub.workflows.get(name), link, is_online=hub.is_available)
        connection.send_event(message["id"], found)

    @callback
    def gone() -> None:
        connection.send_event(message["id"], {"ended": True})

    @callback
    def ignore(_: mqtt.ReceiveMessage) -> None:
        """Take nothing."""

    # Home Assistant subscribes a moment later: for a job that is run now that would be too late.
    # It may refuse, and nothing has to be ended then.
    ends = [await mqtt.async_subscribe(hass, hub.topics.steps, ignore, qos=0, encoding=None)]
    ends += [hub.listen(what, send) for what in (AVAILABILITY, RESULTS, WORKFLOWS)]
    ends.append(hub.listen(ENDED, gone))
    connection.subscriptions[message["id"]] = _all(ends)
    connection.send_result(message["id"])
    send()


@websocket_api.websocket_command(
    {vol.Required("type"): f"{DOMAIN}/run", **_FIELDS, vol.Required(ATTR_INPUTS): dict}
)
@websocket_api.async_response
async def _run(hass: HomeAssistant, connection: ActiveConnection, message: dict[str, Any]) -> None:
    entry = _entry(hass, connection, message)
    if entry is None:
        return
    hub, job_id = entry.runtime_data, Hub.new_job()

    @callback
    def take(received: mqtt.ReceiveMessage) -> None:
        *_, job, what = received.topic.split("/")
        if job != job_id:
            return
        if what == "preview":
            data = as_bytes(received.payload)
            kind = infer_image_type(data) or "image/jpeg"
            found = {"preview": f"data:{kind};base64,{base64.b64encode(data).decode()}"}
        else:
            found = step(what, received.payload)
        if found:
            connection.send_event(message["id"], found)

    @callback
    def ended(result: Result, _is_history: bool) -> None:  # noqa: FBT001 - a listener's
        if result.job_id == job_id:
            why = None if result.error is None else result.error.message
            connection.send_event(message["id"], {"state": result.state, "message": why})

    ends = [
        await mqtt.async_subscribe(hass, hub.topics.steps, take, qos=0, encoding=None),
        hub.listen(RESULTS, ended),
    ]
    connection.subscriptions[message["id"]] = _all(ends)
    connection.send_result(message["id"])
    connection.send_event(message["id"], {"job_id": job_id})
    name = message[ATTR_WORKFLOW]
    workflow = hub.workflows.get(name)
    inputs = message[ATTR_INPUTS]
    given = inputs if workflow is None else selectors.as_integers(workflow, inputs)
    try:
        await hub.submit(name, given, follow=False, job_id=job_id, preview=True)
    except RefusedError as error:
        # A sentence of the bridge's, which has it in English alone.
        connection.send_event(message["id"], {"state": "refused", "message": error.sentence})
    except HomeAssistantError as error:
        refused = {"state": "refused", "message": str(error), **error_text(error)}
        connection.send_event(message["id"], refused)


def _all(ends: list[Callable[[], None]]) -> Callable[[], None]:
    @callback
    def stop() -> None:
        for end in ends:
            end()

    return stop
