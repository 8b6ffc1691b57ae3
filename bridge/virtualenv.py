"""A virtual environment with pip, even if Python came without its venv parts.

Debian and Ubuntu split `ensurepip` off into a package of its own, so that on a fresh machine
`python3 -m venv` fails, and often no pip is there either. This file makes an environment all the
same, without root. The Makefile runs it as a plain file, with the system's Python, before anything
is installed; the managed ComfyUI install imports it. So it needs the standard library alone.

What is tried, in order, until one leaves an environment that has pip:

1. `python3 -m venv`;
2. `python3 -m venv --without-pip`, then the system's own pip (22.3 or newer) installs one into it;
3. the same, with the pip wheel of Debian's package python3-pip-whl: the copy on this machine,
   or one that `apt-get download` brings, which needs no root.

Usage: python3 bridge/virtualenv.py FOLDER
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

MINIMUM = (3, 11)
DEBIAN_WHEELS = Path("/usr/share/python-wheels")
DEBIAN_PACKAGE = "python3-pip-whl"


class VirtualenvError(RuntimeError):
    """No way led to an environment with pip; the text names each way and why it failed."""


class _StepError(Exception):
    """A command failed: its last lines."""


def interpreter(folder: Path) -> Path:
    """Return the path of the Python of the environment in `folder`."""
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def is_sound(folder: Path) -> bool:
    """Return whether the environment's Python starts and finds its pip.

    Both fail after an interrupted creation, and after the system's Python has moved on to another
    minor version under an old environment.
    """
    python = interpreter(folder)
    if not python.exists():
        return False
    probe = [str(python), "-I", "-c", "import pip"]
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0  # noqa: S603 - our own interpreter


def create(
    folder: Path, *, python: str = sys.executable, say: Callable[[str], None] = print
) -> Path:
    """Make an environment in `folder`, in place of whatever is there, and return its interpreter.

    `python` is the interpreter to build upon. Raises VirtualenvError when every way fails.
    """
    failures = []
    for name, way in _WAYS:
        shutil.rmtree(folder, ignore_errors=True)
        try:
            way(folder, python)
        except _StepError as error:
            failures.append(f"  {name}: {error}")
            continue
        if is_sound(folder):
            say(f"virtual environment made with {name}: {folder}")
            return interpreter(folder)
        failures.append(f"  {name}: it ended well, but left no pip")
    shutil.rmtree(folder, ignore_errors=True)
    raise VirtualenvError(
        "no virtual environment could be made. On Debian and Ubuntu `apt install python3-venv` "
        "(as root) brings what is missing. What was tried:\n" + "\n".join(failures)
    )


def _with_ensurepip(folder: Path, python: str) -> None:
    _run([python, "-I", "-m", "venv", str(folder)])


def _with_system_pip(folder: Path, python: str) -> None:
    _run([python, "-I", "-m", "venv", "--without-pip", str(folder)])
    install = ["--python", str(interpreter(folder)), "install", "--quiet", "pip"]
    _run([python, "-I", "-m", "pip", *install])


def _with_debian_wheel(folder: Path, python: str) -> None:
    _run([python, "-I", "-m", "venv", "--without-pip", str(folder)])
    with tempfile.TemporaryDirectory(prefix="comfy2mqtt-pip-") as scratch:
        wheel = next(_wheels(DEBIAN_WHEELS), None) or _download_wheel(Path(scratch))
        # A wheel is a zip archive, and Python runs a package inside one: pip installs itself.
        pip_inside = str(wheel / "pip")
        offline = ["--no-index", "--quiet", "--no-cache-dir", str(wheel)]
        _run([str(interpreter(folder)), pip_inside, "install", *offline])


_WAYS = (
    ("python3 -m venv", _with_ensurepip),
    ("the system's pip", _with_system_pip),
    (f"Debian's {DEBIAN_PACKAGE}", _with_debian_wheel),
)


def _wheels(folder: Path) -> Iterator[Path]:
    """Yield the pip wheels in `folder`, of which Debian ships one."""
    yield from sorted(folder.glob("pip-*.whl"))


def _download_wheel(scratch: Path) -> Path:
    """Fetch and unpack the package below `scratch`, and return the wheel in it.

    The package lists of a fresh container are empty, and to update the system's own takes root: so
    if the first download fails, private lists below `scratch` are filled and used.
    """
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise _StepError("this is no Debian or Ubuntu: apt-get and dpkg-deb are missing")
    try:
        _run(["apt-get", "download", DEBIAN_PACKAGE], cwd=scratch)
    except _StepError:
        lists = scratch / "lists"
        (lists / "partial").mkdir(parents=True)
        private = ["-o", f"Dir::State::Lists={lists}", "-o", f"Dir::Cache={scratch}"]
        _run(["apt-get", *private, "update"])
        _run(["apt-get", *private, "download", DEBIAN_PACKAGE], cwd=scratch)
    package = next(scratch.glob(f"{DEBIAN_PACKAGE}_*.deb"))
    _run(["dpkg-deb", "-x", str(package), str(scratch / "unpacked")])
    wheel = next(_wheels(scratch / "unpacked" / DEBIAN_WHEELS.relative_to("/")), None)
    if wheel is None:
        raise _StepError(f"{package.name} has no pip wheel in it")
    return wheel


def _run(command: Sequence[str], *, cwd: Path | None = None) -> None:
    try:
        done = subprocess.run(  # noqa: S603 - each command is spelled out above, no shell
            command, cwd=cwd, check=False, text=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
    except OSError as error:
        raise _StepError(f"{command[0]}: {error}") from error
    if done.returncode:
        last_lines = "\n      ".join(done.stdout.strip().splitlines()[-4:])
        raise _StepError(f"`{' '.join(command)}` ended with {done.returncode}:\n      {last_lines}")


def main(arguments: Sequence[str]) -> str | None:
    """Make the environment unless a sound one is there; return an error's text, or None."""
    if len(arguments) != 1:
        return "usage: python3 bridge/virtualenv.py FOLDER"
    if sys.version_info < MINIMUM:
        return "Python {}.{} or newer is needed, this is {}".format(
            *MINIMUM, sys.version.split()[0]
        )
    folder = Path(arguments[0]).absolute()
    if not is_sound(folder):
        try:
            create(folder)
        except VirtualenvError as error:
            return str(error)
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
