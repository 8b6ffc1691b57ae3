"""Events on Home Assistant's bus, which the triggers of devices listen to.

The triggers do not listen to the bridge's hub, since there is another one after each reload.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from homeassistant.const import CONF_DEVICE_ID, CONF_TYPE
from homeassistant.core import HomeAssistant, callback

from .actions import response_of
from .const import EVENT
from .devices import device
from .hub import AVAILABILITY, COMFYUI, RESULTS, Comfy2MQTTConfigEntry
from .protocol import automation_events
from .protocol.messages import Result


@callback
def follow(hass: HomeAssistant, entry: Comfy2MQTTConfigEntry) -> Callable[[], None]:
    """Fire an event at each job's end and each change of the bridge; return what ends that."""
    hub = entry.runtime_data
    before = hub.status

    @callback
    def fire(about: str | None, trigger: str, **data: Any) -> None:
        place = device(hass, entry, about).id
        hass.bus.async_fire(EVENT, {CONF_DEVICE_ID: place, CONF_TYPE: trigger, **data})

    @callback
    def ended(result: Result, is_history: bool) -> None:  # noqa: FBT001 - a listener's
        trigger = automation_events.ended(result)
        if trigger is not None and not is_history and result.workflow in hub.workflows:
            fire(result.workflow, trigger, **response_of(entry.entry_id, result))

    @callback
    def changed() -> None:
        nonlocal before
        earlier, before = before, hub.status
        for trigger in automation_events.triggered(earlier, before):
            fire(None, trigger)

    ends = [hub.listen(RESULTS, ended)]
    ends += [hub.listen(what, changed) for what in (AVAILABILITY, COMFYUI)]

    @callback
    def stop() -> None:
        for end in ends:
            end()

    return stop
