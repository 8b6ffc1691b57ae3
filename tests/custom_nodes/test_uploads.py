"""Only what a bridge uploaded, and no prompt needs, is removed from ComfyUI's input folder."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.custom_nodes.package import load

if TYPE_CHECKING:
    from pathlib import Path

    from tests.custom_nodes.comfyui import ComfyUI

uploads = load("uploads")
worker = load("worker")

NAMES = [f"{digit * 64}.png" for digit in "abc"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "input" / "comfy2mqtt"
    made.mkdir(parents=True)
    for name in NAMES:
        (made / name).write_bytes(b"a photo")
    return made


def removing(folder: Path, *prompts: Any) -> Any:
    return uploads.Uploads(lambda: str(folder.parent), lambda: prompts)


def left(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


def test_a_file_that_a_prompt_in_the_queue_names_stays(folder: Path) -> None:
    waiting = {
        "1": {"class_type": "LoadImage", "inputs": {"image": f"comfy2mqtt/{NAMES[0]} [input]"}},
        "2": {"class_type": "Other", "inputs": {"model": ["1", 0], "steps": 3}},
        "3": {"class_type": "Without"},
    }
    assert removing(folder, waiting).remove(NAMES) == 2
    assert left(folder) == NAMES[:1]


@pytest.mark.parametrize(
    "name",
    [
        "../example.png",
        "/etc/hostname",
        "sub/" + NAMES[0],
        NAMES[0] + "/../" + NAMES[1],
        NAMES[0].upper(),
        "photo.png",
        "",
        NAMES[0] + "\n",
        "..",
    ],
)
def test_no_name_leads_elsewhere(folder: Path, name: str) -> None:
    (folder.parent / "example.png").write_bytes(b"theirs")
    (folder / "photo.png").write_bytes(b"theirs")
    assert removing(folder).remove([name]) == 0
    assert (folder.parent / "example.png").exists()
    assert len(left(folder)) == 4


def test_old_files_are_swept_but_for_those_that_are_kept(folder: Path) -> None:
    (folder / "theirs.png").write_bytes(b"")
    hour_ago = time.time() - 3600
    for name in (*NAMES[:2], "theirs.png"):
        os.utime(folder / name, (hour_ago, hour_ago))
    assert removing(folder).sweep(1800, {NAMES[0]}) == 1
    assert left(folder) == [NAMES[0], NAMES[2], "theirs.png"]
    assert removing(folder.parent.parent / "nowhere" / "comfy2mqtt").sweep(0, ()) == 0


def test_a_clock_that_is_set_makes_no_file_old(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = removing(folder)
    real, ahead = time.time, 8 * 86_400.0
    monkeypatch.setattr(time, "time", lambda: real() + ahead)
    assert made.sweep(86_400, ()) == 0
    assert made.sweep(86_400, ()) == 0
    assert len(left(folder)) == 3
    # One that has run since then knows of no jump.
    assert removing(folder).sweep(86_400, ()) == 3


def test_a_link_is_removed_and_not_what_it_leads_to(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "theirs").write_bytes(b"theirs")
    (folder / NAMES[0]).unlink()
    (folder / NAMES[0]).symlink_to(tmp_path / "theirs")
    assert removing(folder).remove(NAMES[:1]) == 1
    assert (tmp_path / "theirs").read_bytes() == b"theirs"


def test_the_queue_of_old_and_new_servers_is_read() -> None:
    class Old:
        def get_current_queue(self) -> Any:
            return [(0, "id", {"1": {}}, {}, [])], [(1, "id2", {"2": {}}, {}, [])]

    class New(Old):
        def get_current_queue_volatile(self) -> Any:
            return [(0, "id", {"3": {}}, {}, [], {})], []

    assert worker.queued(Old()) == [{"1": {}}, {"2": {}}]
    assert worker.queued(New()) == [{"3": {}}]


@pytest.mark.comfyui
async def test_uploaded_files_are_removed_by_their_route(comfyui: ComfyUI) -> None:
    async def remove(body: Any) -> tuple[int, Any]:
        async with comfyui.http.post("/comfy2mqtt/uploads/remove", json=body) as response:
            return response.status, await response.json()

    form = {"image": b"x", "subfolder": "comfy2mqtt", "overwrite": "true"}
    import aiohttp  # noqa: PLC0415

    data = aiohttp.FormData()
    data.add_field("image", form["image"], filename=NAMES[0])
    data.add_field("subfolder", "comfy2mqtt")
    async with comfyui.http.post("/upload/image", data=data) as response:
        assert response.status == 200
    assert await remove({"names": NAMES}) == (200, {"removed": 1})
    assert (await remove({"names": "all"}))[0] == 400
    assert (await remove([]))[0] == 400
    assert (await remove({"older_than_s": 1e9, "keep": []}))[0] == 200
