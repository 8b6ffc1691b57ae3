"""Has Home Assistant's test harness run with a later core than the one that it was made for.

A pytest plugin that is loaded before the harness: it puts names back where the harness looks for
them. What it does goes with the next harness.
"""

from __future__ import annotations

# Replaces an HTTP client, and has to be there before the harness imports that.
import homeassistant
from homeassistant.components import logger
from homeassistant.components.logger import const, helpers

__all__ = ["homeassistant"]

for name in ("SERVICE_SET_LEVEL", "_clear_logger_overwrites"):
    for module in (const, helpers):
        if not hasattr(logger, name) and hasattr(module, name):
            setattr(logger, name, getattr(module, name))
