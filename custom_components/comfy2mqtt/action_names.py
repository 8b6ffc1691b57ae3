"""The names of the actions `run_<workflow>`: each is of one workflow of one bridge.

They are kept on disk, so that an automation finds the workflow that it was written for, whichever
bridge is there first after a restart. Nobody else gets the name of a workflow that is gone, or of a
bridge that is not loaded; it is free again once its bridge is deleted.
"""

from __future__ import annotations

from itertools import chain, count

from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers.singleton import singleton
from homeassistant.util import slugify
from homeassistant.util.hass_dict import HassKey

from .const import DOMAIN, LOGGER
from .devices import known_workflows
from .hub import bridges
from .protocol.decode import MalformedError
from .protocol.stored import Names, read_names
from .storage import load, store

_KEY: HassKey[ActionNames] = HassKey(f"{DOMAIN}_action_names")


class ActionNames:
    """The names of all bridges' actions; of one workflow it is always the same."""

    def __init__(self, hass: HomeAssistant) -> None:
        self._hass = hass
        self._store = store(hass, "action_names")
        self._names: Names = {}

    async def load(self) -> None:
        """Load what was kept; without it the bridge that was set up first has its names first."""
        entries = bridges(self._hass)
        try:
            kept = await load(self._store, read_names)
        except MalformedError as error:
            LOGGER.warning("the names of actions cannot be read, and are given again: %s", error)
            kept = None
        if kept is not None:
            there = {each.entry_id for each in entries}
            self._names = {entry: names for entry, names in kept.items() if entry in there}
            return
        # Earlier versions kept none, and gave none to a bridge that is disabled.
        for entry in sorted(
            entries, key=lambda each: (each.disabled_by is not None, each.created_at)
        ):
            for workflow in known_workflows(self._hass, entry):
                self.of(entry.entry_id, workflow)

    @callback
    def of(self, entry_id: str, workflow: str) -> str:
        """Return the name of a workflow's action; from now on no other one gets it."""
        names = self._names.setdefault(entry_id, {})
        if workflow not in names:
            names[workflow] = self._free(f"run_{slugify(workflow)}")
            # At once: a name that somebody has used must not be lost.
            self._store.async_delay_save(self._contents, 0)
        return names[workflow]

    def _free(self, wanted: str) -> str:
        taken = {name for names in self._names.values() for name in names.values()}
        names = chain((wanted,), (f"{wanted}_{number}" for number in count(2)))
        return next(each for each in names if each not in taken)

    async def release(self, entry_id: str) -> None:
        """Give up the names of a bridge that is deleted; with the last bridge the file goes."""
        self._names.pop(entry_id, None)
        if self._names:
            await self._store.async_save(self._contents())
        else:
            await self._store.async_remove()

    def _contents(self) -> Names:
        return {entry_id: dict(names) for entry_id, names in self._names.items()}


@singleton(_KEY, async_=True)
async def action_names(hass: HomeAssistant) -> ActionNames:
    """Return the names of actions."""
    names = ActionNames(hass)
    await names.load()
    return names
