"""The line to one ComfyUI: kept open for ever, with every prompt of ours followed to its end.

In the good path a prompt costs one POST and the frames that ComfyUI sends anyway. When frames may
have been missed, its queue and history are asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from contextlib import suppress
from typing import Any

import msgspec

from bridge.aio import wait_set
from bridge.comfyui import frames
from bridge.comfyui.client import ComfyClient, Hello
from bridge.comfyui.connection import DEFAULT_MAX_FRAME, Connection, connected
from bridge.comfyui.errors import ComfyUIError, Unreachable
from bridge.comfyui.events import Event
from bridge.comfyui.execution import Execution, socket_nodes
from bridge.comfyui.following import Followers
from bridge.comfyui.reconciling import Reconciler
from bridge.retry import Backoff

# How long a submission waits for a connection that is just being made.
_CONNECTION_WAIT_S = 5.0
_RECONNECT_FIRST_S = 0.1
_RETRY_S = 1.0
_QUEUE_WAIT_S = 0.5


class About(msgspec.Struct, frozen=True):
    """Who answers at the other end; `hello` is None where our nodes are not installed."""

    version: str | None
    hello: Hello | None


class Known(msgspec.Struct, frozen=True):
    """Prompts in ComfyUI's queue, in its order; `foreign` are those that nobody here follows."""

    running: tuple[str, ...]
    pending: tuple[str, ...]
    foreign: tuple[str, ...]


