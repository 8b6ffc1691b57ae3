"""Restricts a bridge's files to its own user: prompts, pictures, passwords. All of it blocks."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Collection
from pathlib import Path

log = logging.getLogger(__name__)

_OTHERS = 0o077
_FOLDER = 0o700
# What there is wherever the bridge has run; earlier versions let everybody read it.
_JOURNAL = "journal.db"
# In a disk that was made for the folder.
_OF_DISKS = "lost+found"


def from_now_on() -> None:
    """Have this process, and what it starts, make files and folders for its user alone."""
    os.umask(_OTHERS)


def claim(folder: Path, leave: Collection[Path] = ()) -> None:
    """Restrict a folder to its owner, and create it if it does not exist.

    What earlier versions wrote for everybody to read is changed too, once: where the folder itself
    was open. Not what is in `leave`, what is linked to, or what is another user's; of the folder
    itself the log says so then. Nor a folder that others use too, such as /tmp or somebody's home.
    """
    left = {path.absolute() for path in leave}
    try:
        folder.mkdir(mode=_FOLDER, parents=True, exist_ok=True)
        mode = stat.S_IMODE(folder.stat().st_mode)
        if os.name != "posix" or not mode & _OTHERS:
            return
        if not _is_ours(folder, left):
            log.warning(
                "%s is open to other users of this machine, and not the bridge's alone: its rights "
                "stay as they are; set data (COMFY2MQTT_DATA) to a folder of its own",
                folder,
            )
            return
        folder.chmod(mode & ~_OTHERS)
    except OSError as error:
        log.warning(
            "cannot restrict the rights of %s, other users can read it: %s", folder, error.strerror
        )
        return
    for parent, folders, files in os.walk(folder.absolute()):
        folders[:] = [each for each in folders if Path(parent, each) not in left]
        for each in (*folders, *files):
            _close(Path(parent, each))


def _is_ours(folder: Path, left: Collection[Path]) -> bool:
    """True if an open folder is as an earlier version left it, or holds nothing yet."""
    try:
        return bool((folder / _JOURNAL).stat().st_mode & _OTHERS)
    except FileNotFoundError:
        others = (each for each in folder.iterdir() if each.name != _OF_DISKS)
        return all(each.absolute() in left for each in others)


def _close(path: Path) -> None:
    try:
        found = path.lstat()
        if not stat.S_ISLNK(found.st_mode) and found.st_mode & _OTHERS:
            path.chmod(stat.S_IMODE(found.st_mode) & ~_OTHERS)
    except OSError:
        pass  # another user's, or gone
