"""`comfy2mqtt convert`: a workflow file as ComfyUI's server takes it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import click

from bridge.cli.shared import FAILED, stop
from bridge.comfyui.client import ComfyClient
from bridge.comfyui.errors import ComfyUIError
from bridge.config import Config, check_comfyuis
from bridge.media.sniff import sniff
from bridge.workflows import graph, source
from bridge.workflows.embedded import is_picture
from bridge.workflows.graph import WorkflowError
from bridge.workflows.library import OBJECT_INFO
from bridge.workflows.objectinfo import ObjectInfo, ObjectInfoError
from bridge.workflows.source import NeedsObjectInfo

_MEDIA = ("image/", "audio/", "video/")


async def convert_file(settings: Config, file: Path, saved: Path | None) -> int:
    """Print a file's graph in API format.

    What the nodes are is read from `saved`, else from what the bridge last kept, else asked.
    """
    check_comfyuis(settings)
    try:
        data = await asyncio.to_thread(file.read_bytes)
        _check_kind(file, data)
        document = source.document_of(data)
        try:
            prompt = source.prompt_of(document, None)
        except NeedsObjectInfo:
            prompt = source.prompt_of(document, await _object_info(settings, saved))
        graph.parse(prompt)
    except OSError as error:
        stop(f"{file}: {error.strerror}", FAILED)
    except WorkflowError as error:
        at = f", line {error.line}" if error.line is not None else ""
        stop(f"{file}{at}: {error}", FAILED)
    click.echo(json.dumps(prompt, indent=2, ensure_ascii=False))
    return 0


def _check_kind(file: Path, data: bytes) -> None:
    """End the command where a file is a picture, a sound or a film that cannot carry a graph."""
    kind = sniff(data).content_type
    if kind.startswith(_MEDIA) and not is_picture(data):
        stop(
            f"{file}: this is {kind}, not a workflow: ComfyUI saves one as JSON, in PNG or in WebP",
            FAILED,
        )


async def _object_info(settings: Config, saved: Path | None) -> ObjectInfo:
    name = settings.instance_name(settings.comfyuis[0])
    kept = settings.folder / OBJECT_INFO / f"{name}.json"
    if saved is None and not kept.is_file() and settings.comfyui_url is None:
        stop(
            "the node classes of ComfyUI are unknown here: give --object-info FILE (its answer to "
            "/object_info), or --comfyui-url",
            FAILED,
        )
    path = saved or (kept if kept.is_file() else None)
    try:
        return ObjectInfo.decode(await _fetched(settings, path))
    except OSError as error:
        stop(f"{path}: {error.strerror}", FAILED)
    except (ObjectInfoError, ComfyUIError) as error:
        stop(f"{path or settings.comfyui_url}: {error}", FAILED)


async def _fetched(settings: Config, path: Path | None) -> bytes:
    if path is not None:
        return await asyncio.to_thread(path.read_bytes)
    url = settings.comfyui_url or ""
    async with ComfyClient(url, secret=settings.comfyui_secret) as client:
        return await client.object_info()
