"""Settings: what can be set, where it is read from, and the tables that only the file can hold."""

from bridge.config.checks import (
    CHECKS,
    can_be_host,
    check,
    check_comfyuis,
    check_downloads,
    check_file,
    check_http,
    check_websocket,
    is_http,
    is_there,
)
from bridge.config.keyfile import check_key, shared_key
from bridge.config.loading import load, meant, unknown, variable
from bridge.config.settings import (
    FILE,
    IN_DATA,
    PREFIX,
    TYPES,
    Config,
    first_line,
    host_and_port,
)
from bridge.config.sources import ConfigError
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
    "CHECKS",
    "FILE",
    "IN_DATA",
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
    "can_be_host",
    "check",
    "check_comfyuis",
    "check_downloads",
    "check_file",
    "check_http",
    "check_key",
    "check_websocket",
    "first_line",
    "host_and_port",
    "is_http",
    "is_there",
    "load",
    "meant",
    "shared_key",
    "unknown",
    "variable",
]
