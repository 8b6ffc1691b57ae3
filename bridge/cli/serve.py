"""`comfy2mqtt serve`: the bridge in a process of its own."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Mapping

from bridge import config, service
from bridge.comfyui.install import InstallFailed
from bridge.config import Config, ConfigError
from bridge.doors.metrics import CannotServeMetrics
from bridge.doors.websocket.door import CannotListen
from bridge.doors.websocket.keyring import KeyringError
from bridge.jobs.database import DatabaseError
from bridge.mqtt import MqttError

if sys.platform == "win32":
    from asyncio import new_event_loop
else:
    from uvloop import new_event_loop

log = logging.getLogger(__name__)

_REASONS = (
    CannotListen,
    CannotServeMetrics,
    ConfigError,
    DatabaseError,
    InstallFailed,
    KeyringError,
    MqttError,
)


def warn_of_unknown(environment: Mapping[str, str]) -> None:
    """Tell of variables that look like settings and are none."""
    for variable in config.unknown(environment):
        log.warning("%s is no setting: is it misspelt?", variable)


def run(settings: Config) -> str | None:
    """Run the bridge until it is told to stop; returns why it could not."""
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(_serve(settings))


async def _serve(settings: Config) -> str | None:
    reason: str | None = None
    try:
        await service.serve(settings)
    except* _REASONS as group:
        reason = str(_first(group))
    return reason


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
