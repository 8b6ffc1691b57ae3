"""The HTTP addresses of outputs and displays, where the operator set `public_url`."""

from __future__ import annotations

import asyncio
import time

from bridge.config import Config, host_and_port, shared_key
from bridge.contract import links
from bridge.contract.links import Link
from bridge.contract.messages import OutputInfo
from bridge.jobs.queue import Key
from bridge.media.files import INLINE_LIMIT, Files


class Links:
    """The addresses of outputs in results: the store's own for large ones, else the bridge's."""

    def __init__(self, addresses: PublicUrls | None, files: Files | None) -> None:
        """`addresses` are the bridge's, if it has any; `files` make links, if the store's count."""
        self.addresses = addresses
        self._files = files

    @classmethod
    def of(cls, config: Config, files: Files) -> Links:
        """Make the links of a bridge. Raises ConfigError."""
        return cls(PublicUrls.of(config), files if config.links == "store" else None)

    async def output(self, job: Key, info: OutputInfo, until: float) -> str | None:
        """Return a link to an output, valid until `until` (seconds since the epoch), or None."""
        found = await self._stored(info, until)
        if found is None and self.addresses is not None:
            found = self.addresses.output(job, info.index, until)
        return found

    async def set_output(self, key: Key, info: OutputInfo, until: float) -> str | None:
        """Return a link to what a set has collected, likewise."""
        found = await self._stored(info, until)
        if found is None and self.addresses is not None:
            found = self.addresses.set_output(key, info.index, until)
        return found

    async def _stored(self, info: OutputInfo, until: float) -> str | None:
        if self._files is None or info.size <= INLINE_LIMIT:
            return None
        return await asyncio.to_thread(self._files.link, info.sha256, until - time.time())


class PublicUrls:
    """Makes addresses below `public_url`; links to outputs are signed with `key`."""

    def __init__(self, public_url: str, key: bytes) -> None:
        self._public_url = public_url.rstrip("/")
        self._key = key

    @classmethod
    def of(cls, config: Config) -> PublicUrls | None:
        """Make the addresses of a bridge; None without `public_url`. Raises ConfigError."""
        if config.public_url is None:
            return None
        return cls(config.public_url, shared_key(config.link_key, links.KEY_BYTES, "link_key_file"))

    def output(self, job: Key, index: int, until: float) -> str:
        """Return a link to an output, good until a time in seconds since the epoch."""
        link = Link(job.client, job.job_id, index, int(until))
        return links.address(self._public_url, self._key, link)

    def set_output(self, key: Key, index: int, until: float) -> str:
        """Return a link to what a set has collected, likewise."""
        link = Link(key.client, key.job_id, index, int(until), of_set=True)
        return links.address(self._public_url, self._key, link)

    def display(self, name: str) -> str:
        """Return the URL of a display's picture; the reader adds an API key."""
        return f"{self._public_url}/d/{name}.png"


def page_address(config: Config) -> str | None:
    """Return where a browser finds the page; None if there is none."""
    if config.websocket_listen is None:
        return None
    if config.public_url is not None:
        return f"{config.public_url.rstrip('/')}/"
    scheme = "http" if config.websocket_cert is None else "https"
    return f"{scheme}://{own_address(config.websocket_listen)}/"


def own_address(listen: str) -> str:
    """Return the `host:port` by which this machine reaches what listens at an address."""
    host, port = host_and_port(listen)
    here = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 - all interfaces
    return f"{here.get(host, f'[{host}]' if ':' in host else host)}:{port}"
