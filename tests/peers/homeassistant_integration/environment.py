"""The environment of the newest Home Assistant: a Python 3.14 of its own, in the cache folder.

Where there is no such Python, a Debian of its own gets one by debootstrap, which takes root and
some minutes. There the sources are copied into it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.peers import cache, debian

# Home Assistant's own test harness, and a later Home Assistant than the one that it pins.
HARNESS = "pytest-homeassistant-custom-component==0.13.375"
CORE = "homeassistant==2026.11.0"
WANTED = "3.14"
DEBIAN = f"debian-python{WANTED}"
# What Home Assistant would install itself when it sets these up.
# Without tts the frontend gets no list of actions.
COMPONENTS: tuple[str, ...] = ("ai_task", "camera", "frontend", "hassio", "image", "media_source")
COMPONENTS += ("mqtt", "repairs", "stream", "tts")
MYPY = "mypy==2.4.1"
ROOT = Path(__file__).parents[3]
LAST_LINES = 3
# What a chroot needs of ours to reach a package index.
REACH = ("/etc/resolv.conf", "/etc/hosts", "/etc/pip.conf", "/etc/ssl/certs/ca-certificates.crt")
CHECKS = "tests/peers/homeassistant_integration"
SOURCES = ("custom_components", "docs", CHECKS)

REQUIREMENTS = """
import json, pathlib, sys
import homeassistant
folder = pathlib.Path(homeassistant.__file__).parent / "components"
known, found, names = set(), set(), sys.argv[1:]
while names:
    name = names.pop()
    if name not in known:
        known.add(name)
        manifest = json.loads((folder / name / "manifest.json").read_text())
        names += manifest.get("dependencies", [])
        found |= set(manifest.get("requirements", []))
print(*sorted(found))
"""


class Place:
    """The place where Home Assistant runs: here, or in a Debian of its own below `root`."""

    def __init__(self, folder: Path, root: Path | None = None) -> None:
        self._folder = folder
        self._root = root

    @property
    def python(self) -> str:
        """The environment's interpreter, as it is called in there."""
        return str(self._folder / "bin" / "python")

    def inside(self, folder: Path) -> Path:
        """Return a folder of `sources` as it is called in there."""
        return folder if self._root is None else Path("/") / folder.relative_to(self._root)

    def command(self, folder: Path, *args: str) -> Sequence[str]:
        """Return the command that runs something in a folder of `sources`."""
        if self._root is None:
            return ("env", f"--chdir={folder}", *args)
        inside = str(self.inside(folder))
        # /proc is there for as long as the command runs.
        script = 'mount -t proc proc "$0/proc" && exec chroot "$0" env --chdir="$1" "${@:2}"'
        return ("unshare", "--mount", "bash", "-c", script, str(self._root), inside, *args)

    @contextmanager
    def sources(self, checkout: Path = ROOT) -> Iterator[Path]:
        """Yield a folder with the sources of a checkout: a copy, which is removed afterwards."""
        within = None if self._root is None else self._root / "tmp"
        with tempfile.TemporaryDirectory(prefix="comfy2mqtt-", dir=within) as folder:
            for name in SOURCES:
                ignored = shutil.ignore_patterns("__pycache__")
                shutil.copytree(checkout / name, Path(folder) / name, ignore=ignored)
            yield Path(folder)


class Unavailable(Exception):
    """There is no Python here that Home Assistant runs on, and why."""

    def __init__(self, why: str) -> None:
        super().__init__(f"there is no Python {WANTED}, and {why}")


def base() -> tuple[Path, Path | None] | None:
    """Return a Python 3.14 that runs, and the Debian that it is in; None if there is none."""
    found = shutil.which(f"python{WANTED}")
    candidates = [Path(found)] if found else []
    candidates += sorted(Path("~/.pyenv/versions").expanduser().glob(f"{WANTED}.*/bin/python"))
    for each in candidates:
        if _runs([str(each)]):
            return each, None
    root = cache.folder(DEBIAN)
    if os.geteuid() == 0 and _runs(["chroot", str(root), f"python{WANTED}"]):
        return Path(f"/usr/bin/python{WANTED}"), root
    return None


def _runs(command: list[str]) -> bool:
    # pyenv has a shim on the PATH for each version that any of its environments has.
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    try:
        found = subprocess.run(
            (*command, "-c", code), capture_output=True, text=True, check=False, timeout=60
        )
    except OSError:
        return False
    return found.stdout.strip() == WANTED


def ensure(python: Path, root: Path | None) -> Place:
    """Return the environment; made first, which takes a minute or two, if need be."""
    name = CORE.replace("==", "-")
    folder = cache.folder(name) if root is None else Path("/opt") / name
    outside = folder if root is None else root / folder.relative_to("/")
    outside.parent.mkdir(parents=True, exist_ok=True)
    place = Place(folder, root)
    with outside.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (outside / ".ready").exists():
            shutil.rmtree(outside, ignore_errors=True)
            _run(place, str(python), "-m", "venv", str(folder))
            pip = (place.python, "-m", "pip", "install", "--quiet")
            _run(place, *pip, HARNESS, MYPY)
            _run(place, *pip, CORE)
            wanted = _run(place, place.python, "-c", REQUIREMENTS, *COMPONENTS)
            _run(place, *pip, *wanted.split())
            (outside / ".ready").touch()
    return place


def _run(place: Place, *args: str) -> str:
    folder = (place._root or Path("/")) / "tmp"
    found = subprocess.run(
        place.command(folder, *args),
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return found.stdout


def environment(**more: str) -> Mapping[str, str]:
    """Return what another program needs of our environment, with how to reach a package index."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in ("HOME", "PATH") or name.startswith("PIP_") or name.lower().endswith("_proxy")
    }
    return {**kept, "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1", **more}


def found() -> Place:
    """Return the environment; made first, which takes some minutes, if need be.

    Raises Unavailable.
    """
    there = base()
    if there is None:
        _make_debian()
        there = base()
    if there is None:
        raise Unavailable(f"the Debian in {cache.folder(DEBIAN)} has none")
    return ensure(*there)


def _make_debian() -> None:
    if os.geteuid() != 0:
        raise Unavailable("only root can make a Debian that has it")
    if subprocess.run(("unshare", "--mount", "true"), check=False).returncode:
        raise Unavailable("nothing can be mounted here, as a Debian that has it takes")
    try:
        cache.made(DEBIAN, _debootstrap)
    except subprocess.CalledProcessError as error:
        shutil.rmtree(cache.folder(DEBIAN), ignore_errors=True)
        said = " | ".join((error.stdout or "").splitlines()[-LAST_LINES:])
        raise Unavailable(f"no Debian that has it can be made: {error}: {said}") from None


def _debootstrap(root: Path) -> None:
    """Make a Debian with Python. Raises CalledProcessError and Unavailable."""
    program = ["debootstrap"]
    if shutil.which("debootstrap") is None:
        if shutil.which("apt-get") is None:
            raise Unavailable("neither debootstrap nor apt-get to make a Debian that has it")
        unpacked = debian.ensure("debootstrap")
        program = ["env", f"DEBOOTSTRAP_DIR={unpacked}/usr/share/debootstrap"]
        program.append(f"{unpacked}/usr/sbin/debootstrap")
    packages = f"python{WANTED},python{WANTED}-venv,ca-certificates"
    subprocess.run(
        (*program, "--variant=minbase", f"--include={packages}", "sid", str(root)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
    )
    for name in REACH:
        if Path(name).exists():
            shutil.copy(name, root / name.lstrip("/"))


if __name__ == "__main__":
    try:
        found()
    except Unavailable as why:
        sys.exit(str(why))
