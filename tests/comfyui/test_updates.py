"""Updates with a real git repository, pip and ComfyUI processes that answer as one does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest
from msgspec import UNSET

from bridge.comfyui import managed
from bridge.comfyui.instance import Instance
from bridge.comfyui.settings import SuperviseConfig
from bridge.comfyui.state import InstanceState
from bridge.comfyui.updates import Updates
from bridge.contract.errors import Conflict
from bridge.contract.retained import ComfyUIRelease
from tests.comfyui.test_managed import Repository, manager
from tests.comfyui.worlds import World
from tests.support.patience import PATIENCE_S

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
# Of ComfyUI's shape: it ends at once on a trial, and else answers as one does.
MAIN = """
import asyncio, os, sys
if "--quick-test-for-ci" in sys.argv:
    sys.exit({trial!r} or None)
if {start!r}:
    sys.exit({start!r})
sys.path[:0] = {path!r}
from aiohttp import web
from tests.support.scripted import ScriptedComfyUI
class ComfyUI(ScriptedComfyUI):
    def _described(self, path):
        if path == "/system_stats":
            return {{"system": {{"comfyui_version": {version!r}}}}}
        return super()._described(path)
async def main():
    comfyui = ComfyUI()
    comfyui.hello["pid"] = os.getpid()
    app = web.Application()
    app.router.add_route("*", "/{{path:.*}}", comfyui.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])).start()
    await asyncio.Event().wait()
asyncio.run(main())
"""


def main(version: str, *, trial: str = "", start: str = "") -> str:
    path = [str(ROOT), str(Path(aiohttp.__file__).parents[1])]
    return MAIN.format(version=version, trial=trial, start=start, path=path)


class Stand(NamedTuple):
    """A ComfyUI 0.9.0 at work, and the room that updates it."""

    updates: Updates
    instance: Instance
    repository: Repository
    root: Path

    async def shown(self, **wanted: Any) -> ComfyUIRelease:
        """Wait until the ComfyUI's state says so of its releases."""

        def is_it(state: InstanceState) -> bool:
            found = state.release
            return found is not None and all(
                getattr(found, name) == value for name, value in wanted.items()
            )

        async with asyncio.timeout(PATIENCE_S):
            state = await self.instance.until(is_it)
        assert state.release is not None
        return state.release

    async def running(self) -> str | None:
        """Wait until it takes prompts; return the version that answers."""
        async with asyncio.timeout(PATIENCE_S):
            await self.instance.ready()
        return self.instance.state.version

    @property
    def on_disk(self) -> str:
        found = managed.current(self.root)
        assert found is not None
        return found.used.version


@pytest.fixture
async def stand(world: World, tmp_path: Path) -> AsyncIterator[Stand]:
    repository, root = Repository(tmp_path / "repository"), tmp_path / "managed"
    repository.release("v0.9.0", main("0.9.0"))
    installing = manager(world, repository, root)
    used = (await installing.install(None)).used
    config = SuperviseConfig(
        Path(used.path), Path(used.python), custom_nodes=(), stop_grace_s=1, crash_pause_s=3600
    )
    instance = Instance("main", config, folder=tmp_path / "data")
    updates = Updates(installing, used, {instance: config}, first_check_s=0)
    tasks = [asyncio.create_task(each.run()) for each in (instance, updates)]
    try:
        yield Stand(updates, instance, repository, root)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_newer_release_is_found_and_then_used(stand: Stand) -> None:
    assert await stand.running() == "0.9.0"
    found = await stand.shown(latest="0.9.0")
    assert (found.installed, found.url, found.step, found.error) == ("0.9.0", UNSET, UNSET, UNSET)
    with pytest.raises(Conflict, match="no newer release is known"):
        stand.updates.install(None)

    stand.repository.release("v0.10.0", main("0.10.0"))
    stand.updates.check()
    assert (await stand.shown(latest="0.10.0")).installed == "0.9.0"
    assert stand.instance.state.version == "0.9.0"
    stand.updates.install(None)
    with pytest.raises(Conflict, match="is being installed"):
        stand.updates.install("0.9.0")
    await stand.shown(installed="0.10.0", latest="0.10.0", step=UNSET)
    assert await stand.running() == "0.10.0"
    assert stand.on_disk == "0.10.0"

    # Back to the one before, by its name.
    stand.updates.install("0.9.0")
    await stand.shown(installed="0.9.0", step=UNSET)
    assert await stand.running() == "0.9.0"
    assert stand.on_disk == "0.9.0"


