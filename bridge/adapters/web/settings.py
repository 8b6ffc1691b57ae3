"""How the browser's door is set up."""

from __future__ import annotations

import ssl

from msgspec import Struct

from bridge.adapters.web import web


class Settings(Struct, frozen=True, kw_only=True):
    """Bounds and habits of the server; sizes in bytes, times in seconds."""

    host: str = "127.0.0.1"
    port: int = 0
    tls: ssl.SSLContext | None = None
    origins: tuple[str, ...] = ()
    proxies: tuple[web.Network, ...] = ()
    max_message: int = 16 * 1024 * 1024
    max_connections: int = 2000
    max_per_key: int = 100
    rate: float = 50.0
    buffer: int = 32 * 1024 * 1024
    idle_s: float = 3600.0
    register_s: float = 10.0
    head_s: float = 10.0
    stall_s: float = 30.0
    ping_s: float = 20.0
