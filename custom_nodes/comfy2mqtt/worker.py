"""ComfyUI's worker, the one thread that runs prompts: when it ends, HTTP still answers.

A node that raises SystemExit ends it (ComfyUI #16312): prompts are taken then, and never run.
"""

from __future__ import annotations

import threading
from typing import Any

# Python names a thread by the function that it runs.
_NAME = "prompt_worker"


class Worker:
    """Looks for the thread until it is found; one that has ended is no longer listed."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None

    def alive(self) -> bool | None:
        """True if it lives; None for a ComfyUI whose worker has another name."""
        if self._thread is None:
            found = (thread for thread in threading.enumerate() if _NAME in thread.name)
            self._thread = next(found, None)
        return None if self._thread is None else self._thread.is_alive()


def queued(queue: Any) -> list[Any]:
    """The graphs of the prompts that run or wait, in ComfyUI's queue."""
    # The first one copies nothing; servers before it have the second alone.
    look = getattr(queue, "get_current_queue_volatile", None) or queue.get_current_queue
    running, pending = look()
    return [item[2] for item in (*running, *pending)]
