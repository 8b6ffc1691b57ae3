"""Settings: what can be set, where it is read from, and the tables that only the file can hold."""

from bridge.config.keyfile import shared_key
from bridge.config.settings import (
    FILE,
    PREFIX,
    TYPES,
    Config,
    ConfigError,
    check,
    check_websocket,
    first_line,
    host_and_port,
    load,
    meant,
    unknown,
    variable,
)
from bridge.config.tables import (
    Call,
    ClientRights,
    ComfyUI,
    Display,
    Hook,
    Sink,
    SinkFolder,
    Trigger,
)

__all__ = [
    "FILE",
    "PREFIX",
    "TYPES",
    "Call",
    "ClientRights",
    "ComfyUI",
    "Config",
    "ConfigError",
    "Display",
    "Hook",
    "Sink",
    "SinkFolder",
    "Trigger",
    "check",
    "check_websocket",
    "first_line",
    "host_and_port",
    "load",
    "meant",
    "shared_key",
    "unknown",
    "variable",
]
