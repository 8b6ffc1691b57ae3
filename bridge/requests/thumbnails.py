"""Makes images smaller for clients that ask for that, such as the page's gallery.

They are made in the worker process, and remembered for a while: a thumbnail is fetched again and
again, and a larger one in several parts. Its cost is taken from the client's budget of
processor time.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable

from bridge.contract.errors import ExecutionError
from bridge.jobs.journal import Stored
from bridge.media.files import Files, read_kept
from bridge.media.profile import Profile, SourceImage, target
from bridge.media.transcode import CannotTranscode, Transcoder
from bridge.requests.processor_time import ProcessorTime

QUALITY = 85
MAX_BYTES = 32 * 1024 * 1024
# The memory of one beside its bytes: many small ones are bounded, too.
ENTRY_BYTES = 1024

_Key = tuple[str, int]


class Thumbnails:
    """Makes thumbnails, each once however many clients ask for it at the same time.

    For the event loop's thread; images are decoded in the worker process.
    """

    def __init__(
        self,
        files: Files,
        transcoder: Transcoder,
        processor: ProcessorTime,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self._files = files
        self._processor = processor
        self._transcoder = transcoder
        self._max_bytes = max_bytes
        # One at a time: a gallery must not take all workers from the jobs' outputs.
        self._turns = _Turns()
        self._made: OrderedDict[_Key, Stored] = OrderedDict()
        self._bytes = 0
        self._making: dict[_Key, asyncio.Task[Stored]] = {}

    async def get(
        self, client: str, stored: Stored, width: int, waits: Callable[[], None] = lambda: None
    ) -> Stored:
        """Return an image at most `width` pixels wide, as WebP; other bytes unchanged.

        `waits` is called before this waits for one to be made. Raises ExecutionError if it
        cannot be decoded, QuotaExceeded and Busy if the client asks for too much.
        """
        if not stored.content_type.startswith("image/"):
            return stored
        key = (stored.sha256, width)
        if key in self._made:
            self._made.move_to_end(key)
            return self._made[key]
        making = self._making.get(key)
        if making is None:
            self._processor.begin(client)
            making = self._making[key] = asyncio.create_task(self._make_for(client, stored, width))
            making.add_done_callback(lambda done: self._keep(key, done))
        waits()
        # Others may wait for the same one.
        return await asyncio.shield(making)

    async def _make_for(self, client: str, stored: Stored, width: int) -> Stored:
        took_s = 0.0
        try:
            await self._turns.acquire(client)
            began = time.monotonic()
            try:
                return await self._make(stored, width)
            finally:
                took_s = time.monotonic() - began
                self._turns.release()
        finally:
            self._processor.end(client, took_s)

    async def _make(self, stored: Stored, width: int) -> Stored:
        asked = Profile(format="webp", quality=QUALITY, max_width=width, strip=True)
        form = target(asked, SourceImage(stored.content_type, None, None, stored.size))
        if form is None:
            return stored
        data = await read_kept(self._files, stored.sha256, stored.data)
        try:
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


class _Turns:
    """A lock that waiting clients get in turn, however many requests each has waiting."""

    def __init__(self) -> None:
        self._taken = False
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    async def acquire(self, client: str) -> None:
        """Wait for a turn. Call `release` after it."""
        if not self._taken:
            self._taken = True
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(client, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.release()
            raise

    def release(self) -> None:
        """Let the next waiting client in."""
        while self._waiting:
            client, turns = self._waiting.popitem(last=False)
            turn = turns.popleft()
            if turns:
                self._waiting[client] = turns
            if not turn.done():
                turn.set_result(None)
                return
        self._taken = False


def _cost(made: Stored) -> int:
    return made.size + ENTRY_BYTES
