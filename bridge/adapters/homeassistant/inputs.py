"""Values set in Home Assistant, kept in the journal until they are set again.

So they are the same for each bridge of a group. Earlier versions kept them in a file, which is
taken over once.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import msgspec

from bridge.adapters.homeassistant.fields import Value
from bridge.jobs.durable import until_on_disk
from bridge.jobs.journal.adapter_store import AdapterStore

log = logging.getLogger(__name__)

KIND = "homeassistant input"
# The end of the name of a file that was taken over.
TAKEN_OVER = ".in-journal"

_decode = msgspec.json.Decoder(Value).decode


class Inputs:
    """The values of inputs, by workflow and key; those that were never set are not there."""

    def __init__(self, store: AdapterStore, old: Path) -> None:
        """`old` is where the file of an earlier version may be."""
        self._store = store
        self._old = old
        self._values: dict[str, Value] = {}

    async def open(self) -> None:
        """Take over a file, and read what was kept; a file that cannot be read is as none.

        Raises DatabaseError.
        """
        found = await asyncio.to_thread(self._in_file)
        if found is not None:
            # What was set since in the journal is newer.
            await self._store.keep(KIND, found, new=True)
            await asyncio.to_thread(self._put_aside)
        await self.read()

    async def read(self) -> None:
        """Read what was kept, perhaps by another bridge. Raises DatabaseError."""
        values = {}
        for name, value in (await self._store.all(KIND)).items():
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
            lambda: self._store.keep(KIND, {name: msgspec.json.encode(self._values[name])})
        )

    def _in_file(self) -> dict[str, bytes] | None:
        try:
            found = msgspec.json.decode(self._old.read_bytes(), type=dict[str, dict[str, Value]])
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            log.warning("cannot read %s, inputs have their defaults: %s", self._old, error)
            return None
        return {
            f"{workflow}/{key}": msgspec.json.encode(value)
            for workflow, values in found.items()
            for key, value in values.items()
        }

    def _put_aside(self) -> None:
        try:
            self._old.replace(self._old.with_name(self._old.name + TAKEN_OVER))
        except OSError as error:
            log.warning("cannot rename %s: %s", self._old, error)
