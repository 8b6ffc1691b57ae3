"""The library: the folder of workflows, read at the start and whenever something in it changes.

A broken file is reported and harms no other; what it was before it broke stays in use. A workflow's
name is its file's, with every character that cannot stand in a topic replaced by `_`. Its last few
versions are kept, so that a request can pin the one that it was written for.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import Struct
from watchfiles import watch

from bridge.atomicfile import write_file
from bridge.contract.errors import ComfyUIUnavailable, InvalidInput, UnknownWorkflow
from bridge.contract.reading import UNREADABLE
from bridge.text import did_you_mean, sendable
from bridge.workflows import definition, models
from bridge.workflows.catalogue import Needs, NodeCatalogue, NodeRules
from bridge.workflows.folder import BrokenFile, WorkflowFolder, broken, defective, is_workflow
from bridge.workflows.graph import WorkflowError
from bridge.workflows.objectinfo import ObjectInfo, ObjectInfoError
from bridge.workflows.sidecar import SidecarError
from bridge.workflows.source import (
    NeedsObjectInfo,
    WorkflowSource,
    ascii_name_of,
    drawing_of,
    graph_of,
    name_of,
    stem_of,
)
from bridge.workflows.workflow import Workflow

__all__ = ["BrokenFile", "Changes", "Library", "name_of"]

log = logging.getLogger(__name__)

T = TypeVar("T")

VERSIONS_KEPT = 5
# How long a burst of changes to the folder may last before it is looked at, in milliseconds.
_DEBOUNCE_MS = 300
# How often the folder is read though no change of it was reported, in seconds.
_AGAIN_S = 10.0


# The cache: a folder in that of the bridge.
OBJECT_INFO = "object_info"
# The ends of the names of files in the cache, beside a ComfyUI's classes: those that others have
# replaced, and those that count as no output.
_REPLACEMENTS = ".replacements.json"
_NO_OUTPUTS = ".no_outputs.json"
# The name of workflows that requests bring themselves.
INLINE = "inline"


class Changes(Struct, frozen=True):
    """The difference between two states of the library.

    Workflows to describe again, names that are gone, broken files, and files that wait until a
    ComfyUI has reported its nodes.
    """

    updated: list[Workflow]
    gone: list[str]
    broken: list[BrokenFile]
    waiting: list[str]


NO_CHANGES = Changes([], [], [], [])


class _State(Struct, frozen=True):
    """The library's state at one time; an update replaces it whole."""

    catalogue: NodeCatalogue
    sources: Mapping[str, WorkflowSource] = {}
    workflows: Mapping[str, Workflow] = {}
    broken: Mapping[str, BrokenFile] = {}
    waiting: Mapping[str, str] = {}


