"""What a client does with a bridge, whatever broker is between them."""

from __future__ import annotations

import asyncio

import pytest
from PIL import Image

from bridge.client import Client
from bridge.client.job import JobCancelled
from bridge.contract.retained import BridgeInfo
from tests.support.patience import PATIENCE_S


async def used_by_a_client(url: str) -> BridgeInfo:
    """Use a bridge with the workflows `colour` and `echo`, and no ComfyUI; return its info."""
    async with Client(url, "alice") as client, asyncio.timeout(PATIENCE_S):
        info = await client.info()
        assert info is not None
        assert await client.state() == "online"
        # They come as the broker pleases: a slow machine may need another look.
        while set(await client.workflows()) != {"colour", "echo"}:
            pass
        upload = await client.upload(Image.effect_noise((700, 700), 90))
        waiting = await client.submit("colour", colour=1, job_id="waits")
        other = await client.submit("echo", picture=upload)
        assert (await client.status("waits")).state == "queued"
        await waiting.cancel()
        with pytest.raises(JobCancelled):
            await waiting.result()
        await other.cancel()
        assert {each.state for each in (await client.jobs()).jobs} == {"cancelled"}
        return info
