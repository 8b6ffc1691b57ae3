"""The browser's door as a whole: made of its parts, and run beside a bridge or alone."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import ssl
from collections.abc import Callable

from bridge.adapters.web.auth import Auth
from bridge.adapters.web.broker import Broker
from bridge.adapters.web.displays import Displays
from bridge.adapters.web.errors import CannotListen, KeyringError
from bridge.adapters.web.handlers import Visits
from bridge.adapters.web.hub import Hub
from bridge.adapters.web.keyring import Keyring
from bridge.adapters.web.server import Sockets
from bridge.adapters.web.settings import Settings
from bridge.adapters.web.signed_urls import Links
from bridge.adapters.web.static_files import Site
from bridge.config import Config, ConfigError, host_and_port, shared_key
from bridge.contract.links import KEY_BYTES
from bridge.contract.topics import Topics
from bridge.mqtt import Address

log = logging.getLogger(__name__)

DEFAULT_LISTEN = "127.0.0.1:8090"
_REREAD_S = 1.0
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
# Files and sockets besides the connections: strangers, the broker, a bridge in the same process.
_OTHER_FILES = 512


def _allow_files(wanted: int) -> None:
    """Let this process have so many open files: each connection is one, and 1,024 the default."""
    try:
        import resource  # noqa: PLC0415 - Windows has none, and no such limit
    except ImportError:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    granted = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (granted, hard))
    if granted < wanted:
        log.warning("the system allows %d open files, %d may be needed", granted, wanted)


def settings_of(config: Config) -> Settings:
    """Return the server's settings. Raises ConfigError for certificates that are none."""
    host, port = host_and_port(config.websocket_listen or DEFAULT_LISTEN)
    tls: ssl.SSLContext | None = None
    if config.websocket_cert is not None:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        try:
            tls.load_cert_chain(config.websocket_cert, config.websocket_cert_key)
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"websocket_cert: {config.websocket_cert}: {error}") from None
    origins = config.websocket_origins
    if config.public_url is not None:
        origins = (*origins, config.public_url)
    return Settings(
        host=host,
        port=port,
        tls=tls,
        origins=origins,
        proxies=tuple(ipaddress.ip_network(each) for each in config.trusted_proxies),
        max_message=config.websocket_max_message,
        max_connections=config.websocket_max_connections,
        max_per_key=config.websocket_max_per_key,
        rate=config.websocket_rate,
        buffer=config.websocket_buffer,
        idle_s=config.websocket_idle_s,
    )


def broker_of(config: Config) -> Address:
    """Return the broker's address, with the door's own account. Raises BadAddress."""
    return Address.parse(
        config.websocket_mqtt_url or config.mqtt_url,
        ca=config.mqtt_ca,
        cert=config.mqtt_cert,
        key=config.mqtt_key,
        password_file=None if config.websocket_mqtt_url else config.mqtt_password_file,
    )


class WebAdapter:
    """Use `run` as a task; cancel it to end it."""

    def __init__(
        self,
        settings: Settings,
        address: Address,
        topics: Topics,
        *,
        keyring: Keyring,
        link_key: bytes,
        link_s: float,
        site: Site | None = None,
    ) -> None:
        self._settings = settings
        self._keyring = keyring
        hub, displays = Hub(), Displays()
        self._broker = Broker(address, topics, hub, displays.show)
        auth = Auth(settings, keyring)
        links = Links(self._broker, link_key, link_s)
        visits = Visits(
            hub=hub,
            auth=auth,
            links=links,
            displays=displays,
            site=site or Site(),
            stall_s=settings.stall_s,
        )
        self._sockets = Sockets(
            settings,
            base=topics.base,
            broker=self._broker,
            hub=hub,
            auth=auth,
            links=links,
            visits=visits,
        )

    @classmethod
    def of(cls, config: Config) -> WebAdapter:
        """Make the door that the settings describe. Raises ConfigError, BadAddress."""
        return cls(
            settings_of(config),
            broker_of(config),
            Topics(config.base_topic),
            keyring=Keyring(config.keys_file),
            link_key=shared_key(config.link_key, KEY_BYTES),
            link_s=config.link_s,
        )

    async def run(self, listening: Callable[[int], None] = lambda _: None) -> None:
        """Serve until cancelled; `listening` is told the port.

        Raises CannotListen, KeyringError, and ConnectionRefused for a wrong name or password.
        """
        self._keyring.refresh()
        _allow_files(self._settings.max_connections + _OTHER_FILES)
        try:
            async with self._sockets.serving() as server, asyncio.TaskGroup() as tasks:
                port: int = server.sockets[0].getsockname()[1]
                log.info("browsers are served at %s:%d", self._settings.host or "*", port)
                self._warn()
                listening(port)
                tasks.create_task(self._broker.run())
                tasks.create_task(self._sockets.follow_broker())
                tasks.create_task(self._sockets.watch())
                tasks.create_task(self._reread())
        except OSError as error:
            where = f"{self._settings.host}:{self._settings.port}"
            raise CannotListen(f"websocket_listen: {where}: {error.strerror or error}") from None

    def _warn(self) -> None:
        """Tell an operator whose clients send their keys for all to read."""
        settings = self._settings
        if settings.tls is None and not settings.proxies and settings.host not in _LOOPBACK:
            log.warning(
                "keys cross the network unencrypted: set websocket_cert, "
                "or trusted_proxies where a reverse proxy has the certificate"
            )

    async def _reread(self) -> None:
        """Read the keys again whenever their file changes; one that is broken changes nothing."""
        told = ""
        while True:
            try:
                if await asyncio.to_thread(self._keyring.refresh):
                    log.info("the keys were read again")
                told = ""
            except KeyringError as error:
                if str(error) != told:
                    log.warning("%s", error)
                told = str(error)
            await asyncio.sleep(_REREAD_S)
