"""Marks on the installs of ComfyUI that are in use, so that no upgrade removes them.

A bridge that starts an install holds a shared lock on its stamp, also while the operator has
stopped that ComfyUI. The kernel releases it with the process. `comfy2mqtt comfyui upgrade` is
another process, and knows no bridge.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import IO

STAMP = "install.json"


class InUseMark:
    """A mark on the install that a ComfyUI is started from; `close` it."""

    def __init__(self) -> None:
        self._file: IO[bytes] | None = None

    def move(self, place: Path) -> None:
        """Mark the install at `place` instead of the one before.

        Installs that `comfy2mqtt comfyui install` did not make are not marked.
        """
        self.close()
        if sys.platform != "win32":
            import fcntl  # noqa: PLC0415 - absent on Windows, where this module is still imported

            with contextlib.suppress(OSError):
                self._file = (place / STAMP).open("rb")
                fcntl.flock(self._file, fcntl.LOCK_SH | fcntl.LOCK_NB)

    def close(self) -> None:
        """Take the mark away."""
        if self._file is not None:
            self._file.close()
            self._file = None


def is_marked(place: Path) -> bool:
    """True if a bridge on this machine has marked the install at `place`."""
    if sys.platform == "win32":
        return False
    import fcntl  # noqa: PLC0415 - absent on Windows, where this module is still imported

    try:
        # Of a network's disk a lock for one alone takes a file that can be written.
        with (place / STAMP).open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
