"""Updates of the managed ComfyUI: looked for once a day, installed on an operator's command.

A release is built beside the one in use, which continues with its jobs. Then no more jobs begin,
those that run end, and each ComfyUI is started from the new release. It takes its place on disk
once all of them are connected. Until then everything leads back to the one in use: a build that
fails, a ComfyUI that does not start, a bridge that is killed.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

import msgspec
from msgspec import UNSET

from bridge.aio import wait_set
from bridge.comfyui import releases as policy
from bridge.comfyui.building import InstallFailed
from bridge.comfyui.instance import Instance
from bridge.comfyui.managed import Manager, Version
from bridge.comfyui.releases import Release, chosen
from bridge.comfyui.settings import SuperviseConfig
from bridge.contract.errors import Conflict
from bridge.contract.messages import or_unset
from bridge.contract.retained import ComfyUIRelease
from bridge.text import clip, without_folders

log = logging.getLogger(__name__)

# ComfyUI starts first: a look may take its time.
FIRST_CHECK_S = 10.0
# Beside the time that a start may take: the end of the process before it.
_MORE_S = 60.0
_LONGEST_ERROR = 500


class Updates:
    """Use `run` as a task: cancelling it ends the processes that were started.

    Everything is called on the event loop's thread.
    """

    def __init__(
        self,
        manager: Manager,
        used: Version,
        configs: Mapping[Instance, SuperviseConfig],
        *,
        first_check_s: float = FIRST_CHECK_S,
    ) -> None:
        """`used` is the install that all ComfyUIs of `configs` are started from."""
        self._manager = manager
        self._used = used
        self._configs = dict(configs)
        self._first_check_s = first_check_s
        self._shown = ComfyUIRelease(installed=used.version)
        self._due = asyncio.Event()
        # The version that is to be installed; None: only check.
        self._ordered: str | None = None

    @property
    def instances(self) -> Sequence[Instance]:
        """The ComfyUIs that share the install."""
        return list(self._configs)

    @property
    def names(self) -> Sequence[str]:
        """The names of those ComfyUIs."""
        return [each.name for each in self._configs]

    def check(self) -> None:
        """Check for newer releases soon."""
        self._due.set()

    def install(self, version: str | None) -> None:
        """Begin to install a release, by default the newest that is known.

        Raises Conflict while one is installed, and if none is known to be newer.
        """
        if self._ordered is not None or self._shown.step is not UNSET:
            raise Conflict("another release is being installed", installed=self._used.version)
        if version is None and self._shown.latest in (UNSET, self._used.version):
            why = "no newer release is known"
            raise Conflict(f"{why}: name one, or look", installed=self._used.version)
        # What is shown is what somebody agreed to.
        self._ordered = version or str(self._shown.latest)
        self._due.set()

    async def run(self) -> NoReturn:
        """Check once a day, and install what is ordered, until cancelled."""
        self._show()
        pause_s = self._first_check_s
        while True:
            await wait_set(self._due, pause_s)
            self._due.clear()
            releases = await self._checked()
            pause_s = policy.check_after_s(failed=releases is None)
            version, self._ordered = self._ordered, None
            if releases is not None and version is not None:
                await self._install(version, releases)

    async def _checked(self) -> list[Release] | None:
        """Show the newest release; None if the repository cannot be asked."""
        try:
            releases = await self._manager.releases()
        except InstallFailed as error:
            text = self._error_text(error)
            log.warning("cannot look for releases of ComfyUI: %s", text)
            self._show(error=f"cannot look for releases: {text}")
            return None
        found = policy.newer(self._used.version, releases)
        self._show(
            latest=self._used.version if found is None else found.version,
            url=UNSET if found is None else or_unset(self._manager.page_of(found)),
            looked_at=round(time.time(), 3),
            error=UNSET,
        )
        return releases

    async def _install(self, version: str, releases: Sequence[Release]) -> None:
        try:
            release = self._release(version, releases)
            if release.commit == self._used.commit:
                return
            self._show(step="installing")
            made = await self._manager.build(release)
            await self._replace(made)
        except (InstallFailed, OSError) as error:
            text, used = self._error_text(error), self._used.version
            log.warning("ComfyUI %s is not installed, %s stays in use: %s", version, used, text)
            self._show(step=UNSET, error=f"{version} is not installed: {text}")
        else:
            log.info("ComfyUI %s is used now", made.version)
            self._used = made
            self._show(step=UNSET, installed=made.version, error=UNSET)
            self.check()

    def _release(self, version: str, releases: Sequence[Release]) -> Release:
        release = chosen(releases, version)
        if release is None:
            raise InstallFailed(f"{self._manager.repository} has no release {version}")
        return release

    async def _replace(self, made: Version) -> None:
        """Start every ComfyUI from what was built, else again from what was used before."""
        before = dict(self._configs)
        after = {
            each: msgspec.structs.replace(config, path=Path(made.path), python=Path(made.python))
            for each, config in before.items()
        }
        self._show(step="draining")
        try:
            for each in before:
                each.yield_("update")
            await asyncio.gather(*(each.until(policy.is_drained) for each in before))
            self._show(step="starting")
            try:
                await self._start(after)
                await asyncio.to_thread(self._manager.use, made)
            except (InstallFailed, OSError):
                for each, config in before.items():
                    _restart(each, config)
                raise
            self._configs = after
        finally:
            for each in before:
                each.resume("update")

    async def _start(self, configs: Mapping[Instance, SuperviseConfig]) -> None:
        """Start each from these settings, one after the other. Raises InstallFailed."""
        for each, config in configs.items():
            state = each.state
            if not _restart(each, config):
                continue
            try:
                async with asyncio.timeout(config.start_timeout_s + _MORE_S):
                    now = await each.until(
                        lambda now, before=state: policy.outcome(before, now) is not None  # type: ignore[misc] # of one of them
                    )
            except TimeoutError:
                raise InstallFailed(f"ComfyUI {each.name} did not get ready") from None
            if policy.outcome(state, now) == "fails":
                raise InstallFailed(f"ComfyUI {each.name} does not start: {now.last_error}")

    def _error_text(self, error: Exception) -> str:
        """Return an error without the repository's address, which may hold a password."""
        return str(error).replace(self._manager.repository, "the repository")

    def _show(self, **changes: object) -> None:
        error = changes.get("error")
        if isinstance(error, str):
            changes["error"] = clip(without_folders(error.splitlines()[0]), _LONGEST_ERROR, "…")
        self._shown = msgspec.structs.replace(self._shown, **changes)
        for each in self._configs:
            each.note_release(self._shown)


def _restart(instance: Instance, config: SuperviseConfig) -> bool:
    """Restart it with these settings; False if the operator has stopped it: it stays stopped."""
    instance.use(config)
    if not policy.runs(instance.state):
        return False
    instance.restart()
    return True
