"""The folder of workflows on the disk: which files lie there, and their bytes."""

from __future__ import annotations

import logging
import os
import stat
import time
from pathlib import Path
from typing import Any

from msgspec import Struct

from bridge.contract.errors import internal
from bridge.text import sendable
from bridge.workflows import source
from bridge.workflows.graph import WorkflowError
from bridge.workflows.sidecar import SidecarError
from bridge.workflows.source import SUFFIXES, WorkflowSource, name_of

log = logging.getLogger(__name__)

SIDECAR = ".toml"
MAX_FILE = 16 * 1024 * 1024
MAX_PICTURE = 64 * 1024 * 1024
# A file changed so shortly before it is looked at may change once more and show the same time.
_RACY_S = 2.0


class BrokenFile(Struct, frozen=True):
    """A file that cannot be used, and why; `node` or `line` where the fault is at one.

    `workflow` is the name of the workflow that is broken by it, if it is one's.
    """

    file: str
    workflow: str | None
    reason: str
    node: str | None = None
    line: int | None = None

    @property
    def message(self) -> str:
        """A sentence for people."""
        at = f", line {self.line}" if self.line is not None else ""
        at = f", node {self.node}" if self.node is not None else at
        return sendable(f"{self.file}{at}: {self.reason}")

    @property
    def details(self) -> dict[str, Any]:
        """The details that are known, for a message on the wire."""
        file, reason = sendable(self.file), sendable(self.reason)
        found = {"file": file, "reason": reason, "node": self.node, "line": self.line}
        return {key: value for key, value in found.items() if value is not None}


class _Stamp(Struct, frozen=True):
    """A file's identity, size and times: the same as long as it has not changed."""

    inode: int
    size: int
    modified_ns: int
    changed_ns: int


class _Read(Struct, frozen=True):
    """The outcome of reading a file."""

    stamps: tuple[_Stamp | None, ...]
    found: WorkflowSource | BrokenFile


class WorkflowFolder:
    """Reads a folder, again only what has changed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read: dict[str, _Read] = {}
        self._found: list[WorkflowSource | BrokenFile] = []
        # Why the folder could not be listed the last time: it is looked at again and again.
        self._fault: str | None = None

    def place(self) -> tuple[int, int] | None:
        """Return what tells the folder from another one under its name; None where there is none.

        Watching ends unnoticed with the folder that was there when it began.
        """
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def read(self) -> list[WorkflowSource | BrokenFile]:
        """Return every workflow file of the folder, in the order of their names, as it is now.

        A folder that cannot be listed just now is as it was: a process may have no file left.
        """
        now = time.time_ns()
        try:
            paths = sorted(filter(is_workflow, self.path.iterdir()))
        except (FileNotFoundError, NotADirectoryError):
            paths = []
        except OSError as error:
            if error.strerror != self._fault:
                self._fault = error.strerror
                log.warning("cannot read the folder %s: %s", self.path, self._fault)
            return list(self._found)
        self._fault = None
        before, self._read = self._read, {}
        sidecars = {path.stem: path for path in paths if path.suffix.lower() == SIDECAR}
        found: list[WorkflowSource | BrokenFile] = []
        for path in paths:
            if path.suffix.lower() == SIDECAR:
                continue
            beside = sidecars.pop(path.stem, None)
            stamps = (_stamp(path), None if beside is None else _stamp(beside))
            known = before.get(path.name)
            if known is None or known.stamps != stamps or None in stamps[:1]:
                try:
                    known = _Read(stamps, _load(path, beside))
                except OSError as error:
                    problem = f"cannot be read: {error.strerror}"
                    # Without a stamp: it is read again also if it does not change.
                    known = _Read((None,), BrokenFile(path.name, name_of(path.name), problem))
            found.append(known.found)
            if all(stamp is None or _is_settled(stamp, now) for stamp in stamps):
                self._read[path.name] = known
        found += [
            BrokenFile(path.name, None, "there is no workflow file of its name beside it")
            for path in sidecars.values()
        ]
        self._found = found
        return list(found)


def is_workflow(path: Path) -> bool:
    """True if a file is one that the library looks at; hidden ones are editors' and copiers'."""
    return path.suffix.lower() in (*SUFFIXES, SIDECAR) and not path.name.startswith(".")


def _load(path: Path, beside: Path | None) -> WorkflowSource | BrokenFile:
    """Return what is in a file. Raises OSError."""
    try:
        data = _bytes(path)
        return source.read(path.name, data, None if beside is None else _bytes(beside))
    except SidecarError as error:
        name = path.name if beside is None else beside.name
        return broken(name, name_of(path.name), error)
    except WorkflowError as error:
        return broken(path.name, name_of(path.name), error)
    except OSError:
        raise
    except Exception as defect:  # noqa: BLE001 - it costs this file, not the bridge
        return defective(path.name, name_of(path.name), defect)


def defective(file: str, workflow: str, defect: Exception) -> BrokenFile:
    """Return the report on a file at which the bridge itself fails, and log where it does."""
    log.error("workflow file %s: a defect of the bridge", file, exc_info=defect)
    return BrokenFile(file, workflow, internal(defect).message)


def broken(file: str, workflow: str, error: WorkflowError) -> BrokenFile:
    """Return the report on a file with that error."""
    return BrokenFile(file, workflow, error.reason, error.node, error.line)


def _bytes(path: Path) -> bytes:
    """Return a file's bytes. Raises WorkflowError for what is no file, too large, or changing.

    A link is followed, as folders of Kubernetes are full of them, but to a file alone: opening a
    pipe would wait for its writer, and a device has no end.
    """
    limit = MAX_FILE if path.suffix.lower() in (".json", SIDECAR) else MAX_PICTURE
    with os.fdopen(os.open(path, _READ), "rb") as file:
        before = os.fstat(file.fileno())
        if not stat.S_ISREG(before.st_mode):
            raise WorkflowError("no regular file")
        if before.st_size > limit:
            raise WorkflowError(f"larger than {limit} bytes")
        data = file.read(limit + 1)
        if len(data) > limit or _stamp_of(before) != _stamp_of(os.fstat(file.fileno())):
            raise WorkflowError("it changed while it was read: it is read again when it is whole")
    return data


# Of a pipe, without waiting for a writer.
_READ = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def _stamp(path: Path) -> _Stamp | None:
    try:
        return _stamp_of(path.stat())
    except OSError:
        return None


def _stamp_of(found: os.stat_result) -> _Stamp:
    return _Stamp(found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _is_settled(stamp: _Stamp, now_ns: int) -> bool:
    return max(stamp.modified_ns, stamp.changed_ns) < now_ns - _RACY_S * 1e9
