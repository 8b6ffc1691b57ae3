"""The library: the folder of workflows, read at the start and whenever something in it changes.

A broken file is told of and harms no other. A workflow's name is its file's, with every character
that cannot stand in a topic replaced by `_`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import msgspec
from msgspec import Struct
from watchfiles import Change, awatch

from bridge.contract.errors import UnknownWorkflow
from bridge.workflows import definition, graph
from bridge.workflows.definition import Workflow, version_of
from bridge.workflows.graph import WorkflowError
from bridge.workflows.objectinfo import ObjectInfo, ObjectInfoError

log = logging.getLogger(__name__)

SUFFIX = ".json"
MAX_FILE = 16 * 1024 * 1024
_MAX_NAME = 64
_NOT_IN_NAME = re.compile(r"[^A-Za-z0-9_-]")
# How long a burst of changes to the folder may last before it is looked at, in milliseconds.
_DEBOUNCE_MS = 300


class Broken(Struct, frozen=True):
    """A file that is no workflow, and why; `node` where the fault is at one."""

    file: str
    reason: str
    node: str | None = None


class Changes(Struct, frozen=True):
    """What became different: workflows to describe anew, names that are gone, broken files."""

    drawn: list[Workflow]
    gone: list[str]
    broken: list[Broken]


class _Source(Struct, frozen=True):
    """A file's content, as read."""

    file: str
    version: str
    document: object


class Library:
    """All workflows by name."""

    def __init__(self, folder: Path, cache: Path) -> None:
        """`cache` is the file in which `/object_info` is kept for times without a ComfyUI."""
        self._folder = folder
        self._cache = cache
        self._info: ObjectInfo | None = None
        self._info_bytes = b""
        self._sources: dict[str, _Source] = {}
        self._broken: dict[str, Broken] = {}
        self._workflows: dict[str, Workflow] = {}

    @property
    def workflows(self) -> Mapping[str, Workflow]:
        """The workflows that can be used now."""
        return self._workflows

    @property
    def broken(self) -> list[Broken]:
        """The files that cannot be used, and why."""
        return list(self._broken.values())

    @property
    def object_info(self) -> ObjectInfo | None:
        """What ComfyUI said of its nodes, the last time that it was asked."""
        return self._info

    def get(self, name: str, version: str | None = None) -> Workflow:
        """Return a workflow. Raises UnknownWorkflow."""
        found = self._workflows.get(name)
        if found is None:
            broken = next((each for each in self.broken if name_of(each.file) == name), None)
            why = f"its file is broken: {broken.reason}" if broken else "there is no such workflow"
            raise UnknownWorkflow(
                f"{name!r}: {why}", workflow=name, allowed=sorted(self._workflows)
            )
        if version is not None and version != found.version:
            raise UnknownWorkflow(
                f"{name!r} is at version {found.version}, not {version}",
                workflow=name,
                version=found.version,
            )
        return found

    async def open(self) -> Changes:
        """Read the folder, and the last `/object_info`."""
        await asyncio.to_thread(self._read_cache)
        return await self.reload()

    async def reload(self) -> Changes:
        """Read the folder anew, and tell what became different."""
        files = await asyncio.to_thread(self._read_folder)
        broken_before = dict(self._broken)
        self._broken = {}
        self._sources = {}
        for path, data in files:
            self._take(path, data)
        return self._redraw(broken_before)

    async def learn(self, info: bytes) -> Changes | None:
        """Take what ComfyUI says of its nodes; None if it is what was known.

        Raises ObjectInfoError for what is none.
        """
        if info == self._info_bytes:
            return None
        self._info = ObjectInfo.decode(info)
        self._info_bytes = info
        await asyncio.to_thread(self._write_cache, info)
        return self._redraw(dict(self._broken))

    async def changes(self) -> AsyncIterator[Changes]:
        """Watch the folder, and give what becomes different, until cancelled."""
        async for _ in awatch(
            self._folder, debounce=_DEBOUNCE_MS, recursive=False, watch_filter=_is_workflow
        ):
            yield await self.reload()

    def _read_folder(self) -> list[tuple[Path, bytes | str]]:
        """Return each file's bytes, or in a string why it cannot be read."""
        found: list[tuple[Path, bytes | str]] = []
        for path in sorted(self._folder.glob(f"*{SUFFIX}")):
            try:
                if path.stat().st_size > MAX_FILE:
                    found.append((path, f"larger than {MAX_FILE} bytes"))
                else:
                    found.append((path, path.read_bytes()))
            except OSError as error:
                found.append((path, f"cannot be read: {error.strerror}"))
        return found

    def _take(self, path: Path, data: bytes | str) -> None:
        name = name_of(path.name)
        reason = self._refusal(name, data)
        if isinstance(data, str) or reason is not None:
            self._broken[path.name] = Broken(path.name, reason or "")
            return
        try:
            self._sources[name] = _Source(path.name, version_of(data), _decode(data))
        except WorkflowError as error:
            self._broken[path.name] = Broken(path.name, error.reason, error.node)

    def _refusal(self, name: str, data: bytes | str) -> str | None:
        if isinstance(data, str):
            return data
        if name in self._sources:
            return f"its name {name!r} is taken by {self._sources[name].file}"
        return None

    def _redraw(self, broken_before: Mapping[str, Broken]) -> Changes:
        before, self._workflows = self._workflows, {}
        for name, source in self._sources.items():
            try:
                self._workflows[name] = self._draw(name, source)
                self._broken.pop(source.file, None)
            except WorkflowError as error:
                self._broken[source.file] = Broken(source.file, error.reason, error.node)
        drawn = [found for name, found in self._workflows.items() if found != before.get(name)]
        gone = [name for name in before if name not in self._workflows]
        broken = [each for file, each in self._broken.items() if each != broken_before.get(file)]
        return Changes(drawn, gone, broken)

    def _draw(self, name: str, source: _Source) -> Workflow:
        return definition.draw(name, source.version, graph.parse(source.document), self._info)

    def _read_cache(self) -> None:
        try:
            data = self._cache.read_bytes()
            self._info = ObjectInfo.decode(data)
            self._info_bytes = data
        except FileNotFoundError:
            pass
        except (OSError, ObjectInfoError) as error:
            log.warning("%s is of no use: %s", self._cache, error)

    def _write_cache(self, data: bytes) -> None:
        # Whole or not at all: a crash must not leave half of it.
        part = self._cache.with_name(f"{self._cache.name}.part-{os.getpid()}")
        try:
            self._cache.parent.mkdir(parents=True, exist_ok=True)
            part.write_bytes(data)
            part.replace(self._cache)
        except OSError as error:
            log.warning("cannot keep %s: %s", self._cache, error)


def name_of(file: str) -> str:
    """Return the workflow's name for a file's."""
    return _NOT_IN_NAME.sub("_", Path(file).stem)[:_MAX_NAME] or "_"


def _is_workflow(_: Change, path: str) -> bool:
    return path.endswith(SUFFIX)


def _decode(data: bytes) -> object:
    try:
        return msgspec.json.decode(data)
    except RecursionError:
        raise WorkflowError("not valid JSON: nested too deeply") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise WorkflowError(f"not valid JSON: {error}") from None
