"""Supervises a ComfyUI of the bridge's own: starts it, and starts it again when it dies.

The operator's commands stop and start it; a command ends any pause.

It listens on loopback, on a free port, and has a secret of its own. Ready means that our nodes
inside it answer, with that secret, from our child's process: an answer on the port alone may be
another program's. Linux only; elsewhere every start fails with `not_linux`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import socket
import sys
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import NoReturn, TypeVar

import msgspec

from bridge.aio import first
from bridge.comfyui.client import ComfyClient
from bridge.comfyui.errors import ComfyUIUnreachable, StartFailed, UnexpectedAnswer, error_line
from bridge.comfyui.in_use import InUseMark
from bridge.comfyui.process import Exit, Log, Process, launched
from bridge.comfyui.settings import SuperviseConfig
from bridge.retry import Backoff


class PlannedRestart(msgspec.Struct, frozen=True):
    """Start it again after `delay_s` seconds. `crash_loop`: it died too often, or always will."""

    delay_s: float
    crash_loop: bool


class RestartPolicy:
    """A back-off between restarts, and a long pause after `limit` early deaths in a row.

    A death is early before `stable_after_s` seconds; the pause is `pause_s` seconds.
    """

    def __init__(
        self, *, limit: int, stable_after_s: float, pause_s: float, backoff: Backoff | None = None
    ) -> None:
        self._limit = limit
        self._stable_after_s = stable_after_s
        self._pause_s = pause_s
        self._early = 0
        self._backoff = backoff or Backoff(1.0, 30.0)

    def died(self, *, up_s: float, hopeless: bool = False) -> PlannedRestart:
        """Return the next start after a death `up_s` seconds after it got ready, 0 if it never did.

        `hopeless` says that another try would fail the same way, as with a missing file.
        """
        if up_s >= self._stable_after_s:
            self.reset()
        self._early += 1
        if hopeless or self._early >= self._limit:
            self.reset()
            return PlannedRestart(delay_s=self._pause_s, crash_loop=True)
        return PlannedRestart(delay_s=self._backoff.next(), crash_loop=False)

    def reset(self) -> None:
        """Reset the count: it ran for long, ran a prompt, or was started by a command."""
        self._early = 0
        self._backoff.reset()


T = TypeVar("T")

_PROBE_S = 0.1
_ON_LINUX: bool = sys.platform == "linux"
# Windows has no name for it.
_SIGKILL = 9
# ComfyUI adds our routes before it listens; a 404 for this long means that it has none.
_NO_NODES_AFTER_S = 5.0
_HOPELESS = frozenset({"not_linux", "no_interpreter", "no_comfyui", "nodes_missing"})

# Since Linux 4.13 this counts the processes that the kernel killed because memory ran out.
_VMSTAT = Path("/proc/vmstat")

# What asyncio says where the port is taken (EADDRINUSE), whatever ComfyUI's log format.
_ADDRESS_IN_USE = "[Errno 98]"

_SECRET = "COMFY2MQTT_SECRET"  # noqa: S105 - the name of a variable, not a secret
_GUARD = "COMFY2MQTT_GUARD"

# The bridge's own settings hold passwords; these are meant for the nodes.
_OUR_PREFIX = "COMFY2MQTT_"
_FOR_THE_NODES = frozenset(
    {"COMFY2MQTT_MEDIA_BYTES", "COMFY2MQTT_OUTPUT_BYTES", "COMFY2MQTT_UNPACKED_BYTES"}
)


class Running(msgspec.Struct, frozen=True):
    """A ComfyUI that is ready; `epoch` is this process's own name, never used twice.

    `unguarded` is whether it answers whoever does not know the secret: a page of any website too.
    """

    base_url: str
    secret: str
    pid: int
    epoch: str
    unguarded: bool = False


class Supervisor:
    """Use `run` as a task. `folder` is for this ComfyUI's outputs, temporary files and log.

    `on_start` is called when a start begins, `on_failure` with why one failed or the process ended
    and what follows, `on_stop` when it was stopped by a command; all on the event loop's thread.
    """

    def __init__(
        self,
        config: SuperviseConfig,
        folder: Path,
        *,
        on_start: Callable[[], None],
        on_failure: Callable[[StartFailed, PlannedRestart], None],
        on_stop: Callable[[], None] = lambda: None,
    ) -> None:
        self._config = config
        # ComfyUI runs in a folder of its own, where a relative path would mean another place.
        self._folder = folder.absolute()
        self._on_start = on_start
        self._on_failure = on_failure
        self._on_stop = on_stop
        self._log = Log(folder / "comfyui.log")
        self._policy = RestartPolicy(
            limit=config.crash_limit,
            stable_after_s=config.stable_after_s,
            pause_s=config.crash_pause_s,
        )
        self._mark = InUseMark()
        self._wanted = asyncio.Event()
        self._wanted.set()
        self._ordered = asyncio.Event()
        self._ready_at: float | None = None
        self._up = False
        self._kills_before: int | None = None

    def start(self) -> None:
        """Run it; at once, where it waits for another try."""
        self._wanted.set()
        if not self._up:
            self._ordered.set()

    def stop(self) -> None:
        """Stop it until `start`."""
        self._wanted.clear()
        self._ordered.set()

    def restart(self) -> None:
        """Stop it, if it runs, and start it."""
        self._wanted.set()
        self._ordered.set()

    def use(self, config: SuperviseConfig) -> None:
        """Take path, interpreter and arguments from these settings, from the next start on."""
        self._config = config

    def works(self) -> None:
        """Note that it did what it is for: what it dies of from now on is no crash loop so far."""
        self._policy.reset()

    async def run(self, attend: Callable[[Running], Awaitable[None]]) -> NoReturn:
        """Keep one running; `attend` runs while one is ready and is cancelled when it is gone.

        It may raise StartFailed, for one that is there and of no use: that one is killed.
        """
        with contextlib.closing(self._mark):
            await self._run(attend)

    async def _run(self, attend: Callable[[Running], Awaitable[None]]) -> NoReturn:
        while True:
            await self._wanted.wait()
            self._ordered.clear()
            self._on_start()
            try:
                await first(self._live(attend), self._ordered.wait())
            except StartFailed as failure:
                ready_at = self._ready_at
                up_s = 0.0 if ready_at is None else time.monotonic() - ready_at
                restart = self._policy.died(up_s=up_s, hopeless=failure.failure in _HOPELESS)
                self._on_failure(failure, restart)
                await first(asyncio.sleep(restart.delay_s), self._ordered.wait())
            if self._ordered.is_set():
                self._policy.reset()
                self._on_stop()

    async def _live(self, attend: Callable[[Running], Awaitable[None]]) -> NoReturn:
        """Start one and wait for its end. Raises StartFailed with how it ended."""
        self._ready_at = None
        self._up = True
        try:
            async with self._started() as (process, running):
                self._ready_at = time.monotonic()
                try:
                    await first(attend(running), process.wait())
                except StartFailed as useless:
                    process.kill()
                    raise StartFailed(
                        useless.failure, useless.reason, log=self._log.tail()
                    ) from None
                raise await self._ended(await process.wait())
        finally:
            self._up = False

    @contextlib.asynccontextmanager
    async def _started(self) -> AsyncIterator[tuple[Process, Running]]:
        """Start one and wait until it is ready; it is stopped on leaving. Raises StartFailed."""
        self._check()
        self._mark.move(self._config.path.parent)
        node_paths = self._write_node_paths()
        port = _free_port()
        secret = self._config.environment.get(_SECRET) or secrets.token_hex(16)
        self._kills_before = _kills()
        async with launched(
            self._command(port, node_paths),
            cwd=self._config.path,
            environment=self._environment(secret),
            log=self._log,
            grace_s=self._config.stop_grace_s,
        ) as process:
            base_url = f"http://127.0.0.1:{port}"
            pid, unguarded = await self._ready(process, base_url, secret)
            yield process, Running(base_url, secret, pid, uuid.uuid4().hex, unguarded)

    async def _ready(self, process: Process, base_url: str, secret: str) -> tuple[int, bool]:
        """Wait until our nodes answer from our child.

        Returns the answering process's id, and whether strangers are answered there too: that is
        tried, since ComfyUI has no interface for a guard, and its next version may pass it by.
        """
        try:
            async with (
                asyncio.timeout(self._config.start_timeout_s),
                ComfyClient(base_url, secret=secret) as client,
            ):
                answer = await first(self._probed(process, client), process.wait())
        except TimeoutError:
            limit = f"{self._config.start_timeout_s:.0f} s"
            raise StartFailed(
                "start_timeout", f"ComfyUI did not get ready within {limit}", log=self._log.tail()
            ) from None
        if isinstance(answer, Exit):
            raise await self._ended(answer)
        return answer

    async def _probed(self, process: Process, client: ComfyClient) -> tuple[int, bool]:
        no_nodes_since: float | None = None
        while True:
            try:
                hello = await client.hello()
                if hello is not None and process.contains(hello.pid):
                    return hello.pid, await client.answers_strangers()
            except (ComfyUIUnreachable, UnexpectedAnswer):
                # Not listening yet, or another program has the port: then our child ends.
                hello = None
                no_nodes_since = None
            else:
                now = time.monotonic()
                no_nodes_since = no_nodes_since or now
                if hello is None and now - no_nodes_since > _NO_NODES_AFTER_S:
                    raise StartFailed(
                        "nodes_missing",
                        "ComfyUI runs, but did not load the custom nodes of comfy2mqtt",
                        log=self._log.tail(),
                    )
            await asyncio.sleep(_PROBE_S)

    async def _ended(self, how: Exit) -> StartFailed:
        """Return why a process that is gone ended, with its last lines."""
        await self._log.drained()
        log = self._log.tail()
        if any(_ADDRESS_IN_USE in line for line in log):
            return StartFailed("port_taken", "somebody else has ComfyUI's port", log=log)
        if how.signal is None:
            line = error_line(log)
            last = f": {line}" if line else ""
            return StartFailed("exited", f"ComfyUI {how}{last}", log=log)
        if how.signal != _SIGKILL:
            return StartFailed("crashed", f"ComfyUI {how}", log=log)
        now = _kills()
        if now is not None and self._kills_before is not None and now > self._kills_before:
            text = "the kernel killed ComfyUI: the host is out of memory"
            return StartFailed("host_out_of_memory", text, log=log)
        hint = " (the host may be out of memory)" if now is None else ""
        return StartFailed("killed", f"ComfyUI {how}{hint}", log=log)

    def _check(self) -> None:
        """Raise StartFailed for what is known without a start."""
        if not _ON_LINUX:
            raise StartFailed("not_linux", "a ComfyUI can be supervised on Linux only")
        if not (self._config.path / "main.py").is_file():
            raise StartFailed("no_comfyui", f"there is no main.py in {self._config.path}")
        if shutil.which(self._python) is None:
            raise StartFailed("no_interpreter", f"{self._config.python} cannot be executed")

    @property
    def _python(self) -> str:
        # Not resolved: a virtual environment's interpreter is a link, and must be called by it.
        return str(self._config.python.absolute())

    def _command(self, port: int, node_paths: Path) -> tuple[str, ...]:
        """Return the command line; of an argument given twice ComfyUI takes the last."""
        args = self._config.args
        # Without a method there are no previews on servers that know no `preview_method` a prompt.
        chosen = any(arg.partition("=")[0] == "--preview-method" for arg in args)
        previews = () if chosen else ("--preview-method", "auto")
        return (
            *(self._python, "main.py", *args, *previews),
            *("--listen", "127.0.0.1", "--port", str(port), "--disable-auto-launch"),
            *("--output-directory", str(self._folder / "output")),
            *("--temp-directory", str(self._folder)),
            *("--extra-model-paths-config", str(node_paths)),
        )

    def _write_node_paths(self) -> Path:
        """Write the file that puts our nodes on ComfyUI's path without copying them there.

        ComfyUI reads it as YAML; JSON is YAML.
        """
        folders = "\n".join(str(folder.absolute()) for folder in self._config.custom_nodes)
        path = self._folder / "extra_model_paths.yaml"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            path.write_bytes(msgspec.json.encode({"comfy2mqtt": {"custom_nodes": folders}}))
        except OSError as error:
            raise StartFailed("no_folder", f"{path} cannot be written: {error}") from error
        return path

    def _environment(self, secret: str) -> dict[str, str]:
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(_OUR_PREFIX) or name in _FOR_THE_NODES
        }
        return {
            **inherited,
            "PYTHONUNBUFFERED": "1",
            _GUARD: "1",
            **self._config.environment,
            _SECRET: secret,
        }


def _kills() -> int | None:
    """Return how many processes the kernel has killed because memory ran out, where it says."""
    try:
        lines = _VMSTAT.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), None)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
