"""Images made smaller for those who fetch them so: the gallery of a page, most often.

They are made in the worker process, and remembered for a while: a thumbnail is fetched again and
again, and a larger one in several parts.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict

from bridge.contract.errors import ExecutionError
from bridge.jobs.journal import Stored
from bridge.media.files import Files
from bridge.media.profile import Profile, Source, target
from bridge.media.transcode import CannotTranscode, Transcoder

QUALITY = 85
MAX_BYTES = 32 * 1024 * 1024
# What remembering one takes beside its bytes: many small ones are bounded too.
ENTRY_BYTES = 1024

_Key = tuple[str, int]


class Thumbnails:
    """Makes each once, however many ask for it at the same time."""

    def __init__(self, files: Files, transcoder: Transcoder, max_bytes: int = MAX_BYTES) -> None:
        self._files = files
        self._transcoder = transcoder
        self._max_bytes = max_bytes
        # One at a time: a gallery must not take all workers from the jobs' outputs.
        self._turn = asyncio.Semaphore(1)
        self._made: OrderedDict[_Key, Stored] = OrderedDict()
        self._bytes = 0
        self._making: dict[_Key, asyncio.Task[Stored]] = {}

    async def get(self, stored: Stored, width: int) -> Stored:
        """Return an image at most `width` pixels wide, as WebP, and what is none as it is.

        Raises ExecutionError where it cannot be decoded.
        """
        if not stored.content_type.startswith("image/"):
            return stored
        key = (stored.sha256, width)
        if key in self._made:
            self._made.move_to_end(key)
            return self._made[key]
        making = self._making.get(key)
        if making is None:
            making = self._making[key] = asyncio.create_task(self._make(stored, width))
            making.add_done_callback(lambda done: self._keep(key, done))
        # Others may wait for the same one.
        return await asyncio.shield(making)

    async def _make(self, stored: Stored, width: int) -> Stored:
        asked = Profile(format="webp", quality=QUALITY, max_width=width, strip=True)
        form = target(asked, Source(stored.content_type, None, None, stored.size))
        if form is None:
            return stored
        data = stored.data
        if data is None:
            data = await asyncio.to_thread(self._files.read, stored.sha256)
        try:
            async with self._turn:
                image = await self._transcoder.transcode(data, form)
        except CannotTranscode as error:
            raise ExecutionError(f"it cannot be made smaller: {error}", reason=str(error)) from None
        return Stored(image.content_type, image.sha256, len(image.data), image.data)

    def _keep(self, key: _Key, done: asyncio.Task[Stored]) -> None:
        del self._making[key]
        if done.cancelled() or done.exception() is not None:
            return
        self._made[key] = done.result()
        self._bytes += _cost(done.result())
        while self._bytes > self._max_bytes:
            _, oldest = self._made.popitem(last=False)
            self._bytes -= _cost(oldest)


def _cost(made: Stored) -> int:
    return made.size + ENTRY_BYTES
