"""Publishes the bridge's warnings on `bridge/log`: few, in one short line each, no secrets."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from bridge.comfyui.instance import last_lines
from bridge.contract.messages import or_unset
from bridge.contract.operator import BridgeLog
from bridge.text import clip, hider, one_line, sendable, without_colours

# A fault that repeats must not fill the broker.
LINES = 20
PER_S = 60.0
LENGTH = 500


class LogTopic(logging.Handler):
    """Publishes warnings and errors, a limited number each minute. Called on any thread.

    `secrets` are hidden, also in texts from other programs.
    """

    def __init__(
        self,
        publish: Callable[[BridgeLog], None],
        secrets: Sequence[str],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(logging.WARNING)
        self._publish = publish
        self._hide = hider(secrets)
        self._loop = loop
        self._since = 0.0
        self._published = 0
        self._dropped = 0
        self._publishing = False

    def emit(self, record: logging.LogRecord) -> None:
        """Pass a record on to the event loop."""
        # ComfyUI's own words may say anything, and a fault of publishing must not feed itself.
        left_out = record.name == last_lines.name or self._publishing
        if not left_out and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._take, record)

    def _take(self, record: logging.LogRecord) -> None:
        if record.created - self._since > PER_S:
            self._since, self._published = record.created, 0
        if self._published >= LINES:
            self._dropped += 1
            return
        self._published += 1
        dropped, self._dropped = self._dropped, 0
        line = BridgeLog(
            at=round(record.created, 3),
            level=record.levelname.lower(),
            logger=record.name,
            message=self._cleaned(record.getMessage()),
            dropped=or_unset(dropped or None),
        )
        self._publishing = True
        try:
            self._publish(line)
        finally:
            self._publishing = False

    def _cleaned(self, message: str) -> str:
        return clip(one_line(sendable(without_colours(self._hide(message)))), LENGTH)


@contextmanager
def publishing(publish: Callable[[BridgeLog], None], secrets: Sequence[str]) -> Iterator[None]:
    """Publish what is logged while the block runs."""
    handler = LogTopic(publish, secrets, asyncio.get_running_loop())
    logger = logging.getLogger("bridge")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
