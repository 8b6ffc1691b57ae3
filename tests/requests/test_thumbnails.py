from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bridge.contract.errors import ExecutionError
from bridge.jobs.journal import Stored
from bridge.media.files import Folder
from bridge.media.transcode import Transcoder
from bridge.requests.processor_time import ProcessorTime
from bridge.requests.thumbnails import ENTRY_BYTES, Thumbnails
from tests.media.images import encoded, opened, photo

pytestmark = pytest.mark.slow


class Blobs(Folder):
    """Files that count how often they are read."""

    def __init__(self, data: bytes = b"") -> None:
        super().__init__(Path("/nowhere"))
        self.data = data
        self.reads = 0

    def read(self, sha256: str, offset: int = 0, count: int = -1) -> bytes:
        assert sha256 == hashlib.sha256(self.data).hexdigest()
        assert (offset, count) == (0, -1)
        self.reads += 1
        return self.data


@pytest.fixture
async def transcoder() -> AsyncIterator[Transcoder]:
    transcoder = Transcoder()
    yield transcoder
    await transcoder.close()


def plenty() -> ProcessorTime:
    return ProcessorTime(lambda _: 1_000.0, time.monotonic)


def stored(data: bytes, content_type: str = "image/png", *, inline: bool = True) -> Stored:
    sha256 = hashlib.sha256(data).hexdigest()
    return Stored(content_type, sha256, len(data), data if inline else None)


async def test_an_image_is_made_smaller_once_for_all_who_ask(
    transcoder: Transcoder,
) -> None:
    picture = encoded(photo(400, 200))
    blobs = Blobs(picture)
    thumbnails = Thumbnails(blobs, transcoder, plenty())
    large = stored(picture, inline=False)
    found = await asyncio.gather(*(thumbnails.get("alice", large, 100) for _ in range(5)))
    found.append(await thumbnails.get("alice", large, 100))
    assert blobs.reads == 1
    assert len(set(map(id, found))) == 1
    made = found[0]
    assert made.data is not None
    assert (made.content_type, opened(made.data).size) == ("image/webp", (100, 50))
    assert (made.size, made.sha256) == (len(made.data), hashlib.sha256(made.data).hexdigest())


async def test_one_is_never_made_larger(transcoder: Transcoder) -> None:
    made = await Thumbnails(Blobs(), transcoder, plenty()).get(
        "alice", stored(encoded(photo(40, 20))), 1000
    )
    assert made.data is not None
    assert opened(made.data).size == (40, 20)


async def test_what_is_no_image_comes_as_it_is(transcoder: Transcoder) -> None:
    film = stored(b"film", "video/mp4")
    assert await Thumbnails(Blobs(), transcoder, plenty()).get("alice", film, 100) is film


async def test_what_cannot_be_decoded_is_reported_each_time(transcoder: Transcoder) -> None:
    thumbnails = Thumbnails(Blobs(), transcoder, plenty())
    for _ in range(2):
        with pytest.raises(ExecutionError, match="smaller"):
            await thumbnails.get("alice", stored(b"no image"), 100)


async def test_those_longest_unasked_for_are_forgotten(transcoder: Transcoder) -> None:
    pictures = [encoded(photo(64 + each, 64)) for each in range(3)]
    blobs = [Blobs(picture) for picture in pictures]
    sizes = [
        (await Thumbnails(Blobs(), transcoder, plenty()).get("alice", stored(each), 32)).size
        for each in pictures
    ]
    thumbnails = Thumbnails(
        blobs[0], transcoder, plenty(), max_bytes=sizes[0] + sizes[1] + 2 * ENTRY_BYTES
    )
    first = stored(pictures[0], inline=False)
    await thumbnails.get("alice", first, 32)
    await thumbnails.get("alice", stored(pictures[1]), 32)
    await thumbnails.get("alice", first, 32)
    await thumbnails.get("alice", stored(pictures[2]), 32)
    await thumbnails.get("alice", first, 32)
    assert blobs[0].reads == (1 if sizes[2] <= sizes[1] else 2)


async def test_a_gallery_leaves_a_worker_to_the_jobs_outputs(transcoder: Transcoder) -> None:
    thumbnails = Thumbnails(Blobs(), transcoder, plenty())
    pictures = [stored(encoded(photo(64 + each, 64))) for each in range(4)]
    await asyncio.gather(*(thumbnails.get("alice", each, 32) for each in pictures))
    assert len(transcoder.pids) == 1
