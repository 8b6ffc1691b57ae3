from __future__ import annotations

import os
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from bridge.contract.errors import Forbidden
from bridge.sinks import folder as module
from bridge.sinks.folder import FolderWriter
from bridge.sinks.http import Source


@pytest.fixture
def writer() -> Iterator[FolderWriter]:
    found = FolderWriter()
    yield found
    found.close()


def source(*chunks: bytes, then: BaseException | None = None) -> Source:
    async def chunked() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk
        if then is not None:
            raise then

    return chunked


async def test_a_file_is_there_whole_and_replaces_one_before_it(
    writer: FolderWriter, tmp_path: Path
) -> None:
    await writer.write(tmp_path, "a/b/x.png", source(b"old"))
    await writer.write(tmp_path, "a/b/x.png", source(b"ne", b"w"))
    assert (tmp_path / "a/b/x.png").read_bytes() == b"new"
    assert [each.name for each in (tmp_path / "a/b").iterdir()] == ["x.png"]


async def test_half_a_file_is_never_there(writer: FolderWriter, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="full"):
        await writer.write(tmp_path, "x.png", source(b"half", then=OSError(28, "full")))
    writer._threads.shutdown()  # what it does behind the error is done then
    assert os.listdir(tmp_path) == []  # noqa: PTH208 - no loop waits for it


async def test_a_folder_that_is_not_mounted_is_not_made(
    writer: FolderWriter, tmp_path: Path
) -> None:
    with pytest.raises(OSError, match="the folder is not there"):
        await writer.write(tmp_path / "disk", "x.png", source(b"a"))
    assert os.listdir(tmp_path) == []  # noqa: PTH208 - no loop waits for it


async def test_a_link_that_leads_out_is_not_followed(writer: FolderWriter, tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "inside/link").symlink_to(tmp_path / "outside")
    with pytest.raises(Forbidden, match="leads out"):
        await writer.write(tmp_path / "inside", "link/x.png", source(b"a"))
    assert list((tmp_path / "outside").iterdir()) == []


async def test_a_link_in_a_files_place_is_replaced_not_followed(
    writer: FolderWriter, tmp_path: Path
) -> None:
    (tmp_path / "inside").mkdir()
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "inside/x.png").symlink_to(tmp_path / "secret")
    await writer.write(tmp_path / "inside", "x.png", source(b"a"))
    assert (tmp_path / "secret").read_text() == "secret"
    assert (tmp_path / "inside/x.png").read_bytes() == b"a"


async def test_a_folder_that_hangs_is_left(
    writer: FolderWriter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STALL_S", 0.2)
    ends = threading.Event()

    class Hangs:
        def write(self, _: bytes) -> None:
            ends.wait()

    monkeypatch.setattr(module, "_opened", lambda *_: Hangs())
    try:
        with pytest.raises(TimeoutError):
            await writer.write(tmp_path, "x.png", source(b"a"))
    finally:
        ends.set()
