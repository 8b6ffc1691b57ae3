"""A client's use of a bridge, whatever broker is between them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack

import pytest
from PIL import Image

from bridge.client import Client
from bridge.client.job import JobCancelled
from bridge.contract.retained import BridgeInfo
from bridge.mqtt import Address, Connection, MqttError, Subscription
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


async def keeps_clients_apart(url: Callable[[str], str]) -> None:
    """Check that bob neither reads nor sends what is alice's, by the rights of `access`.

    `url` returns the address of the broker with a user's name in it.
    """
    request, state = "comfy2mqtt/client/alice/request/run/demo", "comfy2mqtt/bridge/state"
    results = Subscription(filter="comfy2mqtt/client/alice/job/#")
    async with AsyncExitStack() as stack, asyncio.timeout(PATIENCE_S):

        async def connected(user: str) -> Connection:
            connection = Connection(Address.parse(url(user)), manual_ack=False)
            return await stack.enter_async_context(connection)

        bridge, alice, bob = [await connected(each) for each in ("comfy2mqtt", "alice", "bob")]
        await bridge.subscribe([Subscription(filter="comfy2mqtt/client/+/request/#")])
        await alice.subscribe([results])
        # A broker ends the connection, or refuses, or says nothing and does nothing.
        for attempt in (bob.subscribe([results]), bob.publish(request, b"bob")):
            try:
                await attempt
            except MqttError:
                bob = await connected("bob")
        await bob.subscribe([Subscription(filter=state)])
        await bridge.publish("comfy2mqtt/client/alice/job/j/result", b"1")
        await bridge.publish(state, b"online")
        await alice.publish(request, b"alice")
        assert (await anext(alice.messages)).payload == b"1"
        assert (await anext(bridge.messages)).payload == b"alice"
        assert (await anext(bob.messages)).topic == state
