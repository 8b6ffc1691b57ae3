"""Looks for what would stop a bridge at its start, before a ComfyUI is installed for minutes.

`comfy2mqtt doctor` looks for the same. All of it blocks, and raises ConfigError.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
from functools import partial
from pathlib import Path

from bridge.adapters.displays import check_show, form_of
from bridge.adapters.mqtt.broker_address import (
    bridge_address,
    probe_address,
    public_address,
    web_address,
)
from bridge.adapters.triggers.adapter import check_rights
from bridge.adapters.triggers.rules import Rule
from bridge.atomicfile import try_folder
from bridge.config import Config, ConfigError, check_key, host_and_port
from bridge.contract import links
from bridge.contract.topics import Topics
from bridge.hooks.presets import check_hook, check_warm
from bridge.jobs.database import FULL_DISK
from bridge.mqtt import BadAddress
from bridge.requests.permissions import Permissions
from bridge.requests.sinks import Sinks, check_folder
from bridge.sinks import signature
from bridge.text import in_quotes

LISTENS = ("websocket_listen", "metrics_listen")
_IN_USE = "another program listens there: end it, or choose another port"


def check_tables(config: Config) -> None:
    """Check the tables of displays, triggers, sinks and hooks."""
    topics, rights = Topics(config.base_topic), Permissions(config.clients)
    displays = {each.name: each for each in config.display}
    for display in config.display:
        form_of(display)
    for trigger in config.trigger:
        Rule(trigger, topics)
        check_rights(trigger, rights, partial(check_show, displays, rights))
    for folder in config.sink_folder:
        check_folder(folder)
    Sinks(rights, config.sink, [each.name for each in config.sink_folder])
    for hook in config.hook:
        check_hook(hook, config.base_topic)
    check_warm(config)


def check_connections(config: Config) -> None:
    """Check the broker's addresses, certificates, and the files of keys."""
    try:
        bridge_address(config).ssl_context()
    except BadAddress as error:
        named = "mqtt_ca" if str(config.mqtt_ca) in str(error) else "mqtt_cert"
        raise ConfigError(str(error), named) from None
    probe_address(config)
    public_address(config)
    _check_key(config, "webhook_key_file", config.webhook_key, signature.KEY_BYTES)
    # One that lies in the data folder matters only where there are links.
    if any((config.link_key_file, config.public_url, config.websocket_listen)):
        _check_key(config, "link_key_file", config.link_key, links.KEY_BYTES)
    if config.websocket_listen is not None:
        _check_web(config)


def _check_key(config: Config, setting: str, path: Path, size: int) -> None:
    check_key(path, size, setting if getattr(config, setting) is not None else "data")


def _check_web(config: Config) -> None:
    # An adapter that not every bridge has.
    from bridge.adapters.web.keyring import Keyring, KeyringError  # noqa: PLC0415
    from bridge.adapters.web.settings import settings_of  # noqa: PLC0415

    web_address(config)
    settings_of(config)
    try:
        Keyring(config.keys_file).refresh()
    except KeyringError as error:
        raise ConfigError(str(error), "websocket_keys") from None


def check_data(config: Config) -> Path:
    """Check that the data folder can be written, or made; returns the part of it that is there."""
    folder = config.folder
    there = next(each for each in (folder, *folder.absolute().parents) if os.path.lexists(each))
    try:
        try_folder(there)
    except OSError as error:
        if error.errno not in FULL_DISK:  # the start waits for room
            why = "it is a file" if there.is_file() else error.strerror
            problem = f"{in_quotes(str(folder))}: {there} cannot be written: {why}"
            raise ConfigError(f"{problem}; expected a folder of the bridge's own", "data") from None
    return there


def check_ports(config: Config) -> None:
    """Check that nobody else listens where this bridge is to listen."""
    for setting in LISTENS:
        check_port(config, setting)


def check_port(config: Config, setting: str) -> None:
    """Check that nobody else listens at the address in a setting, if there is one."""
    listen: str | None = getattr(config, setting)
    if listen is None:
        return
    host, port = host_and_port(listen)
    try:
        found = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        for family, kind, protocol, _, address in found:
            _bind(family, kind, protocol, address)
    except (OSError, UnicodeError) as error:
        number = error.errno if isinstance(error, OSError) else None
        why = _IN_USE if number == errno.EADDRINUSE else getattr(error, "strerror", "no such host")
        raise ConfigError(f"{listen!r}: {why}", setting) from None


def _bind(family: int, kind: int, protocol: int, address: tuple[object, ...]) -> None:
    """Bind a socket as a server does, and close it. Raises OSError."""
    try:
        probe = socket.socket(family, kind, protocol)
    except OSError:
        return  # the system has no such sockets, and a server leaves them out too
    with probe:
        if sys.platform != "win32":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        probe.bind(address)


def check_start(config: Config) -> None:
    """Check tables, data folder, connections and ports. Blocks. Raises ConfigError."""
    check_tables(config)
    if not config.journal:  # else the folder holds little, whose loss is reported where it shows
        check_data(config)
    check_connections(config)
    check_ports(config)
