from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bridge import virtualenv
from bridge.virtualenv import VirtualenvError

# What Debian's Python says without its package python3-venv.
NO_ENSUREPIP = 'case " $* " in *" -m venv "*) case " $* " in *" --without-pip "*) ;; *) \
echo "ensurepip is not available"; exit 1;; esac;; esac'
NO_VENV = 'case " $* " in *" -m venv "*) echo "No module named venv"; exit 1;; esac'
NO_PIP = 'case " $* " in *" -m pip "*) echo "No module named pip"; exit 1;; esac'


def python_that_lacks(folder: Path, *lacks: str) -> str:
    wrapper = folder / "python3"
    wrapper.write_text("\n".join(["#!/bin/sh", *lacks, f'exec "{sys.executable}" "$@"\n']))
    wrapper.chmod(0o755)
    return str(wrapper)


def pip_version(python: Path) -> str:
    command = [str(python), "-m", "pip", "--version"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def pip_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand in for Debian's folder of wheels with Python's own; Debian's Python has none."""
    found = importlib.util.find_spec("ensurepip")
    if found is not None and found.origin is not None:
        bundled = Path(found.origin).with_name("_bundled")
        if bundled.exists():
            monkeypatch.setattr(virtualenv, "DEBIAN_WHEELS", bundled)


@pytest.mark.slow
def test_an_environment_has_pip_and_replaces_what_was_there(tmp_path: Path) -> None:
    folder = tmp_path / "environment"
    folder.mkdir()
    (folder / "left over").touch()
    said: list[str] = []
    python = virtualenv.create(folder, say=said.append)
    assert str(folder) in pip_version(python)
    assert virtualenv.is_sound(folder)
    assert not (folder / "left over").exists()
    assert len(said) == 1


@pytest.mark.slow
@pytest.mark.usefixtures("pip_wheel")
def test_without_ensurepip_and_without_pip_a_wheel_of_debians_will_do(tmp_path: Path) -> None:
    said: list[str] = []
    python = virtualenv.create(
        tmp_path / "environment",
        python=python_that_lacks(tmp_path, NO_ENSUREPIP, NO_PIP),
        say=said.append,
    )
    assert str(tmp_path) in pip_version(python)
    assert virtualenv.DEBIAN_PACKAGE in said[0]


@pytest.mark.slow
def test_without_ensurepip_the_systems_pip_will_do(tmp_path: Path) -> None:
    said: list[str] = []
    python = virtualenv.create(
        tmp_path / "environment", python=python_that_lacks(tmp_path, NO_ENSUREPIP), say=said.append
    )
    assert str(tmp_path) in pip_version(python)
    assert "the system's pip" in said[0]


def test_the_wheel_comes_from_the_distribution_also_where_its_lists_are_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Stand-ins: the real ones need the network, and this machine's lists may be full.
    programs = tmp_path / "programs"
    programs.mkdir()
    filled = programs / "filled"
    apt_get = (
        f'case "$*" in *Dir::State::Lists={tmp_path}*update) touch {filled}; exit;; esac',
        f"test -e {filled} || exit 100",
        "touch python3-pip-whl_23_all.deb",
    )
    dpkg_deb = (
        'folder="$3/usr/share/python-wheels"',
        'mkdir -p "$folder"',
        'touch "$folder/$WHEEL"',
    )
    for name, lines in (("apt-get", apt_get), ("dpkg-deb", dpkg_deb)):
        (programs / name).write_text("\n".join(["#!/bin/sh", *lines, ""]))
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ.get('PATH', os.defpath)}")
    monkeypatch.setenv("WHEEL", "pip-23.0.1-py3-none-any.whl")
    assert virtualenv._download_wheel(tmp_path).name == "pip-23.0.1-py3-none-any.whl"


def test_a_sound_environment_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(virtualenv, "is_sound", lambda folder: folder == tmp_path)
    assert virtualenv.main([str(tmp_path)]) is None
    assert not list(tmp_path.iterdir())


def test_a_python_that_is_too_old_says_which_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(virtualenv, "MINIMUM", (4, 0))
    assert "Python 4.0 or newer is needed" in str(virtualenv.main(["anywhere"]))


def test_when_no_way_leads_there_each_is_reported_and_nothing_is_left(tmp_path: Path) -> None:
    folder = tmp_path / "environment"
    with pytest.raises(VirtualenvError) as caught:
        virtualenv.create(folder, python=python_that_lacks(tmp_path, NO_VENV))
    assert str(caught.value).count("No module named venv") == 3
    assert "apt install python3-venv" in str(caught.value)
    assert not folder.exists()


def test_an_environment_whose_python_is_gone_is_not_sound(tmp_path: Path) -> None:
    python = virtualenv.interpreter(tmp_path)
    python.parent.mkdir(parents=True)
    python.symlink_to(tmp_path / "removed by an upgrade")
    assert not virtualenv.is_sound(tmp_path)


def test_an_environment_without_pip_is_not_sound(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path], check=True)
    assert not virtualenv.is_sound(tmp_path)


def test_it_runs_as_a_plain_file_without_the_package(tmp_path: Path) -> None:
    # Outside the checkout, isolated: as on a machine where nothing is installed.
    copy = tmp_path / "virtualenv.py"
    copy.write_bytes(Path(virtualenv.__file__).read_bytes())
    done = subprocess.run(
        [sys.executable, "-I", "-S", copy], check=False, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "usage" in done.stderr
