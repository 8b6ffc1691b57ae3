"""`comfy2mqtt serve`: the bridge in a process of its own."""

from __future__ import annotations

from bridge import service
from bridge.adapters.web.errors import CannotServe
from bridge.cli import daemon
from bridge.comfyui.install import InstallFailed
from bridge.config import Config, ConfigError
from bridge.jobs.database import DatabaseError
from bridge.mqtt import MqttError


def run(settings: Config) -> str | None:
    """Run the bridge until it is told to stop; returns why it could not."""
    return daemon.run(
        service.serve(settings),
        CannotServe,
        ConfigError,
        DatabaseError,
        InstallFailed,
        MqttError,
    )