class Library:
    """All workflows by name."""

    def __init__(
        self,
        folder: Path,
        cache: Path,
        comfyuis: Sequence[str],
        nodes: NodeRules | None = None,
        *,
        keyed: Collection[str] = (),
    ) -> None:
        """`comfyuis` are the names of the connected ones, `keyed` of those with a key of Comfy.org.

        `cache` is the folder in which their `/object_info` is kept for times without them. What
        `nodes` does not allow is described, and cannot be run.
        """
        self._nodes = nodes or NodeRules()
        self._folder = WorkflowFolder(folder)
        self._cache = cache
        self._comfyuis = comfyuis
        # By ComfyUI: its classes, and those that others have replaced.
        self._reported: dict[str, tuple[bytes, bytes, tuple[str, ...]]] = {}
        # The ComfyUIs of other bridges: their reports, and which have a key.
        self._others: tuple[Mapping[str, ObjectInfo], frozenset[str]] = ({}, frozenset())
        self._state = _State(NodeCatalogue(keyed=keyed))
        # Versions by name, oldest first.
        self._versions: dict[str, dict[str, WorkflowSource]] = {}
        # Reading and drawing happen in a thread, one after the other.
        self._changing = asyncio.Lock()

    @property
    def workflows(self) -> Mapping[str, Workflow]:
        """The workflows that can be used now."""
        return self._state.workflows

    @property
    def broken(self) -> list[BrokenFile]:
        """The files that cannot be used, and why."""
        return list(self._state.broken.values())

    @property
    def waiting(self) -> list[str]:
        """The files that cannot be built before the node classes of a ComfyUI are known."""
        return list(self._state.waiting.values())

    @property
    def catalogue(self) -> NodeCatalogue:
        """The node classes that the ComfyUIs last reported."""
        return self._state.catalogue

    def can_run(self, comfyui: str, needs: Needs) -> bool:
        """True if the ComfyUI of that name has what is needed, as it last reported."""
        return self.catalogue.can_run(comfyui, needs)

    def choices(self) -> dict[str, tuple[Any, ...]]:
        """Return the lists of choices that definitions only name."""
        found: dict[str, tuple[Any, ...]] = {}
        for workflow in self._state.workflows.values():
            found.update(workflow.choices())
        return found

    def get(self, name: str, version: str | None = None) -> Workflow:
        """Return a workflow, of an older version if that is asked for.

        Raises UnknownWorkflow, and ComfyUIUnavailable for one that waits for a ComfyUI.
        """
        name = self._known_name(name)
        found = self._state.workflows.get(name)
        if found is not None and version in (None, found.version):
            return found
        if found is None or version is None:
            raise self._unknown(name)
        older = self._versions[name].get(version)
        try:
            if older is not None:
                return _checked(
                    older.build(name, self.catalogue.merged), self.catalogue, self._nodes
                )
        except (WorkflowError, NeedsObjectInfo) as error:
            raise UnknownWorkflow(
                f"version {version} of {name!r} can be used no longer: {error}", workflow=name
            ) from None
        raise UnknownWorkflow(
            f"{name!r} is at version {found.version}, and {version} is not kept",
            workflow=name,
            version=found.version,
            allowed=list(self._versions[name]),
        )

    def _known_name(self, name: str) -> str:
        """Return the name of a workflow, also by the name that its file would have without a hash.

        That was its name in earlier versions; it is accepted where only one file has it.
        """
        sources = self._state.sources
        if name in sources:
            return name
        known = [each for each, source in sources.items() if ascii_name_of(source.file) == name]
        return known[0] if len(known) == 1 else name

    def inline(self, document: Mapping[str, Any]) -> Workflow:
        """Draw a workflow that a request brings, in either format. Raises InvalidInput."""
        try:
            parsed, dynamic = graph_of(document, self.catalogue.merged)
            version = definition.version_of(msgspec.json.encode(document, order="deterministic"))
            built = definition.build(
                INLINE,
                version,
                parsed,
                self.catalogue.merged,
                drawing=drawing_of(document),
                dynamic=dynamic,
            )
        except NeedsObjectInfo:
            raise ComfyUIUnavailable(
                "a workflow in the page's format is converted once a ComfyUI has reported its nodes"
            ) from None
        except WorkflowError as error:
            raise InvalidInput(
                f"the workflow: {error}", field="prompt", node=error.node, reason=error.reason
            ) from None
        return _checked(built, self.catalogue, self._nodes)

    async def open(self) -> Changes:
        """Read the folder, and the last `/object_info`."""
        return await self._change(await asyncio.to_thread(self._read_cache))

    async def reload(self) -> Changes:
        """Read the folder again, and return what became different."""
        return await self._change({})

    async def update(
        self,
        comfyui: str,
        info: bytes,
        replacements: bytes = b"",
        no_outputs: tuple[str, ...] = (),
    ) -> Changes | None:
        """Update the nodes of one ComfyUI; returns None if nothing has changed.

        `replacements` is what it says at `/node_replacements`; `no_outputs` are classes that count
        as no output there, whatever `info` says. Raises ObjectInfoError for an `info` that is none.
        """
        if (info, replacements, no_outputs) == self._reported.get(comfyui):
            return None
        found = await asyncio.to_thread(ObjectInfo.decode, info, replacements, no_outputs)
        await asyncio.to_thread(self._write_cache, comfyui, info, replacements, no_outputs)
        changes = await self._change({comfyui: found})
        # Last: what was cut short before is not known yet.
        self._reported[comfyui] = info, replacements, no_outputs
        return changes

    def reports(self) -> dict[str, tuple[bytes, bytes, tuple[str, ...]]]:
        """Return what our ComfyUIs reported last: as `update` takes it, by name."""
        return dict(self._reported)

    async def set_others(self, infos: Mapping[str, ObjectInfo], keyed: Collection[str]) -> Changes:
        """Know the ComfyUIs of other bridges from now on, and no others than these.

        `keyed` are those that have a key of Comfy.org. Each report is an object of its own only if
        it differs from the others.
        """
        before, _ = self._others
        gone = [name for name in before if name not in infos]
        self._others = infos, frozenset(keyed)
        return await self._change({}, gone)

    async def changes(self) -> AsyncIterator[Changes]:
        """Watch the folder, and give what becomes different, until cancelled.

        Every `_AGAIN_S` it is read even if the system reports no change: it reports none in a
        folder that has taken the place of the watched one, behind links, and on network drives,
        and cannot watch at all where other programs watch all that it can.
        """
        stopped = threading.Event()
        # In a thread of asyncio's: that of `awatch` would load anyio's backend, 1.4 MB, for this.
        bursts = _bursts(self._folder, stopped)
        try:
            while await asyncio.to_thread(next, bursts, None):
                yield await self.reload()
        finally:
            stopped.set()

    async def _change(
        self, reported: Mapping[str, ObjectInfo], gone: Collection[str] = ()
    ) -> Changes:
        async with self._changing:
            before = self._state
            self._state = await asyncio.to_thread(self._next, before, reported, gone)
            self._remember(self._state)
            return _difference(before, self._state)

    def _next(
        self, before: _State, reported: Mapping[str, ObjectInfo], gone: Collection[str]
    ) -> _State:
        catalogue = before.catalogue.with_infos(reported) if reported else before.catalogue
        others, keyed = self._others
        if gone or not catalogue.knows(others):
            catalogue = catalogue.with_others(others, gone, keyed)
        sources: dict[str, WorkflowSource] = {}
        faults: dict[str, BrokenFile] = {}
        for found in self._folder.read():
            if isinstance(found, BrokenFile):
                faults[found.file] = found
                continue
            name = name_of(found.file)
            taken = sources.get(name)
            if taken is not None:
                reason = f"its name {name!r} is taken by {taken.file}"
                faults[found.file] = BrokenFile(found.file, None, reason)
            else:
                sources[name] = found
        built = _Build(before, catalogue, faults, self._nodes)
        for name, source in sources.items():
            built.add(name, source)
        built.keep_what_broke()
        return _State(catalogue, sources, built.workflows, faults, built.waiting)

    def _remember(self, state: _State) -> None:
        for name in [name for name in self._versions if name not in state.workflows]:
            del self._versions[name]
        for name, source in state.sources.items():
            current = state.workflows.get(name)
            if current is not None and current.version == source.version:
                kept = self._versions.setdefault(name, {})
                kept.pop(source.version, None)
                kept[source.version] = source
                for version in list(kept)[:-VERSIONS_KEPT]:
                    del kept[version]

    def _unknown(self, name: str) -> UnknownWorkflow | ComfyUIUnavailable:
        if name in self._state.waiting:
            return ComfyUIUnavailable(
                f"{name!r} can be read when a ComfyUI has reported its nodes", workflow=name
            )
        fault = next((each for each in self.broken if each.workflow == name), None)
        allowed = sorted(self._state.workflows)
        missing = f"there is no such workflow{did_you_mean(name, allowed)}"
        why = f"its file is broken: {fault.reason}" if fault else missing
        return UnknownWorkflow(f"{name!r}: {why}", workflow=name, allowed=allowed)

    def _read_cache(self) -> dict[str, ObjectInfo]:
        found = {}
        for comfyui in self._comfyuis:
            file = self._cache / f"{comfyui}.json"
            try:
                data = file.read_bytes()
                replacements = _bytes_of(self._cache / f"{comfyui}{_REPLACEMENTS}")
                listed = _bytes_of(self._cache / f"{comfyui}{_NO_OUTPUTS}") or b"[]"
                no_outputs = msgspec.json.decode(listed, type=tuple[str, ...])
                found[comfyui] = ObjectInfo.decode(data, replacements, no_outputs)
                self._reported[comfyui] = data, replacements, no_outputs
            except FileNotFoundError:
                continue
            except (OSError, ObjectInfoError, *UNREADABLE) as error:
                log.warning("cannot read %s, it is ignored: %s", file, error)
        return found

    def _write_cache(
        self, comfyui: str, data: bytes, replacements: bytes, no_outputs: tuple[str, ...]
    ) -> None:
        # Whole or not at all: a crash must not leave half of it.
        try:
            write_file(self._cache / f"{comfyui}.json", data)
            write_file(self._cache / f"{comfyui}{_REPLACEMENTS}", replacements)
            write_file(self._cache / f"{comfyui}{_NO_OUTPUTS}", msgspec.json.encode(no_outputs))
        except OSError as error:
            log.warning("cannot store the nodes of ComfyUI %s: %s", comfyui, error)


