"""A prompt's events between the socket's reader, which never waits, and a consumer that may.

Nothing is dropped but previews: while one waits, a newer one takes its place.
"""

from __future__ import annotations

import asyncio
from collections import deque

from bridge.comfyui.events import Event, PromptPreview


class EventQueue:
    """Unbounded, one reader. The prompt bounds it: a job has only so many steps and outputs."""

    def __init__(self) -> None:
        self._events: deque[Event | None] = deque()
        self._preview: PromptPreview | None = None
        self._arrived: asyncio.Future[None] | None = None

    def put(self, event: Event) -> None:
        """Add an event and wake the reader; never waits. Call it on the event loop's thread."""
        if isinstance(event, PromptPreview):
            # None holds the preview's place in the queue, so that a newer one takes it.
            waiting, self._preview = self._preview, event
            if waiting is not None:
                return
            self._events.append(None)
        else:
            self._events.append(event)
        if self._arrived is not None and not self._arrived.done():
            self._arrived.set_result(None)

    async def get(self) -> Event:
        """Wait for the next event. Cancelling it loses none."""
        while not self._events:
            self._arrived = asyncio.get_running_loop().create_future()
            try:
                await self._arrived
            finally:
                self._arrived = None
        event = self._events.popleft()
        if event is not None:
            return event
        preview, self._preview = self._preview, None
        if preview is None:
            raise AssertionError("a place in the queue without its preview")
        return preview
