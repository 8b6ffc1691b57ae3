"""A supervised ComfyUI as the bridge uses it: a stand-in for one, and the real one."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from pathlib import Path

import msgspec
import pytest

from bridge.comfyui import events
from bridge.comfyui.errors import ComfyUIUnreachable
from bridge.comfyui.health_policy import HealthPolicy
from bridge.comfyui.instance import Instance
from bridge.comfyui.settings import SuperviseConfig
from bridge.comfyui.state import InstanceState, StateName
from tests.comfyui.stand_ins import greeter, stand_in
from tests.support.comfyui import image, new_id, our_output, slow_image, wait_for_end
from tests.support.patience import PATIENCE_S


@asynccontextmanager
async def running_instance(
    config: SuperviseConfig, folder: Path, health: HealthPolicy | None = None
) -> AsyncIterator[Instance]:
    instance = Instance("main", config, folder=folder / "data", health=health)
    running = asyncio.create_task(instance.run())
    try:
        async with asyncio.timeout(PATIENCE_S):
            yield instance
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert instance.state.state == "stopped"


async def become(instance: Instance, state: StateName) -> InstanceState:
    while instance.state.state != state:
        await instance.changed()
    return instance.state


async def test_one_that_answers_but_never_connects_is_frozen_and_killed(tmp_path: Path) -> None:
    config = stand_in(tmp_path, greeter())
    health = HealthPolicy(silence_s=0.05)
    async with running_instance(config, tmp_path, health) as instance:
        state = await become(instance, "restarting")
        assert (state.reason, state.restarts) == ("frozen", 1)


async def test_an_instance_is_stopped_and_started_by_the_operator(tmp_path: Path) -> None:
    async with running_instance(stand_in(tmp_path, greeter()), tmp_path) as instance:
        await become(instance, "unreachable")  # a stand-in has no socket
        instance.stop()
        assert instance.state.closed
        await become(instance, "stopped")
        with pytest.raises(ComfyUIUnreachable):
            await instance.known()
        instance.start()
        await become(instance, "unreachable")
        instance.restart()
        await become(instance, "starting")


async def test_one_that_does_not_greet_any_more_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_instance(stand_in(tmp_path, greeter()), tmp_path) as instance:
        await become(instance, "unreachable")
        monkeypatch.setattr("bridge.comfyui.instance._HELLO_S", 0.0)
        assert await instance.end("ours", within_s=1) == "useless"
        assert (await become(instance, "restarting")).reason == "frozen"


@pytest.mark.comfyui
@pytest.mark.timeout(360)  # three starts, each of half a minute where the machine is busy
async def test_a_comfyui_killed_at_work_or_frozen_while_idle_is_started_again(
    tmp_path: Path, comfyui_config: SuperviseConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One process after the other: each start takes seconds. What is long idle is unloaded."""
    for name in ("_PING_INTERVAL_S", "_PING_TIMEOUT_S", "_OPEN_TIMEOUT_S"):
        monkeypatch.setattr(f"bridge.comfyui.connection.{name}", 1.0)
    # It dies twice, having run prompts to their end before each: no crash loop.
    config = msgspec.structs.replace(comfyui_config, crash_limit=2)
    instance = Instance(
        "main", config, folder=tmp_path, health=HealthPolicy(silence_s=2, idle_unload_s=0.5)
    )
    running = asyncio.create_task(instance.run())
    states = [instance.state.state]

    async def watch(seen: InstanceState) -> None:
        while True:
            seen = await instance.changed(seen)
            states.append(seen.state)

    watching = asyncio.create_task(watch(instance.state))
    try:
        with unloading() as unloaded:
            await instance.ready()
            assert not await reused(instance)
            unloaded.clear()
            assert await reused(instance)
            await unloaded.wait()
            assert not await reused(instance)

        epoch = instance.state.epoch
        killed = await process_of(instance)
        async with aclosing(instance.execute(new_id(), our_output(slow_image(60.0)))) as told:
            async for event in told:
                if isinstance(event, events.Step):
                    os.kill(killed, signal.SIGKILL)
                    break
            rest = [event async for event in told]
        assert isinstance(rest[-1], events.PromptLost)
        assert (instance.state.restarts, instance.state.reason) == (1, "killed")
        await instance.ready()
        assert instance.state.epoch != epoch
        assert not await reused(instance)

        frozen = await process_of(instance)
        os.kill(frozen, signal.SIGSTOP)
        state = instance.state
        while state.state != "restarting":
            state = await instance.changed(state)
        assert (state.restarts, state.reason) == (2, "frozen")
        assert wait_for_end(frozen)
        await instance.ready()
        successor = await process_of(instance)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        watching.cancel()
    assert wait_for_end(successor)
    assert [state for state in states if state not in ("ready", "busy")] == [
        "stopped",
        "starting",
        "restarting",
        "starting",
        "unreachable",
        "restarting",
        "starting",
        "stopped",
    ]


@contextmanager
def unloading() -> Iterator[asyncio.Event]:
    """Sees when an idle ComfyUI is asked to unload its models."""
    logger = logging.getLogger("bridge.comfyui.instance")
    unloaded = asyncio.Event()

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "unloaded" in record.getMessage():
                unloaded.set()

    handler = Handler()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield unloaded
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)


async def process_of(instance: Instance) -> int:
    hello = await instance.client.hello()
    assert hello is not None
    assert hello.worker is True
    return hello.pid


async def reused(instance: Instance) -> bool:
    """True if ComfyUI has a picture from before."""
    graph = our_output(image(seed=1))
    told = [event async for event in instance.execute(new_id(), graph)]
    assert isinstance(told[-1], events.Succeeded)
    return any(isinstance(event, events.Cached) for event in told)
