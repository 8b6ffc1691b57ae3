"""One ComfyUI as the rest of the bridge uses it, supervised or attached.

`run` keeps it going and connected; `execute` and `adopt` follow prompts to exactly one end each,
across cut sockets; `state` tells how it is. What is not ours is never interrupted, deleted or
freed here: only of a supervised one are models unloaded, and the process ended.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, TypeAlias

from bridge.aio import first
from bridge.comfyui import watch
from bridge.comfyui.client import ComfyClient
from bridge.comfyui.connection import DEFAULT_MAX_FRAME
from bridge.comfyui.errors import ComfyUIError, StartFailed, StartFailure, Unreachable
from bridge.comfyui.events import Event
from bridge.comfyui.link import About, Known, Link
from bridge.comfyui.restarts import Restart
from bridge.comfyui.settings import AttachConfig, Care, SuperviseConfig
from bridge.comfyui.state import InstanceState, StateBoard, StateName
from bridge.comfyui.supervisor import Running, Supervisor

log = logging.getLogger(__name__)
# Apart from our own words: what ComfyUI printed before it ended.
last_lines = logging.getLogger(f"{__name__}.last_lines")

# What came of ending a prompt: it ended; it does not; ComfyUI itself is of no use any more.
End: TypeAlias = Literal["stopped", "hung", "useless"]

# Our own child comes back soon or is started again; somebody's server may be away for days.
_SUPERVISED_RECONNECT_CAP_S = 1.0
_ATTACHED_RECONNECT_CAP_S = 5.0
# After this long without a word of a prompt, ComfyUI is asked.
_ASK_AFTER_S = 10.0
# Whoever does not say hello within this does not answer.
_HELLO_S = 5.0
_LAST_LINES = 20


class Instance:
    """`folder` holds what a supervised ComfyUI writes; `max_frame` bounds one message, in bytes.

    Use `run` as a task; the rest works while it runs.
    """

    def __init__(
        self,
        name: str,
        config: AttachConfig | SuperviseConfig,
        *,
        folder: Path,
        care: Care | None = None,
        max_frame: int = DEFAULT_MAX_FRAME,
    ) -> None:
        self.name = name
        self.supervised = isinstance(config, SuperviseConfig)
        self._config = config
        self._care = care or Care()
        self._folder = folder
        self._max_frame = max_frame
        self._board = StateBoard()
        self._link: Link | None = None
        self._running: Running | None = None
        self._supervisor: Supervisor | None = None
        self._useless: asyncio.Future[None] | None = None
        self._yielding = asyncio.Event()
        self._vacated = False
        self._remaining = 0

    # -- state ----------------------------------------------------------------------------------

    @property
    def state(self) -> InstanceState:
        """How it is now."""
        return self._board.present

    async def changed(self, seen: InstanceState | None = None) -> InstanceState:
        """Wait until the state is not `seen` (by default the present one), and return it."""
        return await self._board.changed(self.state if seen is None else seen)

    async def ready(self) -> None:
        """Wait until prompts can be submitted."""
        while not self.state.usable:
            await self.changed(self.state)

    @property
    def client(self) -> ComfyClient:
        """Its HTTP client; another one after each restart. Raises Unreachable if there is none."""
        return self._linked().client

    @property
    def output_folder(self) -> Path | None:
        """Where a supervised ComfyUI saves; None for an attached one, whose disk is not ours."""
        return self._folder / "output" if isinstance(self._config, SuperviseConfig) else None

    # -- prompts --------------------------------------------------------------------------------

    def execute(
        self,
        prompt_id: str,
        prompt: Mapping[str, Any],
        *,
        preview: bool = False,
        extra_data: Mapping[str, Any] | None = None,
    ) -> AsyncGenerator[Event, None]:
        """Submit a prompt and give its events; the last one is a Terminal.

        `prompt_id` is a canonical lower-case UUID of the caller's, new for each attempt. Raises
        PromptRejected, AlreadyFollowed, and Unreachable where ComfyUI surely does not have it;
        after the first event nothing is raised. To stop early, close the iterator: the prompt goes
        on (`cancel` stops it).
        """
        if self.state.closed:
            raise Unreachable("it takes no prompts at the moment", sent=False)
        extra = _with_previews(extra_data, wanted=preview)
        return self._linked().execute(prompt_id, prompt, preview=preview, extra_data=extra)

    def adopt(self, prompt_id: str) -> AsyncGenerator[Event, None]:
        """Give the events of a prompt that ComfyUI has: waiting, running or ended.

        Ends as `execute` does, with Lost if it is unknown. There are no steps and previews: those
        went to whoever submitted it. Outputs held by our nodes come all the same.
        """
        return self._linked().adopt(prompt_id)

    async def cancel(self, prompt_id: str, *, within_s: float = 30.0) -> bool:
        """Take this prompt out of the queue, or stop it, and no other.

        True once ComfyUI neither runs nor queues it; False if it still runs after `within_s`: a
        node looks for an interrupt only between steps. Its follower gets the terminal event.
        """
        return await self._linked().cancel(prompt_id, within_s=within_s)

    async def end(self, prompt_id: str, *, within_s: float) -> End:
        """Have a prompt that does not get on ended, by the end of its ComfyUI if need be.

        Unless it is `stopped`, a supervised ComfyUI is killed, which its followers are told by
        Lost; an attached one whose prompt is `hung` gets no more until it is through with that.
        """
        try:
            async with asyncio.timeout(_HELLO_S):
                hello = await self.client.hello()
        except (ComfyUIError, TimeoutError):
            if self.supervised:
                self._condemn("frozen", "ComfyUI does not answer any more")
            return "useless"
        if hello is not None and hello.worker is False:
            self._dead()
            return "useless"
        with suppress(ComfyUIError):
            if await self.cancel(prompt_id, within_s=within_s):
                return "stopped"
        self._condemn("hung", "a prompt does not get on, and heeds no interrupt")
        return "hung"

    async def known(self) -> Known:
        """Return the prompts in its queue, also those of others."""
        return await self._linked().known()

    async def forget(self, prompt_ids: Collection[str]) -> None:
        """Have it drop what it keeps of prompts of ours: held outputs and history entries."""
        await self._linked().forget(prompt_ids)

    def silence(self, prompt_id: str) -> float | None:
        """Return for how many seconds nothing was heard of a prompt that is followed, else None."""
        return None if self._link is None else self._link.silence(prompt_id)

    # -- what the operator may have it do ---------------------------------------------------------

    def start(self) -> None:
        """Have a supervised one run, at once where it waits for another try."""
        if self._supervisor is not None:
            self._supervisor.start()

    def stop(self) -> None:
        """Have a supervised one stopped, until it is told to start."""
        if self._supervisor is not None:
            self._board.set(closed=True)
            self._supervisor.stop()

    def restart(self) -> None:
        """Have a supervised one stopped and started."""
        if self._supervisor is not None:
            self._board.set(closed=True)
            self._supervisor.restart()

    async def free(self) -> None:
        """Have a supervised one unload its models and drop its caches; others are left alone."""
        if self.supervised:
            await self.client.free(unload_models=True, free_memory=True)
            self._board.set(unloads=self.state.unloads + 1)

    def yield_(self) -> None:
        """Take no more prompts, and free memory once those that are there have ended."""
        self._board.set(closed=True)
        self._yielding.set()

    def resume(self) -> None:
        """Take prompts again, after `yield_`."""
        if self._yielding.is_set():
            self._yielding.clear()
            self._vacated = False
            self._board.set(closed=False)
            if self.state.state == "yielded":
                self._board.set(self._present())

    # -- life -----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Supervise or attach, until cancelled."""
        try:
            match self._config:
                case AttachConfig(url=url, secret=secret):
                    self._board.set("starting")
                    await self._attend(url, secret, reconnect_cap_s=_ATTACHED_RECONNECT_CAP_S)
                case SuperviseConfig():
                    self._supervisor = Supervisor(
                        self._config,
                        self._folder,
                        on_start=lambda: self._board.set("starting"),
                        on_failure=self._failed,
                        on_stop=self._stopped,
                    )
                    await self._supervisor.run(self._attend_child)
        finally:
            self._supervisor = None
            self._board.set("stopped")

    async def _attend_child(self, running: Running) -> None:
        """Attend to one of ours. Raises StartFailed when it is of no use any more."""
        self._running = running
        self._useless = asyncio.get_running_loop().create_future()
        watching = (
            self._attend(
                running.base_url, running.secret, reconnect_cap_s=_SUPERVISED_RECONNECT_CAP_S
            ),
            watch.for_a_freeze(self._board, self._care.answer_s),
            watch.for_idleness(self._board, self._care.idle_unload_s, self._unload),
            self._useless,
        )
        await first(*watching)

    async def _attend(self, url: str, secret: str | None, *, reconnect_cap_s: float) -> None:
        async with ComfyClient(url, secret=secret) as client:
            self._link = link = Link(
                client,
                on_up=self._connected,
                on_down=self._unreachable,
                on_load=self._loaded,
                on_dead=self._dead,
                max_frame=self._max_frame,
                reconnect_cap_s=reconnect_cap_s,
                silence_s=min(_ASK_AFTER_S, self._care.silence_s),
            )
            await first(link.run(), self._vacate(link))

    def _connected(self, about: About) -> None:
        epoch = self._epoch(about)
        if epoch is None or epoch != self.state.epoch:
            # What kept it closed was of the process before.
            self._board.set(closed=self._yielding.is_set())
        self._board.set(self._present(), version=about.version, epoch=epoch)

    def _epoch(self, about: About) -> str | None:
        """Name the process at the other end, as well as it can be known."""
        if self._running is not None:
            return self._running.epoch
        if about.hello is not None:
            return about.hello.process or str(about.hello.pid)
        return None

    def _unreachable(self, error: ComfyUIError) -> None:
        self._board.set("unreachable", last_error=str(error), reason=error.code)

    def _loaded(self, remaining: int) -> None:
        self._remaining = remaining
        if remaining == 0 and not self.supervised and not self._yielding.is_set():
            self._board.set(closed=False)  # what did not get on is through
        self._board.set(self._present())

    def _present(self) -> StateName:
        """The state of one that is connected."""
        if self._vacated:
            return "yielded"
        return "busy" if self._remaining else "ready"

    async def _vacate(self, link: Link) -> None:
        """See to it that one that is to yield is free, once its prompts have ended."""
        while True:
            await self._yielding.wait()
            await link.unused()
            while self.state.state not in ("ready", "busy", "yielded"):
                await self.changed()
            if self._yielding.is_set() and not self._vacated:
                with suppress(ComfyUIError):
                    await self.free()
                self._vacated = True
                self._board.set("yielded")
            while self._yielding.is_set():
                await self.changed()

    async def _unload(self) -> None:
        try:
            await self.free()
        except ComfyUIError as error:
            log.warning("ComfyUI %s could not be told to unload its models: %s", self.name, error)
        else:
            idle_s = self._care.idle_unload_s
            log.info("ComfyUI %s was idle for %g s: its models are unloaded", self.name, idle_s)

    # -- faults ---------------------------------------------------------------------------------

    def _dead(self) -> None:
        text = "ComfyUI answers, but the thread that runs prompts has ended"
        self._condemn("worker_dead", text)
        if not self.supervised and self._link is not None:
            self._link.lose(text)

    def _condemn(self, failure: StartFailure, text: str) -> None:
        """Give up a ComfyUI that is there and of no use: end its process, if it is ours to end."""
        if self.supervised:
            if self._useless is not None and not self._useless.done():
                self._useless.set_exception(StartFailed(failure, text))
        elif not self.state.closed:
            log.warning("ComfyUI %s: %s; it gets no more jobs until that is over", self.name, text)
            self._board.set(closed=True, last_error=text, reason=failure)

    def _failed(self, failure: StartFailed, restart: Restart) -> None:
        what = "given up" if restart.crash_loop else "started again"
        log.warning(
            "ComfyUI %s: %s; %s, next try in %.0f s", self.name, failure, what, restart.delay_s
        )
        for line in failure.log[-_LAST_LINES:]:
            last_lines.warning("ComfyUI %s | %s", self.name, line)
        self._gone(
            "crash_loop" if restart.crash_loop else "restarting",
            str(failure),
            last_error=str(failure),
            reason=failure.failure,
            restarts=self.state.restarts + 1,
        )

    def _stopped(self) -> None:
        self._gone("stopped", "ComfyUI was stopped by the operator")

    def _gone(self, state: StateName, why: str, **changes: Any) -> None:
        link, self._link, self._running = self._link, None, None
        self._vacated = False
        self._remaining = 0
        self._board.set(state, **changes)
        if link is not None:
            link.lose(why)

    def _linked(self) -> Link:
        if self._link is None:
            raise Unreachable(self.state.last_error or "it is not running", sent=False)
        return self._link


def _with_previews(extra_data: Mapping[str, Any] | None, *, wanted: bool) -> Mapping[str, Any]:
    """Ask newer servers for previews, or for none: they draw them by prompt."""
    return {"preview_method": "auto" if wanted else "none", **(extra_data or {})}
