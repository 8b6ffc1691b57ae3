"""The task that drives sets, as an extension of the bridge's connection."""

from __future__ import annotations

from bridge.adapters.mqtt.extension import Extension
from bridge.jobs.sets.driver import SetDriver


class SetExtension(Extension):
    """Drives sets while the bridge runs."""

    def __init__(self, driver: SetDriver) -> None:
        self._driver = driver

    async def start(self) -> None:
        """Delete what an earlier run left half made."""
        await self._driver.open()

    async def run(self) -> None:
        """Make the jobs of sets and end sets, until cancelled."""
        await self._driver.run()
