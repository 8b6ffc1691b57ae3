"""A workflow's files as they were read: what is in them, and the workflow built from it.

Three kinds of file: a graph in API format, one in the format of ComfyUI's page, and a picture that
ComfyUI saved, which carries both. Pure: bytes in, and what ComfyUI says of its nodes.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Collection
from hashlib import sha256
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from bridge.contract.reading import DEEPEST, UNREADABLE, is_deeper, strict_json
from bridge.text import as_utf8, json_problem, sendable
from bridge.workflows import embedded, graph, sidecar
from bridge.workflows.binding import FOLDER, PREFIX
from bridge.workflows.conversion import convert, convert_undrawn, is_ui_format
from bridge.workflows.definition import NoOutput, build, version_of
from bridge.workflows.graph import Graph, NodeInput, WorkflowError
from bridge.workflows.objectinfo import ObjectInfo, ObjectInfoError
from bridge.workflows.replacements import Replacements, replaced
from bridge.workflows.sidecar import Sidecar, SidecarError
from bridge.workflows.workflow import Workflow

T = TypeVar("T")

SUFFIXES = (".json", ".png", ".webp")

_MAX_NAME = 64
_HASH = 8
_JOB_FOLDER = re.compile(rf"{FOLDER}/[0-9a-f-]{{36}}/")
_NOT_IN_NAME = re.compile(r"[^A-Za-z0-9_-]")


class NeedsObjectInfo(Exception):
    """The workflow cannot be built before the node classes of a ComfyUI are known."""


class WorkflowSource(Struct, frozen=True):
    """A workflow's file and sidecar; `document` is in either of ComfyUI's formats."""

    file: str
    version: str
    document: Any
    sidecar: Sidecar | None = None

    def build(self, name: str, info: ObjectInfo | None) -> Workflow:
        """Build the workflow.

        Raises WorkflowError, and NeedsObjectInfo where without `info` it cannot be known.
        """
        parsed, dynamic = graph_of(self.document, info)
        try:
            return build(
                name,
                self.version,
                parsed,
                info,
                self.sidecar,
                title=title_of(self.file),
                drawing=drawing_of(self.document),
                dynamic=dynamic,
            )
        except (NoOutput, SidecarError):
            # Which inputs and outputs there are, and of which kind, is not known for sure yet.
            if info is None:
                raise NeedsObjectInfo from None
            raise


def read(file: str, data: bytes, beside: bytes | None = None) -> WorkflowSource:
    """Read a workflow's file, and the sidecar beside it.

    Raises WorkflowError, of the subclass SidecarError where the sidecar is at fault.
    """
    document = document_of(data)
    found = None if beside is None else sidecar.read(beside)
    return WorkflowSource(file, version_of(data, beside), document, found)


def document_of(data: bytes) -> Any:
    """Return the graph that a file holds, in either of ComfyUI's formats. Raises WorkflowError."""
    if embedded.is_picture(data):
        return _from_picture(data)
    data = as_utf8(data)
    if not data.strip():
        raise WorkflowError("the file is empty")
    try:
        return msgspec.json.decode(data)
    except RecursionError:
        raise WorkflowError("not valid JSON: nested too deeply") from None
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise WorkflowError("not valid JSON: not UTF-8", line=line) from None
    except msgspec.DecodeError as error:
        try:
            return msgspec.json.decode(strict_json(data))
        except (ValueError, *UNREADABLE):
            raise _bad_json(data, error) from None


def drawing_of(document: Any) -> Any:
    """Return the document where it is what ComfyUI's page saves, else None."""
    return document if is_ui_format(document) else None


def graph_of(document: Any, info: ObjectInfo | None) -> tuple[Graph, Collection[NodeInput]]:
    """Return the graph, converted if it has to be, and the places of its dynamic prompts.

    Classes that ComfyUI has replaced are the new ones; nodes of others that it does not have are
    part of it. What an API file has is sent as it is: ComfyUI's page has drawn its prompts before
    it exported them.
    Raises WorkflowError if that fails, NeedsObjectInfo if it cannot be tried yet.
    """
    _check_depth(document)
    if not is_ui_format(document):
        parsed = graph.parse(document)
        known = Replacements() if info is None else info.replacements
        return replaced(parsed, known, info or ()), ()
    found = _converted(document, info, convert_undrawn, keep_unknown=True)
    return graph.parse(found.prompt).with_unknown(found.unknown), found.dynamic