async def test_what_was_agreed_to_is_installed_though_there_is_a_newer_one(stand: Stand) -> None:
    stand.repository.release("v0.10.0", main("0.10.0"))
    stand.updates.check()
    await stand.shown(latest="0.10.0")
    stand.repository.release("v0.11.0", main("0.11.0"))
    stand.updates.install(None)
    await stand.shown(installed="0.10.0", latest="0.11.0", step=UNSET)


async def test_a_job_runs_to_its_end_before_its_comfyui_is_replaced(stand: Stand) -> None:
    await stand.running()
    prompt_id = "4a6e9b3c-6c62-4a0b-8f0b-1f1d5c3e2a10"
    began = asyncio.Event()
    ended = asyncio.create_task(_ended(stand.instance, prompt_id, began))
    async with asyncio.timeout(PATIENCE_S):
        await began.wait()
    stand.repository.release("v0.10.0", main("0.10.0"))
    stand.updates.install("0.10.0")
    await stand.shown(step="installing")
    # It takes prompts while the release is built beside it.
    assert stand.instance.state.usable
    await stand.shown(step="draining")
    assert stand.instance.state.closed
    assert not ended.done()
    # A bridge that is killed now starts the one before.
    assert stand.on_disk == "0.9.0"
    assert await stand.instance.cancel(prompt_id)
    await ended
    await stand.shown(installed="0.10.0", step=UNSET)
    assert await stand.running() == "0.10.0"


async def _ended(instance: Instance, prompt_id: str, began: asyncio.Event) -> None:
    async for _ in instance.execute(prompt_id, {"1": {"class_type": "Any", "inputs": {}}}):
        began.set()


@pytest.mark.parametrize(
    ("faults", "said"),
    [
        ({"trial": "ImportError: no module"}, "the install of ComfyUI failed at: trying it"),
        # On the processor it starts, and with the card it does not.
        ({"start": "CUDA error"}, "ComfyUI main does not start"),
    ],
)
async def test_a_release_that_does_not_start_leaves_the_one_before(
    stand: Stand, faults: dict[str, str], said: str
) -> None:
    await stand.running()
    stand.repository.release("v0.10.0", main("0.10.0", **faults))
    stand.updates.install("0.10.0")
    await stand.shown(step="installing")
    found = await stand.shown(step=UNSET, installed="0.9.0")
    assert f"0.10.0 is not installed: {said}" in str(found.error)
    assert await stand.running() == "0.9.0"
    assert stand.on_disk == "0.9.0"
    # The next look clears what is past, and it may be tried again.
    stand.updates.check()
    await stand.shown(error=UNSET, latest="0.10.0")


async def test_without_the_repository_it_says_so_and_goes_on(stand: Stand) -> None:
    assert await stand.running() == "0.9.0"
    stand.updates.install("0.99.0")
    wanted = "0.99.0 is not installed: the repository has no release 0.99.0"
    found = await stand.shown(error=wanted)
    assert found.latest == "0.9.0"
    stand.repository.folder.rename(stand.repository.folder.with_name("gone"))
    stand.updates.check()
    async with asyncio.timeout(PATIENCE_S):
        await stand.instance.until(
            lambda state: (
                state.release is not None
                and str(state.release.error).startswith("cannot look for releases")
            )
        )
    # Its address may hold a password.
    said = str(stand.instance.state.release)
    assert "'the repository' does not appear to be a git repository" in said
    assert str(stand.repository.folder) not in said
    assert await stand.running() == "0.9.0"


async def test_one_that_the_operator_stopped_stays_so_and_is_another_when_started(
    stand: Stand,
) -> None:
    await stand.running()
    stand.instance.stop()
    async with asyncio.timeout(PATIENCE_S):
        await stand.instance.until(lambda state: state.state == "stopped")
    stand.repository.release("v0.10.0", main("0.10.0"))
    stand.updates.install("0.10.0")
    await stand.shown(installed="0.10.0", step=UNSET)
    assert stand.instance.state.state == "stopped"
    stand.instance.start()
    assert await stand.running() == "0.10.0"
