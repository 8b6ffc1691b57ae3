"""Counts the functions of the bridge that its work passes through, on all threads begun within."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import bridge

_BRIDGE = str(Path(bridge.__file__).parent)


class Walk:
    """`watching` comes before the threads to watch are begun; calls are counted in `counting`.

    A coroutine or generator counts each time that it continues.
    """

    def __init__(self) -> None:
        self.calls: Counter[CodeType] = Counter()
        self._counting = False

    @contextmanager
    def watching(self) -> Iterator[None]:
        threading.setprofile(self._called)
        sys.setprofile(self._called)
        try:
            yield
        finally:
            sys.setprofile(None)
            threading.setprofile(None)

    @contextmanager
    def counting(self) -> Iterator[None]:
        self._counting = True
        try:
            yield
        finally:
            self._counting = False

    def functions(self, at_least: int) -> list[str]:
        """Return the functions that were called so often, as `file:name`."""
        found = (code for code, calls in self.calls.items() if calls >= at_least)
        return sorted(
            f"{code.co_filename.removeprefix(_BRIDGE)[1:]}:{code.co_qualname}" for code in found
        )

    def _called(self, frame: FrameType, event: str, _argument: Any) -> None:
        if self._counting and event == "call" and frame.f_code.co_filename.startswith(_BRIDGE):
            self.calls[frame.f_code] += 1
