"""Files in a folder of workflows that are none, or not yet: they harm nothing."""

from __future__ import annotations

import errno
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from bridge.workflows import folder
from bridge.workflows.folder import BrokenFile, WorkflowFolder
from bridge.workflows.source import WorkflowSource
from tests.workflows.graphs import PLAIN

GOOD = json.dumps(PLAIN).encode()


def read(place: Path) -> dict[str, WorkflowSource | BrokenFile]:
    return {found.file: found for found in WorkflowFolder(place).read()}


def huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(200 * 1024**3)  # with nothing in it, it takes no room


def endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def looping(path: Path) -> None:
    path.symlink_to(path)


def dangling(path: Path) -> None:
    path.symlink_to(path.with_name("nothing.there"))


ODD = [os.mkfifo, Path.mkdir, huge, endless, looping, dangling]


@pytest.mark.parametrize("make", ODD, ids=lambda made: made.__name__)
@pytest.mark.parametrize("name", ["odd.json", "odd.png", "good.toml"])
def test_what_is_no_file_is_broken_and_holds_up_nothing(
    tmp_path: Path, make: Callable[[Path], object], name: str
) -> None:
    (tmp_path / "good.json").write_bytes(GOOD)
    (tmp_path / "other.json").write_bytes(GOOD)
    make(tmp_path / name)
    found = read(tmp_path)
    assert isinstance(found["other.json"], WorkflowSource)
    # A sidecar that cannot be read has its workflow broken, as one that is wrong does.
    broken = [each for each in found.values() if isinstance(each, BrokenFile)]
    assert [each.workflow for each in broken] == [name.partition(".")[0]]


def test_a_socket_is_broken_too(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(tmp_path / "odd.json"))
        assert isinstance(read(tmp_path)["odd.json"], BrokenFile)


def test_a_link_to_a_file_is_that_file(tmp_path: Path) -> None:
    """As in a folder that Kubernetes mounts."""
    (tmp_path / "..data").mkdir()
    (tmp_path / "..data" / "good.json").write_bytes(GOOD)
    (tmp_path / "good.json").symlink_to("..data/good.json")
    assert isinstance(read(tmp_path)["good.json"], WorkflowSource)


def test_a_file_that_changes_while_it_is_read_is_read_again_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "good.json"
    path.write_bytes(GOOD)
    reading = os.fstat
    writes = [GOOD[: len(GOOD) // 2]]

    def written_meanwhile(handle: int) -> os.stat_result:
        found = reading(handle)
        if writes:
            path.write_bytes(writes.pop())
        return found

    there = WorkflowFolder(tmp_path)
    monkeypatch.setattr(os, "fstat", written_meanwhile)
    (found,) = there.read()
    assert isinstance(found, BrokenFile)
    assert "changed while it was read" in found.reason
    path.write_bytes(GOOD)
    (found,) = there.read()
    assert isinstance(found, WorkflowSource)


def test_a_process_without_a_file_left_loses_no_workflow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def none_left(*_: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(folder, "_is_settled", lambda *_: True)
    (tmp_path / "good.json").write_bytes(GOOD)
    there = WorkflowFolder(tmp_path)
    with monkeypatch.context() as full:
        full.setattr(folder, "_bytes", none_left)
        (broken,) = there.read()
        assert isinstance(broken, BrokenFile)
        assert broken.reason == "cannot be read: Too many open files"
    found = there.read()
    assert [each.file for each in found if isinstance(each, WorkflowSource)] == ["good.json"]
    with monkeypatch.context() as full:
        full.setattr(Path, "iterdir", none_left)
        assert [there.read() for _ in range(3)] == [found] * 3
    assert [each.message for each in caplog.records] == [
        f"cannot read the folder {tmp_path}: Too many open files"
    ]
    (tmp_path / "good.json").unlink()
    assert there.read() == []
