"""Values set in Home Assistant, kept in the journal until they are set again.

So they are the same for each bridge of a group.
"""

from __future__ import annotations

import logging

import msgspec

from bridge.adapters.homeassistant.fields import Value
from bridge.jobs.durable import until_on_disk
from bridge.jobs.journal.kept import Kept

log = logging.getLogger(__name__)

KIND = "homeassistant input"

_decode = msgspec.json.Decoder(Value).decode


class Inputs:
    """The values of inputs, by workflow and key; those that were never set are not there."""

    def __init__(self, kept: Kept) -> None:
        self._kept = kept
        self._values: dict[str, Value] = {}

    async def read(self) -> None:
        """Read what was kept, perhaps by another bridge. Raises DatabaseError."""
        values = {}
        for name, value in (await self._kept.all(KIND)).items():
            try:
                values[name] = _decode(value)
            except msgspec.MsgspecError as error:
                log.warning("the input %s has its default, it cannot be read: %s", name, error)
        self._values = values

    def get(self, workflow: str, key: str) -> Value | None:
        """Return an input's value; None if it was never set."""
        return self._values.get(f"{workflow}/{key}")

    async def set(self, workflow: str, key: str, value: Value) -> None:
        """Set an input: at once, and in the journal when this returns. Raises LeaseLost."""
        name = f"{workflow}/{key}"
        self._values[name] = value
        # Of two values that are set one after the other the last one stays.
        await until_on_disk(
            lambda: self._kept.keep(KIND, {name: msgspec.json.encode(self._values[name])})
        )
