"""The web adapter as a whole: made of its parts, and run beside a bridge or alone."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack

from aiohttp import web

from bridge.adapters.mqtt.broker_address import public_address, web_address
from bridge.adapters.web import handlers, responses
from bridge.adapters.web.auth import Auth
from bridge.adapters.web.broker import Broker
from bridge.adapters.web.content import DisplayPictures, Page, read_page
from bridge.adapters.web.first_login import FirstLogin
from bridge.adapters.web.handlers import Handlers
from bridge.adapters.web.hub import Hub
from bridge.adapters.web.keyring import Keyring, KeyringError
from bridge.adapters.web.replay import Replay
from bridge.adapters.web.server import serving
from bridge.adapters.web.settings import Settings, clients_broker, settings_of
from bridge.adapters.web.signed_urls import SignedUrls
from bridge.adapters.web.sockets import Sockets
from bridge.config import Config, ConfigError, shared_key
from bridge.contract.links import KEY_BYTES
from bridge.contract.topics import Topics
from bridge.mqtt import Address

log = logging.getLogger(__name__)

_REREAD_S = 1.0
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_ALL = ("", "0.0.0.0", "::")  # noqa: S104 - names of what may be set, not a choice
# Files and sockets besides the registered connections: waiting ones, the broker, a bridge in the
# same process.
_OTHER_FILES = 1024


class WebAdapter:
    """Serves browsers over one MQTT connection. Use `run` as a task; cancel it to end it."""

    def __init__(
        self,
        settings: Settings,
        address: Address,
        topics: Topics,
        *,
        keyring: Keyring,
        link_key: bytes,
        link_s: float,
        page: Page | None = None,
        public_broker: Address | None = None,
    ) -> None:
        """`link_key` signs URLs of outputs, which hold for `link_s` seconds.

        `public_broker` is where clients reach the broker, if that is set.
        """
        self._settings = settings
        self._keyring = keyring
        self._first_login = FirstLogin(keyring)
        hub, displays, auth = Hub(), DisplayPictures(), Auth(settings, keyring)
        self._broker = Broker(address, topics, hub, displays.show)
        self._replay = Replay(self._broker, hub)
        signed_urls = SignedUrls(self._broker, link_key, link_s)
        self._handlers = Handlers(
            hub=hub,
            auth=auth,
            signed_urls=signed_urls,
            displays=displays,
            page=read_page() if page is None else page,
            frame_ancestors=settings.frame_ancestors,
            first_login=self._first_login,
            stall_s=settings.stall_s,
        )
        self._sockets = Sockets(
            settings,
            base=topics.base,
            mqtt_port=address.port if address.scheme == "mqtt" else None,
            clients_broker=clients_broker(address, public_broker),
            broker=self._broker,
            hub=hub,
            auth=auth,
            replay=self._replay,
            signed_urls=signed_urls,
        )

    @classmethod
    def of(cls, config: Config) -> WebAdapter:
        """Make the adapter that the settings describe. Raises ConfigError."""
        return cls(
            settings_of(config),
            web_address(config),
            Topics(config.base_topic),
            keyring=Keyring(config.keys_file),
            link_key=shared_key(config.link_key, KEY_BYTES, "link_key_file"),
            link_s=config.link_s,
            public_broker=public_address(config),
        )

    async def run(self, listening: Callable[[int], None] = lambda _: None) -> None:
        """Serve until cancelled; `listening` is called with the port.

        Raises ConfigError for an address that cannot be used, KeyringError, and ConnectionRefused
        for a wrong name or password.
        """
        settings = self._settings
        self._keyring.refresh()
        _allow_files(settings.max_connections + _OTHER_FILES)
        async with AsyncExitStack() as stack:
            server = serving(
                self._application(),
                settings.host,
                settings.port,
                tls=None if settings.tls is None else settings.tls.context,
                trusted=settings.proxies,
                head_s=settings.head_s,
            )
            try:
                port = await stack.enter_async_context(server)
            except OSError as error:
                where = f"{settings.host}:{settings.port}"
                problem = error.strerror or error
                raise ConfigError(f"{where}: {problem}", "websocket_listen") from None
            log.info("serving the page at %s:%d", settings.host or "*", port)
            self._warn()
            self._offer_login(port)
            listening(port)
            tasks = await stack.enter_async_context(asyncio.TaskGroup())
            tasks.create_task(self._broker.run())
            tasks.create_task(self._replay.follow())
            tasks.create_task(self._sockets.watch())
            tasks.create_task(_reread("keys", self._keyring.refresh))
            if settings.tls is not None:
                tasks.create_task(_reread("certificate", settings.tls.refresh))

    def _application(self) -> web.Application:
        app = web.Application(middlewares=[self._handlers.answer])
        app.on_response_prepare.append(responses.secure)
        app.on_shutdown.append(self._sockets.close_all)
        app.router.add_get(handlers.SOCKET, self._sockets.serve, allow_head=False)
        self._handlers.add_to(app)
        return app

    def _offer_login(self, port: int) -> None:
        """Log a link that logs in, for a browser on this machine, where nobody has a key yet."""
        settings = self._settings
        if settings.host not in (*_LOOPBACK, *_ALL):
            return
        scheme = "http" if settings.tls is None else "https"
        host = "[::1]" if settings.host == "::1" else "127.0.0.1"
        link = self._first_login.offer(f"{scheme}://{host}:{port}/")
        if link is not None:
            log.info(
                "nobody has a key yet; login link for this machine, valid once for ten minutes: %s",
                link,
            )

    def _warn(self) -> None:
        """Warn an operator whose clients send their keys for all to read."""
        settings = self._settings
        if settings.tls is None and not settings.proxies and settings.host not in _LOOPBACK:
            log.warning(
                "keys cross the network unencrypted: set websocket_cert, "
                "or trusted_proxies where a reverse proxy has the certificate"
            )


async def _reread(what: str, refresh: Callable[[], bool]) -> None:
    """Read files again whenever they change, with `refresh`; broken ones change nothing."""
    logged = ""
    while True:
        try:
            if await asyncio.to_thread(refresh):
                log.info("reloaded the %s", what)
            logged = ""
        except (KeyringError, OSError) as error:
            problem = f"the {what} cannot be read again, nothing changes: {error}"
            if problem != logged:
                log.warning("%s", problem)
            logged = problem
        await asyncio.sleep(_REREAD_S)


def _allow_files(wanted: int) -> None:
    """Raise this process's limit of open files: each connection is one, and 1,024 the default."""
    if sys.platform == "win32":
        return  # it has no such limit
    import resource  # noqa: PLC0415

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    granted = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (granted, hard))
    if granted < wanted:
        log.warning(
            "the system allows %d open files, %d may be needed: raise the limit (LimitNOFILE)",
            granted,
            wanted,
        )
