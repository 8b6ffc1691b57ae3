"""One ComfyUI as the rest of the bridge uses it, supervised or attached.

`run` keeps it going and connected; `execute` and `adopt` follow prompts to exactly one end each,
across cut sockets; `state` tells how it is. What is not ours is never interrupted, deleted or
freed here.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Mapping
from pathlib import Path
from typing import Any

from bridge.comfyui.client import ComfyClient
from bridge.comfyui.connection import DEFAULT_MAX_FRAME
from bridge.comfyui.errors import ComfyUIError, StartFailed, Unreachable
from bridge.comfyui.events import Event
from bridge.comfyui.link import About, Known, Link
from bridge.comfyui.restarts import Restart
from bridge.comfyui.settings import AttachConfig, SuperviseConfig
from bridge.comfyui.state import InstanceState, StateBoard
from bridge.comfyui.supervisor import Running, Supervisor

# Our own child comes back soon or is started again; somebody's server may be away for days.
_SUPERVISED_RECONNECT_CAP_S = 1.0
_ATTACHED_RECONNECT_CAP_S = 5.0


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
        max_frame: int = DEFAULT_MAX_FRAME,
    ) -> None:
        self.name = name
        self._config = config
        self._folder = folder
        self._max_frame = max_frame
        self._board = StateBoard()
        self._link: Link | None = None
        self._running: Running | None = None

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

    async def known(self) -> Known:
        """Return the prompts in its queue, also those of others."""
        return await self._linked().known()

    async def forget(self, prompt_ids: Collection[str]) -> None:
        """Have it drop what it keeps of prompts of ours: held outputs and history entries."""
        await self._linked().forget(prompt_ids)

    def silence(self, prompt_id: str) -> float | None:
        """Return for how many seconds nothing was heard of a prompt that is followed, else None."""
        return None if self._link is None else self._link.silence(prompt_id)

    # -- life -----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Supervise or attach, until cancelled."""
        try:
            match self._config:
                case AttachConfig(url=url, secret=secret):
                    self._board.set("starting")
                    await self._attend(url, secret, reconnect_cap_s=_ATTACHED_RECONNECT_CAP_S)
                case SuperviseConfig():
                    supervisor = Supervisor(
                        self._config,
                        self._folder,
                        on_start=lambda: self._board.set("starting"),
                        on_failure=self._failed,
                    )
                    await supervisor.run(self._attend_child)
        finally:
            self._board.set("stopped")

    async def _attend_child(self, running: Running) -> None:
        self._running = running
        await self._attend(
            running.base_url, running.secret, reconnect_cap_s=_SUPERVISED_RECONNECT_CAP_S
        )

    async def _attend(self, url: str, secret: str | None, *, reconnect_cap_s: float) -> None:
        async with ComfyClient(url, secret=secret) as client:
            self._link = Link(
                client,
                on_up=self._connected,
                on_down=self._unreachable,
                on_load=self._loaded,
                max_frame=self._max_frame,
                reconnect_cap_s=reconnect_cap_s,
            )
            await self._link.run()

    def _connected(self, about: About) -> None:
        self._board.set("ready", version=about.version, epoch=self._epoch(about))

    def _epoch(self, about: About) -> str | None:
        """Name the process at the other end, as well as it can be known."""
        if self._running is not None:
            return self._running.epoch
        if about.hello is not None:
            return about.hello.process or str(about.hello.pid)
        return None

    def _unreachable(self, error: ComfyUIError) -> None:
        self._board.set("unreachable", last_error=str(error))

    def _loaded(self, remaining: int) -> None:
        self._board.set("busy" if remaining else "ready")

    def _failed(self, failure: StartFailed, restart: Restart) -> None:
        link, self._link, self._running = self._link, None, None
        self._board.set(
            "crash_loop" if restart.crash_loop else "restarting",
            last_error=str(failure),
            restarts=self.state.restarts + 1,
        )
        if link is not None:
            link.lose(str(failure))

    def _linked(self) -> Link:
        if self._link is None:
            raise Unreachable(self.state.last_error or "it is not running", sent=False)
        return self._link


def _with_previews(extra_data: Mapping[str, Any] | None, *, wanted: bool) -> Mapping[str, Any]:
    """Ask newer servers for previews, or for none: they draw them by prompt."""
    return {"preview_method": "auto" if wanted else "none", **(extra_data or {})}
