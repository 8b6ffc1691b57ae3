"""Restricts a bridge's files to its own user: prompts, pictures, passwords. All of it blocks."""

from __future__ import annotations

import logging
import os
import stat
import sys
from collections.abc import Collection
from fnmatch import fnmatchcase
from pathlib import Path

log = logging.getLogger(__name__)

_OTHERS = 0o077
_FOLDER = 0o700
# In a disk that was made for the folder.
_OF_DISKS = "lost+found"
# A folder may hold thousands of files of others: so many are named.
_NAMED = 3


def from_now_on() -> None:
    """Set the umask: this process and its children make files and folders for their user alone."""
    os.umask(_OTHERS)


def claim(folder: Path, made: Collection[str], leave: Collection[Path] = ()) -> None:
    """Restrict a folder to its owner, and create it if it does not exist.

    `made` are patterns of the names of what the bridge makes there. A folder that is open to others
    and holds nothing else is new, or as an earlier version left it: it is closed, with all that is
    in it but for `leave`, links, and what is another user's. Any other folder, such as /tmp or
    somebody's home, stays as it is, with all that is in it; the log says so.
    """
    left = {path.absolute() for path in leave}
    us = _our_id()
    try:
        folder.mkdir(mode=_FOLDER, parents=True, exist_ok=True)
        found = folder.stat()
        if us is None or not found.st_mode & _OTHERS:
            return
        reason = _why_shared(folder, found, us, made, left)
        if reason is not None:
            log.warning(
                "%s is open to other users of this machine, and %s: its rights stay as they are; "
                "set data (COMFY2MQTT_DATA) to a folder of its own",
                folder,
                reason,
            )
            return
        folder.chmod(stat.S_IMODE(found.st_mode) & ~_OTHERS)
    except OSError as error:
        log.warning(
            "cannot restrict the rights of %s, other users can read it: %s", folder, error.strerror
        )
        return
    for parent, folders, files in os.walk(folder.absolute()):
        folders[:] = [each for each in folders if Path(parent, each) not in left]
        for each in (*folders, *files):
            _close(Path(parent, each), us)


def _our_id() -> int | None:
    """Return this process' user; None where files have no rights of POSIX."""
    if sys.platform == "win32":
        return None
    return os.geteuid()


def _why_shared(
    folder: Path,
    found: os.stat_result,
    us: int,
    made: Collection[str],
    left: Collection[Path],
) -> str | None:
    """Return why an open folder may be in use by others; None if it is the bridge's alone."""
    if found.st_uid != us:
        return "another user's"
    if found.st_mode & stat.S_ISVTX:
        return "made for all of them, as /tmp is"
    others = [
        each.name
        for each in folder.iterdir()
        if each.name != _OF_DISKS
        and each.absolute() not in left
        and not any(fnmatchcase(each.name, pattern) for pattern in made)
    ]
    if not others:
        return None
    more = ", ..." if len(others) > _NAMED else ""
    return f"not the bridge's alone (there is {', '.join(sorted(others)[:_NAMED])}{more})"


def _close(path: Path, us: int) -> None:
    try:
        found = path.lstat()
        ours = found.st_uid == us and not stat.S_ISLNK(found.st_mode)
        if ours and found.st_mode & _OTHERS:
            path.chmod(stat.S_IMODE(found.st_mode) & ~_OTHERS)
    except OSError:
        pass  # it is gone
