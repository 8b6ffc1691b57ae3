"""One ComfyUI as the rest of the bridge uses it, supervised or attached.

`run` keeps it going and connected; `execute` and `adopt` follow prompts to exactly one end each,
across cut sockets; `state` is its state. Prompts of others are never interrupted or deleted. Only a
supervised ComfyUI has its models unloaded and its process ended.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, TypeAlias

import msgspec

from bridge.aio import Observable, first
from bridge.comfyui import state as lifecycle
from bridge.comfyui.cleanup import Cleanup
from bridge.comfyui.client import ComfyClient, PageLink
from bridge.comfyui.errors import ComfyUIError, ComfyUIUnreachable, StartFailed, StartFailure
from bridge.comfyui.events import Event
from bridge.comfyui.health_policy import Health, HealthPolicy
from bridge.comfyui.session import (
    ComfySession,
    PromptSucceeded,
    QueueSnapshot,
    SessionEvent,
    WorkerDied,
)
from bridge.comfyui.settings import AttachConfig, SuperviseConfig
from bridge.comfyui.state import InstanceState, Lifecycle, LifecycleEvent, Yielder
from bridge.comfyui.supervisor import PlannedRestart, Running, Supervisor
from bridge.contract.retained import ComfyUIRelease
from bridge.retry import Backoff

log = logging.getLogger(__name__)
# Apart from our own words: what ComfyUI printed before it ended.
last_lines = logging.getLogger(f"{__name__}.last_lines")

# What came of ending a prompt: it ended; it does not; ComfyUI itself is of no use any more.
End: TypeAlias = Literal["stopped", "hung", "useless"]
Condition: TypeAlias = Callable[[InstanceState], bool]

# Our own child comes back soon or is started again; an attached server may be away for days.
_SUPERVISED_RECONNECT_CAP_S = 1.0
_ATTACHED_RECONNECT_CAP_S = 5.0
# After this long without a frame of a prompt, ComfyUI is asked.
_ASK_AFTER_S = 10.0
# A ComfyUI that does not say hello within this does not answer.
_HELLO_S = 5.0
# Pauses after a request to free memory that failed.
_FREE_RETRY_FIRST_S = 1.0
_FREE_RETRY_CAP_S = 30.0
_LAST_LINES = 20
# Bytes; below it a disk counts as full.
_LEAST_ROOM = 16 * 1024 * 1024
# Ends of a process that what it ran may have caused; a SIGKILL of somebody's is none.
_BY_ITSELF = frozenset({"exited", "crashed", "host_out_of_memory", "worker_dead", "frozen", "hung"})


class Instance:
    """`folder` holds what a supervised ComfyUI writes.

    Use `run` as a task; the rest works while it runs, on the same event loop's thread.
    """

    def __init__(
        self,
        name: str,
        config: AttachConfig | SuperviseConfig,
        *,
        folder: Path,
        health: HealthPolicy | None = None,
    ) -> None:
        self.name = name
        self.supervised = isinstance(config, SuperviseConfig)
        self.api_key = config.api_key
        self._config = config
        self._health = health or HealthPolicy()
        self._folder = folder
        self._lifecycle = Lifecycle(time.time())
        self._watched = Observable(self._lifecycle.state)
        self._session: ComfySession | None = None
        self._supervisor: Supervisor | None = None
        # Fails with why a supervised one that is there has to be killed.
        self._useless: asyncio.Future[None] | None = None
        self._cleanup = Cleanup(self.forget)

    # -- state ----------------------------------------------------------------------------------

    @property
    def state(self) -> InstanceState:
        """The state now."""
        return self._watched.present

    async def changed(self, seen: InstanceState | None = None) -> InstanceState:
        """Wait until the state is not `seen` (by default the present one), and return it.

        States in between are skipped. Cancelling it changes nothing.
        """
        known = self.state if seen is None else seen
        return await self._watched.until(lambda state: state != known)

    async def until(self, condition: Condition) -> InstanceState:
        """Wait until the state meets a condition, and return it; it must be quick, and not raise.

        Cancelling it changes nothing.
        """
        return await self._watched.until(condition)

    async def ready(self) -> None:
        """Wait until prompts can be submitted."""
        await self.until(lambda state: state.usable)

    @property
    def client(self) -> ComfyClient:
        """Its HTTP client, another after each restart. Raises ComfyUIUnreachable without one."""
        return self._open_session().client

    @property
    def output_folder(self) -> Path | None:
        """A supervised ComfyUI's output folder; None for an attached one: its disk is not ours."""
        return self._folder / "output" if isinstance(self._config, SuperviseConfig) else None

    @property
    def disk_is_full(self) -> bool:
        """True if a supervised one has no room for outputs; False if that is not known."""
        folder = self.output_folder
        with suppress(OSError):
            return folder is not None and shutil.disk_usage(folder).free < _LEAST_ROOM
        return False

    # -- prompts --------------------------------------------------------------------------------

    def execute(
        self,
        prompt_id: str,
        prompt: Mapping[str, Any],
        *,
        preview: bool = False,
        extra_data: Mapping[str, Any] | None = None,
    ) -> AsyncGenerator[Event, None]:
        """Submit a prompt and yield its events; the last one is a Terminal.

        `prompt_id` is a canonical lower-case UUID of the caller's, new for each attempt; `prompt`
        is the graph in ComfyUI's API format, nodes by their ids; `preview` asks for previews.
        Raises PromptRejected, AlreadyFollowed, and ComfyUIUnreachable if ComfyUI certainly does not
        have it; after the first event nothing is raised. Cancelling or closing it leaves the prompt
        at ComfyUI: `cancel` stops that. Close it explicitly, as with contextlib.aclosing.
        """
        if self.state.closed:
            raise ComfyUIUnreachable("it takes no prompts at the moment", sent=False)
        # Newer servers take from each prompt whether it wants previews.
        extra = {"preview_method": "auto" if preview else "none", **(extra_data or {})}
        return self._open_session().execute(prompt_id, prompt, preview=preview, extra_data=extra)

    def adopt(self, prompt_id: str) -> AsyncGenerator[Event, None]:
        """Yield the events of a prompt that ComfyUI has: waiting, running or ended.

        Ends as `execute` does, with Lost if it is unknown; cancelling and closing do the same.
        There are no steps and previews, since ComfyUI sends those to the socket that submitted it.
        Outputs that our nodes hold are delivered. Raises AlreadyFollowed, and ComfyUIUnreachable
        without a session.
        """
        return self._open_session().adopt(prompt_id)

    async def cancel(self, prompt_id: str, *, within_s: float = 30.0) -> bool:
        """Take this prompt out of the queue, or stop it, and no other.

        True once ComfyUI neither runs nor queues it; False if it still runs after `within_s`: a
        node looks for an interrupt only between steps. Whoever follows it gets the terminal event.
        Raises ComfyUIError if ComfyUI does not answer. Cancelling this leaves the prompt as it is.
        """
        return await self._open_session().cancel(prompt_id, within_s=within_s)

    async def end(self, prompt_id: str, *, within_s: float) -> End:
        """End a prompt that makes no progress; kill its ComfyUI if there is no other way.

        Unless it is `stopped`, a supervised ComfyUI is killed, and all its prompts end with Lost;
        an attached one whose prompt is `hung` gets no more until that prompt is over. Takes at most
        `within_s` and five seconds. Cancelling this leaves the prompt as it is.
        """
        try:
            async with asyncio.timeout(_HELLO_S):
                hello = await self.client.hello()
        except (ComfyUIError, TimeoutError):
            if self.supervised:
                self._abandon("frozen", "ComfyUI does not answer any more")
            return "useless"
        if hello is not None and hello.worker is False:
            self._worker_died()
            return "useless"
        with suppress(ComfyUIError):
            if await self.cancel(prompt_id, within_s=within_s):
                return "stopped"
        self._abandon("hung", "a prompt makes no progress, and no interrupt stops it")
        return "hung"

    async def known(self) -> QueueSnapshot:
        """Return the prompts in its queue, also those of others. Raises ComfyUIError."""
        return await self._open_session().known()

    async def forget(self, prompt_ids: Collection[str]) -> None:
        """Delete what it keeps of prompts of ours: held outputs and history entries.

        Raises ComfyUIError; it may be repeated.
        """
        await self._open_session().forget(prompt_ids)

    def clean_up(self, prompt_id: str, folder: str | None) -> None:
        """Delete the remains of a prompt whose outcome is on our disk: soon, several at a time.

        `folder` is what its nodes wrote into, relative to a supervised one's `output_folder`.
        """
        output = self.output_folder
        self._cleanup.add(prompt_id, None if output is None or folder is None else output / folder)

    async def finish_cleanup(self) -> None:
        """Delete now what `clean_up` was called for, if ComfyUI answers."""
        await self._cleanup.finish()

    def silence(self, prompt_id: str) -> float | None:
        """Return for how many seconds a prompt that is followed has sent nothing, else None."""
        return None if self._session is None else self._session.silence(prompt_id)

    # -- the operator's commands ----------------------------------------------------------------
    # An attached ComfyUI is not ours to start and stop: those do nothing for it.

    def start(self) -> None:
        """Run the supervised process; at once if it waits for its next try."""
        if self._supervisor is not None:
            self._supervisor.start()

    def stop(self) -> None:
        """Stop the supervised process until `start`."""
        if self._supervisor is not None:
            self._handle(lifecycle.Closing())
            self._supervisor.stop()

    def restart(self) -> None:
        """Stop the supervised process and start it."""
        if self._supervisor is not None:
            self._handle(lifecycle.Closing())
            self._supervisor.restart()

    def use(self, config: SuperviseConfig) -> None:
        """Run another install from the next start of the supervised process on."""
        if self.supervised:
            self._config = config
            if self._supervisor is not None:
                self._supervisor.use(config)

    def note_release(self, release: ComfyUIRelease) -> None:
        """Show what is known of newer releases."""
        self._handle(lifecycle.ReleaseNoted(release))

    async def free(self) -> None:
        """Unload a supervised one's models and drop its caches; an attached one is left alone.

        Raises ComfyUIError. It happens when the running prompt is over.
        """
        if self.supervised:
            await self.client.free(unload_models=True, free_memory=True)
            self._handle(lifecycle.Unloaded())

    async def page_link(self) -> PageLink:
        """Return the full address of a supervised one's page: for one browser, on this machine.

        Raises ComfyUIError. One that is not guarded needs no link.
        """
        link = PageLink("/") if self.state.unguarded else await self.client.page_link()
        return msgspec.structs.replace(link, path=f"{self.client.base_url}{link.path}")

    def yield_(self, by: Yielder = "operator") -> None:
        """Accept no more prompts, and free memory once the present ones have ended."""
        self._handle(lifecycle.Yielding(by))

    def resume(self, by: Yielder = "operator") -> None:
        """Accept prompts again after `yield_` by the same, unless the other one yielded it too."""
        self._handle(lifecycle.Resumed(by))

    # -- life -----------------------------------------------------------------------------------

    def _handle(self, event: LifecycleEvent) -> None:
        self._watched.set(self._lifecycle.handle(event, time.time()))

    async def run(self) -> None:
        """Supervise or attach, until cancelled."""
        try:
            await first(self._live(), self._cleanup.run())
        finally:
            self._supervisor = None
            self._handle(lifecycle.Stopped())

    async def _live(self) -> None:
        match self._config:
            case AttachConfig(url=url, secret=secret):
                self._handle(lifecycle.Starting())
                client = ComfyClient(url, secret=secret)
                await self._attend(client, epoch=None, reconnect_cap_s=_ATTACHED_RECONNECT_CAP_S)
            case SuperviseConfig():
                self._supervisor = Supervisor(
                    self._config,
                    self._folder,
                    on_start=lambda: self._handle(lifecycle.Starting()),
                    on_failure=self._failed,
                    on_stop=self._stopped,
                )
                await self._supervisor.run(self._attend_child)

    async def _attend_child(self, running: Running) -> None:
        """Use a supervised process that is ready. Raises StartFailed if it proves useless."""
        self._useless = asyncio.get_running_loop().create_future()
        if running.unguarded:
            log.warning(
                "ComfyUI %s answers without its secret: any program here may use it, and any page"
                " in a browser here; its log says why our nodes do not guard it",
                self.name,
            )
            self._handle(lifecycle.Unguarded())
        client = ComfyClient(running.base_url, secret=running.secret)
        cap_s = _SUPERVISED_RECONNECT_CAP_S
        await first(
            self._attend(client, epoch=running.epoch, reconnect_cap_s=cap_s),
            self._watch_health(),
            self._useless,
        )

    async def _attend(
        self, client: ComfyClient, *, epoch: str | None, reconnect_cap_s: float
    ) -> None:
        async with client:
            self._session = session = ComfySession(
                client,
                report=self._reported,
                epoch=epoch,
                reconnect_cap_s=reconnect_cap_s,
                silence_s=min(_ASK_AFTER_S, self._health.silence_s),
            )
            await first(session.run(), self._vacate(session))

    def _reported(self, event: SessionEvent) -> None:
        """Handle an event of the session; runs on the event loop's thread."""
        if isinstance(event, WorkerDied):
            self._worker_died()
        elif isinstance(event, PromptSucceeded):
            if self._supervisor is not None:
                self._supervisor.works()
        else:
            self._handle(event)

    async def _vacate(self, session: ComfySession) -> None:
        """Free memory whenever it is to yield and its prompts have ended."""
        while True:
            await self.until(lambda state: state.yielding and not self._lifecycle.vacated)
            await session.unused()
            await self.until(lambda state: state.state in ("ready", "busy"))
            if self.state.yielding:
                await self._free_for_sure()
                self._handle(lifecycle.Vacated())

    async def _free_for_sure(self) -> None:
        """Free memory; after a failure again, while it is to yield."""
        backoff = Backoff(_FREE_RETRY_FIRST_S, _FREE_RETRY_CAP_S)
        while self.state.yielding:
            try:
                await self.free()
            except ComfyUIError as error:
                log.warning("ComfyUI %s did not free its memory: %s", self.name, error)
                with suppress(TimeoutError):
                    async with asyncio.timeout(backoff.next()):
                        await self.until(lambda state: not state.yielding)
            else:
                return

    async def _watch_health(self) -> None:
        """Unload the models of an idle process. Raises StartFailed for a frozen one."""
        health = Health(self._health)
        while True:
            state = self.state
            now = time.monotonic()
            health.observe(state, now)
            match health.due(now):
                case "frozen":
                    limit_s = self._health.answer_s
                    text = (
                        f"ComfyUI has not answered for {limit_s:g} s, though its process is there"
                    )
                    raise StartFailed("frozen", text)
                case "idle":
                    succeeded = await self._unload()
                    health.unloaded(time.monotonic(), succeeded=succeeded)
                case None:
                    with suppress(TimeoutError):
                        async with asyncio.timeout(health.wait_s(now)):
                            await self.changed(state)

    async def _unload(self) -> bool:
        try:
            await self.free()
        except ComfyUIError as error:
            log.warning("ComfyUI %s did not unload its models: %s", self.name, error)
            return False
        idle_s = self._health.idle_unload_s
        log.info("ComfyUI %s: unloaded its models after %g s without a job", self.name, idle_s)
        return True

    # -- faults ---------------------------------------------------------------------------------

    def _worker_died(self) -> None:
        text = "ComfyUI answers, but the thread that runs prompts has ended"
        self._abandon("worker_dead", text)
        if not self.supervised and self._session is not None:
            self._session.fail_all(text, died=True, alone=False)

    def _abandon(self, failure: StartFailure, text: str) -> None:
        """Handle a ComfyUI that answers no more: its process is ended if it is supervised."""
        if self.supervised:
            if self._useless is not None and not self._useless.done():
                self._useless.set_exception(StartFailed(failure, text))
        elif not self.state.closed:
            log.warning("ComfyUI %s: %s; it gets no jobs until that is fixed", self.name, text)
            self._handle(lifecycle.Unusable(text, failure))

    def _failed(self, failure: StartFailed, restart: PlannedRestart) -> None:
        """Handle the end of a supervised process, or a start that failed."""
        what = "given up" if restart.crash_loop else "started again"
        log.warning(
            "ComfyUI %s: %s; %s, next try in %.0f s (all it printed: %s)",
            *(self.name, failure, what, restart.delay_s, self._folder / "comfyui.log"),
        )
        # The failure has the line that tells why; a page of them at each try would hide it.
        for line in failure.log[-_LAST_LINES:]:
            last_lines.debug("ComfyUI %s | %s", self.name, line)
        self._detach(
            lifecycle.Died(str(failure), failure.failure, restart.crash_loop),
            str(failure),
            died=failure.failure in _BY_ITSELF,
        )

    def _stopped(self) -> None:
        self._detach(lifecycle.Stopped(), "ComfyUI was stopped by the operator", died=False)

    def _detach(self, event: LifecycleEvent, why: str, *, died: bool) -> None:
        """Enter a state without a process; its prompts are lost."""
        session, self._session = self._session, None
        self._handle(event)
        if session is not None:
            session.fail_all(why, died=died)

    def _open_session(self) -> ComfySession:
        if self._session is None:
            raise ComfyUIUnreachable(self.state.last_error or "it is not running", sent=False)
        return self._session