def prompt_of(document: Any, info: ObjectInfo | None) -> Any:
    """Return the graph in API format, converted if it has to be, prompts drawn.

    Raises WorkflowError if that fails, NeedsObjectInfo if it cannot be tried yet.
    """
    _check_depth(document)
    if not is_ui_format(document):
        return document
    return _converted(document, info, convert)


def _check_depth(document: Any) -> None:
    if is_deeper(document, DEEPEST):
        raise WorkflowError(f"nested more than {DEEPEST} deep")


def _converted(
    document: Any, info: ObjectInfo | None, function: Callable[..., T], **options: bool
) -> T:
    if info is None:
        raise NeedsObjectInfo
    try:
        return function(document, info, **options)
    except ObjectInfoError as error:
        raise WorkflowError(f"ComfyUI's declaration cannot be read: {error}") from None


def name_of(file: str) -> str:
    """Return the workflow's name for a file's, fit for a topic: `[A-Za-z0-9_-]{1,64}`.

    Letters that cannot stand in a topic make a hash of the file's name, so that two names differ
    as the files' do. Both ways of writing a letter with an accent are one.
    """
    stem = unicodedata.normalize("NFC", stem_of(file))
    if stem.isascii():
        return ascii_name_of(file)
    mark = sha256(stem.encode(errors="surrogatepass")).hexdigest()[:_HASH]
    plain = _NOT_IN_NAME.sub("_", stem).strip("_")[: _MAX_NAME - _HASH - 1] or "workflow"
    return f"{plain}-{mark}"


def ascii_name_of(file: str) -> str:
    """Return a file's name with `_` for what cannot stand in a topic: also another's name."""
    return _NOT_IN_NAME.sub("_", stem_of(file))[:_MAX_NAME] or "_"


def title_of(file: str) -> str:
    """Return the title for a file's name: as it is written, or with spaces between the words."""
    stem = unicodedata.normalize("NFC", stem_of(file))
    if stem == name_of(file):
        return stem.replace("_", " ").replace("-", " ")
    return sendable(stem)


def stem_of(file: str) -> str:
    """Return the stem that a workflow's file and its sidecar share."""
    return file.rpartition(".")[0] or file


def _from_picture(data: bytes) -> Any:
    """Return the prompt that ran, rather than its drawing: it needs no conversion."""
    found = embedded.texts(data)
    for key in ("prompt", "workflow"):
        if key in found:
            try:
                # ComfyUI writes Python's JSON, with NaN where a node is never the same.
                document = msgspec.json.decode(strict_json(found[key]))
            except (ValueError, *UNREADABLE):
                continue
            if isinstance(document, dict) and document:
                return _without_folders(document)
    raise WorkflowError("the picture carries no workflow: ComfyUI's saving nodes put one in")


def _without_folders(document: dict[str, Any]) -> dict[str, Any]:
    """Return a graph that ran for a job of ours without the folder that it saved into."""
    for node in document.values():
        inputs = node.get("inputs") if isinstance(node, dict) else None
        prefix = inputs.get(PREFIX) if isinstance(inputs, dict) else None
        if isinstance(inputs, dict) and isinstance(prefix, str):
            inputs[PREFIX] = _JOB_FOLDER.sub("", prefix)
    return document


def _bad_json(data: bytes, error: msgspec.DecodeError) -> WorkflowError:
    """Return the error with its line; msgspec names the byte, or that the end is missing."""
    problem, _, where = json_problem(error).partition(" (byte ")
    number = where.rstrip(")")
    end = int(number) if number.isdecimal() else len(data)
    return WorkflowError(f"not valid JSON: {problem}", line=data.count(b"\n", 0, end) + 1)
