"""Attempts at a ComfyUI that has no room on its disk."""

from __future__ import annotations

import shutil
from collections.abc import AsyncGenerator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from bridge.comfyui import events
from bridge.comfyui.errors import UnexpectedAnswer
from bridge.comfyui.instance import Instance
from bridge.comfyui.settings import AttachConfig, SuperviseConfig
from bridge.jobs.attempt import Attempt, Failure, Retry
from tests.jobs.drafts import PLAN, draft


class Comfy:
    """It fails as its test says: by an error, or by an event of the prompt."""

    name = "gpu"
    api_key = None

    def __init__(self, *, full: bool, fails: Exception | events.Failed) -> None:
        self.disk_is_full = full
        self.client = self
        self.view = None
        self._fails = fails

    async def execute(self, *_: object, **__: object) -> AsyncGenerator[events.Event, None]:
        if isinstance(self._fails, Exception):
            raise self._fails
        yield self._fails


async def ended(comfyui: Comfy) -> Any:
    attempt = Attempt(
        draft("j1").job,
        cast("Any", comfyui),
        observer=cast("Any", SimpleNamespace(output=None)),
        load_media=cast("Any", None),
        timeout_s=60.0,
        silence_s=60.0,
        adopt=False,
        began=False,
    )
    return await attempt.run(PLAN)


@pytest.mark.parametrize("full", [False, True])
async def test_an_answer_that_fails_counts_unless_the_disk_is_full(*, full: bool) -> None:
    error = UnexpectedAnswer("POST /upload/image", status=500, excerpt="")
    ending = await ended(Comfy(full=full, fails=error))
    assert isinstance(ending, Retry)
    assert (ending.no_room, ending.counts) == (full, not full)


@pytest.mark.parametrize(
    ("message", "kind"),
    [("[Errno 28] No space left on device", Retry), ("[Errno 2] No such file", Failure)],
)
async def test_a_node_that_finds_no_room_does_not_fail_its_job(message: str, kind: type) -> None:
    event = events.Failed("OSError", message, "9", "SaveImage", ())
    ending = await ended(Comfy(full=False, fails=event))
    assert isinstance(ending, kind)
    assert not isinstance(ending, Retry) or ending.no_room


def test_the_room_of_a_supervised_ones_disk_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    supervised = Instance(
        "gpu", SuperviseConfig(tmp_path, Path("python3")), folder=tmp_path / "comfyui"
    )
    attached = Instance("other", AttachConfig("http://127.0.0.1:9", None), folder=tmp_path)
    (tmp_path / "comfyui" / "output").mkdir(parents=True)
    usage = shutil.disk_usage(tmp_path)
    for free, full in ((10**9, False), (10**6, True)):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: usage._replace(free=free))
        assert supervised.disk_is_full is full
        assert not attached.disk_is_full
