"""Running a bridge from its settings, until SIGINT or SIGTERM."""

from __future__ import annotations

import asyncio
import logging
import signal
from contextlib import suppress

from bridge.adapters.mqtt.broker_address import bridge_address
from bridge.aio import first
from bridge.config import Config
from bridge.jobs.database import LeaseLost
from bridge.service import instances
from bridge.service.bridge import Bridge
from bridge.service.checks import check_start
from bridge.service.stores import need_extras

log = logging.getLogger(__name__)

# Between the loss of a lease and the next start.
RESTART_PAUSE_S = 1.0


async def serve(config: Config) -> None:
    """Run a bridge until SIGINT or SIGTERM.

    Raises ConfigError, DatabaseError, InstallFailed or ConnectionRefused if it cannot start.
    """
    stopping = asyncio.Event()

    def stop() -> None:
        log.info("stopping")
        stopping.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        with suppress(NotImplementedError):  # Windows: Ctrl-C comes as KeyboardInterrupt
            asyncio.get_running_loop().add_signal_handler(number, stop)
    address = bridge_address(config)
    # Before a ComfyUI is installed, which takes minutes.
    need_extras(config)
    # A disk or a name server may not answer.
    await first(asyncio.to_thread(check_start, config), stopping.wait())
    found = None if stopping.is_set() else await instances.configs(config, stopping)
    while found is not None and not await _served(Bridge(config, address, found), stopping):
        log.warning("the other bridges took over from this one: starting again")
        await asyncio.sleep(RESTART_PAUSE_S)
    log.info("stopped")


async def _served(bridge: Bridge, stopping: asyncio.Event) -> bool:
    """Run a bridge. Returns False if it lost its lease and has to start again."""
    ended = True
    try:
        await bridge.run(stopping)
    except* LeaseLost:
        # Other bridges have its jobs now, so that what is in memory is void.
        ended = stopping.is_set()
    return ended
