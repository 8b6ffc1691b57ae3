"""Fixtures that the tests of this folder share.

What runs in an environment of its own is none of this one's tests.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import aiohttp
import pytest

from tests.peers import servers
from tests.peers.faulty_s3 import FaultyS3
from tests.peers.homeassistant_integration import environment
from tests.peers.homeassistant_integration.environment import Place

collect_ignore = ["homeassistant_integration"]


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    with servers.serving(servers.python(), *servers.MOTO) as url:
        yield url


@pytest.fixture
async def s3(moto: str) -> AsyncIterator[FaultyS3]:
    async with aiohttp.ClientSession() as session:
        async with session.post(f"{moto}/moto-api/reset") as reset:
            assert reset.status == 200
        async with session.put(f"{moto}/pictures") as made:
            assert made.status == 200
    async with FaultyS3(moto).serving() as proxy:
        yield proxy


@pytest.fixture(scope="session")
def place() -> Place:
    """The environment of the newest Home Assistant."""
    try:
        return environment.found()
    except environment.Unavailable as why:
        pytest.skip(f"THE INTEGRATION FOR HOME ASSISTANT IS NOT TESTED: {why}")