class Link:
    """Use `run` as a task; the rest works while it runs.

    `on_up` is told each time a connection stands, `on_down` why there is none, `on_load` how many
    prompts are in ComfyUI's queue, `on_dead` that it runs none any more, though it answers.
    """

    def __init__(
        self,
        client: ComfyClient,
        *,
        on_up: Callable[[About], None],
        on_down: Callable[[ComfyUIError], None],
        on_load: Callable[[int], None],
        on_dead: Callable[[], None] = lambda: None,
        max_frame: int = DEFAULT_MAX_FRAME,
        reconnect_cap_s: float = 5.0,
        silence_s: float = 10.0,
    ) -> None:
        self.client = client
        self._on_up = on_up
        self._on_down = on_down
        self._on_load = on_load
        self._on_dead = on_dead
        self._max_frame = max_frame
        self._reconnect_cap_s = reconnect_cap_s
        self._silence_s = silence_s
        self._followers = Followers(silence_s=silence_s)
        self._reconciler = Reconciler(client, self._followers)
        self._connection: Connection | None = None
        # Set while it is known whether there is a connection; not so just after a cut.
        self._attempted = asyncio.Event()
        self._queue_moved = asyncio.Event()
        self._has_nodes = False

    # -- for callers ----------------------------------------------------------------------------

    async def execute(
        self,
        prompt_id: str,
        prompt: Mapping[str, Any],
        *,
        preview: bool,
        extra_data: Mapping[str, Any] | None,
    ) -> AsyncGenerator[Event, None]:
        """Submit a prompt and give its events, the last being a Terminal.

        Raises PromptRejected, and Unreachable where ComfyUI surely does not have it.
        """
        connection = await self._connected()
        execution = Execution(socket_nodes=socket_nodes(prompt), preview=preview)
        follower = self._followers.follow(prompt_id, execution, blind=False)
        try:
            try:
                await self.client.submit(prompt, prompt_id, connection.client_id, extra_data)
            except Unreachable as error:
                if not error.sent:
                    raise
                # It may have arrived: the queue will tell.
                self._followers.question(follower)
                self._followers.submitted(follower)
            else:
                self._followers.submitted(follower)
                for event in execution.enqueue():
                    yield event
            async for event in follower.events():
                yield event
        finally:
            self._followers.drop(follower)

    async def adopt(self, prompt_id: str) -> AsyncGenerator[Event, None]:
        """Give the events of a prompt that ComfyUI has already; ends as `execute` does."""
        execution = Execution()
        execution.cut()
        follower = self._followers.follow(prompt_id, execution, blind=True)
        self._followers.submitted(follower)
        self._followers.question(follower)
        try:
            async for event in follower.events():
                yield event
        finally:
            self._followers.drop(follower)

    async def cancel(self, prompt_id: str, *, within_s: float) -> bool:
        """Stop this prompt and no other; True once ComfyUI neither runs nor queues it."""
        follower = self._followers.get(prompt_id)
        if follower is not None:
            follower.withdrawn = True
        stopped = False
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                stopped = await self.client.withdraw(prompt_id, pause=self._queue_moves)
        if follower is not None:
            self._followers.question(follower)
        return stopped

    async def known(self) -> Known:
        """Return what is in ComfyUI's queue now."""
        queue = await self.client.queue()
        everybodys = (*queue.running, *queue.pending)
        foreign = tuple(one for one in everybodys if one not in self._followers)
        return Known(running=queue.running, pending=queue.pending, foreign=foreign)

    async def forget(self, prompt_ids: Collection[str]) -> None:
        """Have ComfyUI drop what it keeps of prompts of ours: outputs held, history entries."""
        if self._has_nodes:
            await self.client.confirm_outputs(*prompt_ids)
        await self.client.forget_history(prompt_ids)

    def silence(self, prompt_id: str) -> float | None:
        """Return for how many seconds nothing was heard of a prompt; None if it has no follower."""
        return self._followers.silence(prompt_id)

    def lose(self, reason: str) -> None:
        """End every prompt: its ComfyUI is gone."""
        self._followers.lose(reason)

    async def unused(self) -> None:
        """Wait until no prompt is followed."""
        await self._followers.none.wait()

    # -- the connection -------------------------------------------------------------------------

    async def run(self) -> None:
        """Stay connected and reconcile, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._stay_connected())
            tasks.create_task(self._reconcile_for_ever())

    async def _stay_connected(self) -> None:
        backoff = Backoff(_RECONNECT_FIRST_S, self._reconnect_cap_s)
        while True:
            had_one = await self._connect_once()
            await asyncio.sleep(backoff.next())
            if had_one:
                backoff.reset()

    async def _connect_once(self) -> bool:
        """Connect, and read until the connection is gone; tells whether there was one."""
        try:
            async with connected(self.client.base_url, max_frame=self._max_frame) as connection:
                about = await self._introduction()
                self._has_nodes = about.hello is not None
                self._connection = connection
                self._on_up(about)
                self._attempted.set()
                self._followers.question_all()
                async for frame in connection.frames():
                    self._take(frame)
                return True
        except ComfyUIError as error:
            if self._connection is not None:
                # A cut is not worth telling if the next attempt succeeds, which is tried at once.
                self._attempted.clear()
                return True
            self._attempted.set()
            self._on_down(error)
            return False
        finally:
            self._connection = None
            self._followers.cut()

    async def _introduction(self) -> About:
        stats = await self.client.system_stats()
        hello = await self.client.hello()
        system = stats.get("system")
        version = system.get("comfyui_version") if isinstance(system, dict) else None
        return About(version=version if isinstance(version, str) else None, hello=hello)

    async def _connected(self) -> Connection:
        await wait_set(self._attempted, _CONNECTION_WAIT_S)
        if self._connection is None:
            raise Unreachable("no connection", sent=False)
        return self._connection

    def _take(self, frame: frames.Frame) -> None:
        if isinstance(frame, frames.Status):
            remaining = frame.status.exec_info.queue_remaining
            self._queue_moved.set()
            self._on_load(remaining)
            self._followers.queue_changed(remaining)
        else:
            self._followers.take(frame)

    async def _queue_moves(self) -> None:
        """Wait until the queue changes, or half a second."""
        self._queue_moved.clear()
        await wait_set(self._queue_moved, _QUEUE_WAIT_S)

    async def _reconcile_for_ever(self) -> None:
        pause = self._silence_s
        while True:
            await wait_set(self._followers.doubt, pause)
            self._followers.doubt.clear()
            doubtful = self._followers.doubtful()
            pause = self._silence_s
            if doubtful and self._connection is not None:
                try:
                    await self._reconciler.settle(doubtful)
                    if self._followers.any_silent():
                        await self._look_at_the_worker()
                except ComfyUIError:
                    # Reconnecting asks again; so does this, where the socket stands all the same.
                    pause = min(_RETRY_S, self._silence_s)

    async def _look_at_the_worker(self) -> None:
        """Ask whether ComfyUI still runs what it takes; only our nodes can tell."""
        hello = await self.client.hello() if self._has_nodes else None
        if hello is not None and hello.worker is False:
            self._on_dead()