def _bursts(folder: WorkflowFolder, stopped: threading.Event) -> Iterator[bool]:
    """Yield True whenever something in a folder may have changed, until `stopped`. Blocks."""
    faults: set[str] = set()
    while not stopped.is_set():
        place = folder.place()
        try:
            for _ in watch(
                folder.path,
                debounce=_DEBOUNCE_MS,
                recursive=False,
                rust_timeout=int(_AGAIN_S * 1000),
                yield_on_timeout=True,
                stop_event=stopped,
                watch_filter=lambda _, path: is_workflow(Path(path)),
            ):
                yield True
                if folder.place() != place:
                    break
        except (OSError, RuntimeError) as error:  # the latter is the library's own
            if str(error) not in faults:
                faults.add(str(error))
                why = folder.path, _AGAIN_S, error
                log.warning("cannot watch %s, it is read every %g s: %s", *why)
            stopped.wait(_AGAIN_S)
            yield True


def _bytes_of(file: Path) -> bytes:
    """Return the bytes of a file that there need not be."""
    return file.read_bytes() if file.is_file() else b""


class _Build:
    """Builds the workflows of one state, and takes over those that did not change."""

    def __init__(
        self,
        before: _State,
        catalogue: NodeCatalogue,
        faults: dict[str, BrokenFile],
        nodes: NodeRules,
    ) -> None:
        self.workflows: dict[str, Workflow] = {}
        self.waiting: dict[str, str] = {}
        self._before = before
        self._catalogue = catalogue
        self._faults = faults
        self._nodes = nodes

    def add(self, name: str, source: WorkflowSource) -> None:
        before = self._before
        was = before.sources.get(name)
        # It was read again if its time is that of just now or, by another clock, of the future.
        is_equal = was is not None and (was.file, was.version) == (source.file, source.version)
        same = is_equal and before.catalogue is self._catalogue
        known = before.workflows.get(name)
        if same and known is not None and known.version == source.version:
            self.workflows[name] = known
            return
        sidecar = f"{stem_of(source.file)}.toml"
        fault = before.broken.get(source.file) or before.broken.get(sidecar)
        if same and fault is not None:
            self._faults[fault.file] = fault
            return
        if same and name in before.waiting:
            self.waiting[name] = before.waiting[name]
            return
        try:
            built = source.build(name, self._catalogue.merged)
            self.workflows[name] = _checked(built, self._catalogue, self._nodes)
        except NeedsObjectInfo:
            self.waiting[name] = sendable(source.file)
        except SidecarError as error:
            self._faults[sidecar] = broken(sidecar, name, error)
        except WorkflowError as error:
            self._faults[source.file] = broken(source.file, name, error)
        except Exception as defect:  # noqa: BLE001 - it costs this workflow, not the bridge
            self._faults[source.file] = defective(source.file, name, defect)

    def keep_what_broke(self) -> None:
        """Keep the last good version of a file that is broken now."""
        for fault in self._faults.values():
            known = self._before.workflows.get(fault.workflow or "")
            if known is not None and known.name not in self.workflows:
                self.workflows[known.name] = known


def _checked(workflow: Workflow, catalogue: NodeCatalogue, nodes: NodeRules) -> Workflow:
    """Return a workflow with what it lacks, and what the operator does not allow of it.

    It is built with what all ComfyUIs have together; to run it, one must have all that it needs.
    """
    nodes_by_id = workflow.graph.nodes
    lacking = catalogue.lacking(nodes_by_id.values())
    return msgspec.structs.replace(
        workflow,
        missing=lacking and models.described(lacking, workflow.models, nodes_by_id),
        forbidden=nodes.forbidden(workflow.graph),
        partner=tuple(
            catalogue.partner_nodes(node.class_type for node in workflow.graph.nodes.values())
        ),
    )


def _difference(before: _State, now: _State) -> Changes:
    return Changes(
        updated=[
            found for name, found in now.workflows.items() if found != before.workflows.get(name)
        ],
        gone=[name for name in before.workflows if name not in now.workflows],
        broken=_new(before.broken, now.broken),
        waiting=_new(before.waiting, now.waiting),
    )


def _new(before: Mapping[str, T], now: Mapping[str, T]) -> list[T]:
    return [each for key, each in now.items() if each != before.get(key)]
