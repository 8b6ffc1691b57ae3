"""A bucket of moto's S3, behind a proxy that does harm to requests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from tests.peers import servers
from tests.peers.faulty_s3 import FaultyS3

NAME = "pictures"


class Bucket:
    """The bucket, which the bridges reach by the proxy."""

    def __init__(self, url: str, proxy: FaultyS3) -> None:
        self.proxy = proxy
        self._url = f"{url}/{NAME}"

    def settings(self, folder: Path) -> dict[str, Any]:
        """Return the settings of a bridge that keeps large blobs here."""
        secret = folder / "secret"
        secret.write_text("nobody checks it\n")
        return {
            "blobs": f"s3://{NAME}/x",
            "s3_endpoint": self.proxy.url,
            "s3_access_key": "x",
            "s3_secret_key_file": str(secret),
        }

    async def make(self) -> None:
        async with aiohttp.ClientSession() as session, session.put(self._url) as made:
            assert made.status == 200

    @property
    def puts(self) -> int:
        """The number of objects that the bridges have put, the attempts that failed among them."""
        return self.proxy.requests.count("PUT")


@asynccontextmanager
async def running_bucket() -> AsyncIterator[Bucket]:
    """Make an empty one; it is gone afterwards."""
    python = await asyncio.to_thread(servers.python)
    with servers.serving(python, *servers.MOTO) as url:
        async with FaultyS3(url).serving() as proxy:
            bucket = Bucket(url, proxy)
            await bucket.make()
            yield bucket
