from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.custom_nodes.comfyui import ROOT
from tests.custom_nodes.package import load

temporary: Any = load("temporary")
errors: Any = load("errors")


def put(files: Any, data: bytes, suffix: str = "") -> Path:
    path: Path = files.put(hashlib.sha256(data).hexdigest(), suffix, data)
    return path


def test_nothing_is_made_before_there_is_a_file(tmp_path: Path) -> None:
    files = temporary.TemporaryFiles(tmp_path / "temp", budget=10)
    assert files.removals("0" * 64) == 0
    assert not (tmp_path / "temp").exists()


def test_the_least_recently_used_goes_first_and_is_counted(tmp_path: Path) -> None:
    files = temporary.TemporaryFiles(tmp_path, budget=10)
    first, second = put(files, b"aaaaa"), put(files, b"bbbbb")
    assert files.removals(first.name) == 0
    third = put(files, b"ccccc")
    assert [path.exists() for path in (first, second, third)] == [True, False, True]
    assert files.removals(second.name) == 1
    assert files.removals(first.name) == 0


def test_the_same_bytes_under_two_suffixes_are_two_files(tmp_path: Path) -> None:
    files = temporary.TemporaryFiles(tmp_path, budget=10)
    assert put(files, b"aa", ".txt") != put(files, b"aa", ".csv")
    assert put(files, b"aa", ".txt") == put(files, b"aa", ".txt")


def test_a_file_above_the_whole_budget_is_refused_and_removes_nothing(tmp_path: Path) -> None:
    files = temporary.TemporaryFiles(tmp_path, budget=10)
    kept = put(files, b"aaaaa")
    with pytest.raises(errors.MediaTooLarge):
        put(files, bytes(11))
    assert kept.exists()


@pytest.mark.parametrize("name", ["..", "../x", "0" * 63, "/etc/hostname"])
def test_what_is_no_hash_is_no_file(tmp_path: Path, name: str) -> None:
    with pytest.raises(errors.ValueOutOfLimits):
        temporary.TemporaryFiles(tmp_path, budget=10).put(name, "", b"x")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_all_of_it_goes_when_the_process_ends(tmp_path: Path) -> None:
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path\n"
        "from tests.custom_nodes.package import load\n"
        "files = load('temporary').TemporaryFiles(Path(sys.argv[2]), 10)\n"
        "print(files.put('0' * 64, '.txt', b'x').exists())\n"
    )
    command = [sys.executable, "-c", program, str(ROOT), str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ended.stdout == "True\n"
    assert not list(tmp_path.iterdir())
