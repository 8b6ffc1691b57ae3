"""The order in which clients' thumbnails are made, and the account of their cost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from bridge.contract.errors import Busy, QuotaExceeded
from bridge.jobs.journal import Stored
from bridge.media.transcode import Transcoder
from bridge.requests.processor_time import MAX_WORKS_OF_ONE, ProcessorTime
from bridge.requests.thumbnails import Thumbnails
from tests.media.images import encoded, photo
from tests.requests.test_thumbnails import Blobs, plenty, stored


@pytest.fixture
async def transcoder() -> AsyncIterator[Transcoder]:
    transcoder = Transcoder()
    yield transcoder
    await transcoder.close()


async def test_a_client_that_asks_for_much_has_a_budget_and_others_wait_for_one_of_its_pictures(
    transcoder: Transcoder,
) -> None:
    """Ten widths of one picture: nine wait while one is made, and another client's is next."""
    thumbnails = Thumbnails(Blobs(), transcoder, plenty())
    picture = stored(encoded(photo(600, 600)))
    made: list[str] = []

    async def get(client: str, width: int) -> None:
        await thumbnails.get(client, picture, width)
        made.append(client)

    await asyncio.gather(*(get("mallory", 100 + each) for each in range(10)), get("alice", 50))
    assert made.index("alice") <= 2


async def test_who_waits_for_a_picture_lets_others_pass_and_who_asks_for_too_many_is_refused(
    transcoder: Transcoder,
) -> None:
    now = 0.0
    thumbnails = Thumbnails(Blobs(), transcoder, ProcessorTime(lambda _: 0.25, lambda: now))
    picture = stored(encoded(photo(64, 64)))
    passed: list[int] = []

    async def get(width: int) -> Stored:
        return await thumbnails.get("mallory", picture, width, lambda: passed.append(width))

    found = await asyncio.gather(*(get(each) for each in range(1, 31)), return_exceptions=True)
    refused = [each for each in found if isinstance(each, Busy)]
    assert len(refused) == 30 - MAX_WORKS_OF_ONE
    assert all(each.details["retry"] for each in refused)
    assert len(passed) == MAX_WORKS_OF_ONE
    await get(1)  # it is kept: nobody has to wait
    assert len(passed) == MAX_WORKS_OF_ONE


async def test_making_pictures_smaller_is_paid_for(transcoder: Transcoder) -> None:
    now = 0.0
    thumbnails = Thumbnails(Blobs(), transcoder, ProcessorTime(lambda _: 0.000_001, lambda: now))
    picture = stored(encoded(photo(64, 64)))
    await thumbnails.get("mallory", picture, 1)
    with pytest.raises(QuotaExceeded) as refused:
        await thumbnails.get("mallory", picture, 2)
    assert refused.value.details["setting"] == "clients.mallory.processor_per_s"
    await thumbnails.get("alice", picture, 2)
    now += refused.value.details["retry_after_s"]
    await thumbnails.get("mallory", picture, 3)
