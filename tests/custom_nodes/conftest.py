"""One real ComfyUI for all tests of the nodes."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.custom_nodes.comfyui import ComfyUI, Place, Server
from tests.support.checkpoint import CHECKPOINT_NAME, make_checkpoint

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


@pytest.fixture(scope="session")
def place() -> Place:
    """The ComfyUI named in the environment, else the managed install."""
    path = os.environ.get("COMFY2MQTT_TEST_COMFYUI_PATH")
    python = os.environ.get("COMFY2MQTT_TEST_COMFYUI_PYTHON")
    if path and python:
        return Place(Path(path), Path(python))
    from bridge.comfyui import install  # noqa: PLC0415 - only where nothing else is named

    managed = asyncio.run(install.ensure(print))
    return Place(Path(managed.path), Path(managed.python))


@pytest.fixture(scope="session")
def server(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("comfyui")
    make_checkpoint(place.path, place.python, home / "checkpoints" / CHECKPOINT_NAME)
    with Server(place, home) as server:
        yield server


@pytest.fixture
async def comfyui(server: Server) -> AsyncIterator[ComfyUI]:
    async with ComfyUI(server) as client:
        yield client
