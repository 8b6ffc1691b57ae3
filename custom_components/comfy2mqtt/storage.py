"""The integration's files in Home Assistant's folder `.storage`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from homeassistant.core import HomeAssistant
from homeassistant.helpers.storage import Store

from .const import DOMAIN
from .protocol.decode import MalformedError

T = TypeVar("T")
_VERSION = 1


def store(hass: HomeAssistant, name: str) -> Store[dict[str, Any]]:
    """Return the file of a name: the id of a bridge's entry, or what all bridges share."""
    return Store(hass, _VERSION, f"{DOMAIN}.{name}")


async def load(file: Store[dict[str, Any]], read: Callable[[Any], T]) -> T | None:
    """Return the decoded contents of a file; None without a file. Raises MalformedError."""
    try:
        found = await file.async_load()
        return None if found is None else read(found)
    # Home Assistant's own part of the file may be damaged, too.
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise MalformedError(str(error)) from None
