"""Values set in Home Assistant, kept on disk until they are set again."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import msgspec

from bridge.adapters.homeassistant.fields import Value
from bridge.atomicfile import write_file

log = logging.getLogger(__name__)


class Inputs:
    """The values of inputs, by workflow and key; those that were never set are not there."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._values: dict[str, dict[str, Value]] = {}
        self._writing = asyncio.Lock()

    async def open(self) -> None:
        """Read what was kept; a file that cannot be read is as none."""
        try:
            data = await asyncio.to_thread(self._path.read_bytes)
            self._values = msgspec.json.decode(data, type=dict[str, dict[str, Value]])
        except FileNotFoundError:
            pass
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            log.warning("cannot read %s, inputs have their defaults: %s", self._path, error)

    def get(self, workflow: str, key: str) -> Value | None:
        """Return an input's value; None if it was never set."""
        return self._values.get(workflow, {}).get(key)

    async def set(self, workflow: str, key: str, value: Value) -> None:
        """Set an input: at once, and on disk when this returns. Raises OSError."""
        self._values.setdefault(workflow, {})[key] = value
        async with self._writing:
            data = msgspec.json.encode(self._values)
            await asyncio.to_thread(write_file, self._path, data)
