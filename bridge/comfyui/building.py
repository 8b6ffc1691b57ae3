"""The building of a ComfyUI in a folder beside its place: commands, their log, progress.

It is renamed into its place when it is whole, so that what is in place is whole, whatever was
interrupted before.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sys
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING

from bridge import virtualenv
from bridge.contract.errors import ComfyUIUnavailable
from bridge.programs import running

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

REPORT_EVERY_S = 5.0
LAST_LINES = 12


class InstallFailed(ComfyUIUnavailable):
    """The managed install failed; the text names the step, and what to do."""


class Building:
    """The steps that builds have in common; `place` is where the folder lies when it is whole.

    Children inherit the descriptor `lock`: one that outlives a killed parent keeps the lock for as
    long as it writes. `report` is called with lines about the progress.
    """

    def __init__(self, place: Path, lock: int, report: Callable[[str], None]) -> None:
        self.place = place
        self.site = place.with_name(f"{place.name}.building")
        self.lock = lock
        self.report = report
        self.step = "preparing"
        self.started = time.monotonic()
        # What moves the install to another disk.
        self.mover = "XDG_CACHE_HOME"

    def make_room(self, peak_gb: float, installed_gb: float, mover: str) -> None:
        """Make the folder to build in. Raises InstallFailed where the disk is too small."""
        self.mover = mover
        remove(self.site)
        free_gb = shutil.disk_usage(made(self.place.parent)).free / 1e9
        if free_gb < peak_gb:
            raise InstallFailed(
                f"too little disk space below {self.place.parent}: the install needs "
                f"{peak_gb:.0f} GB for a time and keeps {installed_gb}, "
                f"{free_gb:.1f} GB are free. {mover} moves it to another disk"
            )
        # Pip unpacks gigabytes here: /tmp is often a small disk in memory.
        (self.site / "scratch").mkdir(parents=True)

    async def make_environment(self) -> None:
        """Make the virtual environment."""
        self.step = "virtual environment"
        script, venv = Path(virtualenv.__file__), self.site / "venv"
        await self.command(sys.executable, "-I", str(script), str(venv))

    def finish(self) -> None:
        """Move what is whole into its place."""
        remove(self.site / "scratch")
        remove(self.place)
        self.site.rename(self.place)

    async def pip(self, verb: str, *arguments: str) -> None:
        """Run the environment's pip. Raises InstallFailed."""
        pip = (str(virtualenv.interpreter(self.site / "venv")), "-I", "-m", "pip", verb)
        await self.command(*pip, "--no-input", "--progress-bar", "off", *arguments)

    async def command(
        self, *command: str, folder: Path | None = None, variables: Mapping[str, str] | None = None
    ) -> None:
        """Run one command with its output in the log, reporting progress. Raises InstallFailed.

        `variables` are more of its environment.
        """
        self.report(f"{self.step} ...")
        log = self.site / "install.log"
        environment = {
            **os.environ,
            **(variables or {}),
            "TMPDIR": str(self.site / "scratch"),
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        }
        with log.open("ab") as output:
            output.write(f"$ {' '.join(command)}\n".encode())
            output.flush()
            status = await self._process(command, environment, output, folder)
        if status:
            raise InstallFailed(self._failure(status, log))

    async def _process(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        output: IO[bytes],
        folder: Path | None,
    ) -> int:
        async with running(
            *command,
            group=True,
            cwd=folder,
            env=environment,
            stdout=output,
            stderr=asyncio.subprocess.STDOUT,
            # A child that outlives a killed parent keeps the lock for as long as it writes.
            pass_fds=(self.lock,),
        ) as process:
            while True:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(REPORT_EVERY_S):
                        return await process.wait()
                self.report(f"{self.step}: {await asyncio.to_thread(self.so_far)}")

    def so_far(self) -> str:
        """Return how long it has taken, and how much there is."""
        place = self.site if self.site.exists() else self.place
        seconds = time.monotonic() - self.started
        return f"{seconds:.0f} s, {_size(place) / 1e6:,.0f} MB on disk"

    def _failure(self, status: int, log: Path) -> str:
        lines = log.read_text(errors="replace").strip().splitlines()[-LAST_LINES:]
        said = "\n  ".join(lines)
        cause = f"the install of ComfyUI failed at: {self.step} (exit status {status})"
        if any("No space left on device" in line for line in lines):
            cause += f"; the disk is full, {self.mover} moves the install to another"
        return f"{cause}\n  {said}\nThe whole log: {log}"


def made(path: Path) -> Path:
    """Return a folder, made if need be."""
    path.mkdir(parents=True, exist_ok=True)
    return path


def remove(path: Path) -> None:
    """Remove a folder, if it is there."""
    if path.exists():
        shutil.rmtree(path)


def _size(path: Path) -> int:
    """Return the bytes below `path`; files that vanish meanwhile count as nothing."""
    total = 0
    for parent, _, names in os.walk(path):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(Path(parent, name)).st_size
    return total
