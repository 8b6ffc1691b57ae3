from __future__ import annotations

import asyncio
from collections.abc import Collection
from pathlib import Path

import pytest

from bridge.comfyui import cleanup
from bridge.comfyui.cleanup import AT_ONCE, MOST, Cleanup
from bridge.comfyui.errors import ComfyUIUnreachable
from tests.support.patience import PATIENCE_S


class ComfyUI:
    """Deletes what it is told to, after some failures."""

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
