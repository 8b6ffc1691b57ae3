"""Each bridge that the bench compares serves a job, though it lacks a part."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.bench.delivery import pixels
from tests.bench.graphs import to_bridge
from tests.bench.measurements.parts import KINDS, side
from tests.bench.stand import Stand
from tests.support.comfyui import Server

pytestmark = [pytest.mark.comfyui, pytest.mark.broker]


async def test_each_serves_a_job(comfyui: Server, tmp_path: Path) -> None:
    stand = Stand(tmp_path, comfyui, 1, print)

    async def serve_one(name: str) -> None:
        async with AsyncExitStack() as stack:
            _, run_for = await side(stand, stack, name, KINDS[name][1], to_bridge("2"))
            assert pixels((await run_for("me")).image), name

    await asyncio.gather(*map(serve_one, KINDS))
