from __future__ import annotations

import hashlib
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.custom_nodes.comfyui import MEDIA_BYTES, Refused
from tests.custom_nodes.graphs import node

if TYPE_CHECKING:
    from tests.custom_nodes.comfyui import ComfyUI, Graph

pytestmark = pytest.mark.comfyui


def file_graph(file: str, **inputs: Any) -> Graph:
    return {
        "1": node("Comfy2MQTTFileInput", name="table", file=file, **inputs),
        "2": node("PreviewAny", source=["1", 0]),
    }


async def path_of(comfyui: ComfyUI, data: bytes, **inputs: Any) -> Path:
    run = await comfyui.run(file_graph(await comfyui.put_media(data), **inputs))
    assert run.succeeded, run.error
    return Path(run.ui("2")["text"][0])


async def test_a_file_has_its_bytes_below_comfyuis_own_temporary_folder(comfyui: ComfyUI) -> None:
    path = await path_of(comfyui, b"a,b\n1,2\n")
    assert path.read_bytes() == b"a,b\n1,2\n"
    assert path.name == hashlib.sha256(b"a,b\n1,2\n").hexdigest()
    assert comfyui.server.temporary in path.parents


async def test_nobody_else_can_read_the_folder(comfyui: ComfyUI) -> None:
    path = await path_of(comfyui, b"private")
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


async def test_the_name_ends_as_the_graph_says(comfyui: ComfyUI) -> None:
    path = await path_of(comfyui, b"a table", suffix=".csv")
    assert path.suffix == ".csv"
    assert path.stem == hashlib.sha256(b"a table").hexdigest()


@pytest.mark.parametrize("suffix", ["csv", "/../x", ".a/b", ".", ".a.b", ".\u0661", ".a\n"])
async def test_no_other_path_can_be_asked_for(comfyui: ComfyUI, suffix: str) -> None:
    with pytest.raises(Refused):
        await comfyui.submit(file_graph(await comfyui.put_media(b"x"), suffix=suffix))


async def test_a_path_that_comes_through_a_link_is_none_either(comfyui: ComfyUI) -> None:
    graph = file_graph(await comfyui.put_media(b"x"), suffix=["3", 0])
    graph["3"] = node("Comfy2MQTTTextInput", name="suffix", value="/../../x")
    run = await comfyui.run(graph)
    assert "no name for a file" in run.error["exception_message"]


async def test_the_same_file_again_comes_from_comfyuis_cache(comfyui: ComfyUI) -> None:
    graph = file_graph(await comfyui.put_media(b"cached"))
    await comfyui.run(graph)
    (cached,) = (await comfyui.run(graph)).of("execution_cached")
    assert "1" in cached["nodes"]


async def test_a_file_that_had_to_make_room_is_written_again(comfyui: ComfyUI) -> None:
    first = await path_of(comfyui, b"the first")
    for number in range(2):
        await path_of(comfyui, bytes([number]) * (MEDIA_BYTES - 10))
    assert not first.exists()
    assert (await path_of(comfyui, b"the first")).read_bytes() == b"the first"
    assert first.exists()


async def test_a_file_that_somebody_removed_is_written_again(comfyui: ComfyUI) -> None:
    first = await path_of(comfyui, b"removed")
    first.unlink()
    assert (await path_of(comfyui, b"removed")).read_bytes() == b"removed"


async def test_without_a_file_the_job_fails(comfyui: ComfyUI) -> None:
    run = await comfyui.run(file_graph(""))
    assert "Input 'table': no file is given" in run.error["exception_message"]
