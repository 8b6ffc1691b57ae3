from __future__ import annotations

import asyncio
import os
from collections.abc import Collection
from pathlib import Path

import pytest

from bridge.comfyui import cleanup
from bridge.comfyui.cleanup import AT_ONCE, MOST, Cleanup, sweep_attempts
from bridge.comfyui.errors import ComfyUIUnreachable
from tests.support.patience import PATIENCE_S


class ComfyUI:
    """Deletes prompts' data, after some failures."""

    def __init__(self, *, failures: int = 0) -> None:
        self.failures = failures
        self.requests: asyncio.Queue[list[str]] = asyncio.Queue()

    async def forget(self, prompt_ids: Collection[str]) -> None:
        if self.failures:
            self.failures -= 1
            raise ComfyUIUnreachable("no connection", sent=False)
        self.requests.put_nowait(list(prompt_ids))


async def test_many_prompts_go_in_one_request() -> None:
    comfyui = ComfyUI()
    cleaning = Cleanup(comfyui.forget)
    for number in range(AT_ONCE + 1):
        cleaning.add(str(number), None)
    assert await cleaning.finish()
    assert [len(comfyui.requests.get_nowait()) for _ in range(2)] == [AT_ONCE, 1]
    assert await cleaning.finish()
    assert comfyui.requests.empty()


async def test_files_go_whether_comfyui_answers_or_not(tmp_path: Path) -> None:
    folder = tmp_path / "prompt"
    folder.mkdir()
    (folder / "image.png").touch()
    cleaning = Cleanup(ComfyUI(failures=1).forget)
    cleaning.add("a", folder)
    cleaning.add("b", tmp_path / "nothing")
    assert not await cleaning.finish()
    assert not folder.exists()


async def test_what_failed_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cleanup, "PAUSE_S", 0.0)
    monkeypatch.setattr(cleanup, "RETRY_S", 0.0)
    comfyui = ComfyUI(failures=3)
    cleaning = Cleanup(comfyui.forget)
    running = asyncio.create_task(cleaning.run())
    cleaning.add("a", None)
    async with asyncio.timeout(PATIENCE_S):
        assert await comfyui.requests.get() == ["a"]
        cleaning.add("b", None)
        assert await comfyui.requests.get() == ["b"]
    running.cancel()


async def test_of_very_many_the_oldest_are_left_to_comfyui() -> None:
    comfyui = ComfyUI(failures=1)
    cleaning = Cleanup(comfyui.forget)
    for number in range(MOST + 1):
        cleaning.add(str(number), None)
    assert not await cleaning.finish()
    assert await cleaning.finish()
    assert comfyui.requests.get_nowait()[0] == "1"


def test_folders_of_attempts_that_are_over_are_swept_and_nothing_else(tmp_path: Path) -> None:
    old, followed, new = (f"{digit * 8}-1111-2222-3333-{digit * 12}" for digit in "abc")
    outside = tmp_path / "outside"
    root = tmp_path / "root"
    for folder in (root / old / "sub", root / followed, root / new, root / "mine", outside):
        folder.mkdir(parents=True)
        (folder / "a.png").write_bytes(b"x")
    link = root / f"{'d' * 8}-1111-2222-3333-{'d' * 12}"
    link.symlink_to(outside)
    for name in (old, followed, "mine"):
        os.utime(root / name, (1, 1))
    os.utime(link, (1, 1), follow_symlinks=False)
    assert sweep_attempts(root, {followed}, 1_000.0) == 1
    assert sorted(each.name for each in root.iterdir()) == sorted(
        [followed, new, "mine", link.name]
    )
    assert (outside / "a.png").exists()
    assert sweep_attempts(tmp_path / "none", set(), 1_000.0) == 0
