from __future__ import annotations

import asyncio
import codecs
import json
import os
from typing import Any

import msgspec
import pytest
from msgspec import UNSET

from bridge.contract.errors import ComfyUIUnavailable, InvalidInput, UnknownWorkflow
from bridge.workflows import definition, folder, source
from bridge.workflows.library import VERSIONS_KEPT, Changes, Library
from bridge.workflows.objectinfo import ObjectInfo
from tests.workflows import test_embedded
from tests.workflows.graphs import INFO, NAMED, PLAIN
from tests.workflows.shelf import Shelf

INFO_BYTES = msgspec.json.encode(INFO.raw)
# A drawing of the page: one node, which gives its image to another.
DRAWING = {
    "nodes": [
        {
            "id": 1,
            "type": "LoadImage",
            "inputs": [],
            "outputs": [{"name": "IMAGE", "type": "IMAGE", "links": [1]}],
            "widgets_values": ["there.png"],
        },
        {
            "id": 2,
            "type": "SaveImage",
            "inputs": [{"name": "images", "type": "IMAGE", "link": 1}],
            "outputs": [],
            "widgets_values": ["x"],
        },
    ],
    "links": [[1, 1, 0, 2, 0, "IMAGE"]],
    "version": 0.4,
}


def colours(value: int) -> dict[str, Any]:
    return {**PLAIN, "9": {"class_type": "Note", "inputs": {"value": value}}}


async def test_files_become_workflows_by_name(shelf: Shelf) -> None:
    shelf.put("my first.json", PLAIN)
    shelf.put("second.json", NAMED)
    shelf.put("notes.txt", "nothing to see")
    shelf.put(".hidden.json", "{")
    changes = await shelf.library.open()
    assert [each.name for each in changes.updated] == ["my_first", "second"]
    assert changes.broken == []
    assert shelf.library.get("second").runnable is None
    changes_again = await shelf.library.reload()
    assert changes_again == Changes([], [], [], [])


async def test_a_broken_file_harms_no_other_and_is_reported_once(shelf: Shelf) -> None:
    shelf.put("good.json", PLAIN)
    shelf.put("bad.json", '{\n "1": {\n  "inputs": ]\n}')
    shelf.put("node.json", {"7": {"class_type": "X"}})
    shelf.put("empty.json", "")
    changes = await shelf.library.open()
    told = {each.file: each for each in changes.broken}
    assert told["bad.json"].line == 3
    assert told["node.json"].node == "7"
    assert told["empty.json"].reason == "the file is empty"
    assert list(shelf.library.workflows) == ["good"]
    assert (await shelf.library.reload()).broken == []
    with pytest.raises(UnknownWorkflow, match="its file is broken: not valid JSON"):
        shelf.library.get("bad")
    shelf.put("bad.json", PLAIN)
    assert [each.name for each in (await shelf.library.reload()).updated] == ["bad"]
    assert "bad.json" not in {each.file for each in shelf.library.broken}


async def test_a_file_at_which_the_bridge_itself_fails_harms_no_other(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail_at(function: Any, wanted: str) -> Any:
        def failing(name: str, *rest: Any, **named: Any) -> Any:
            if wanted in name:
                raise MemoryError
            return function(name, *rest, **named)

        return failing

    monkeypatch.setattr(folder, "_is_settled", lambda *_: True)
    monkeypatch.setattr(source, "read", fail_at(source.read, "unread"))
    monkeypatch.setattr(source, "build", fail_at(definition.build, "unbuilt"))
    for name in ("good", "unread", "unbuilt"):
        shelf.put(f"{name}.json", PLAIN)
    changes = await shelf.library.open()
    assert list(shelf.library.workflows) == ["good"]
    assert {each.file for each in changes.broken} == {"unread.json", "unbuilt.json"}
    assert all("internal error (MemoryError)" in each.reason for each in changes.broken)
    assert [record.exc_info is not None for record in caplog.records] == [True, True]
    # That another file changes is no reason to fail at these again.
    shelf.put("other.json", PLAIN)
    assert [each.name for each in (await shelf.library.reload()).updated] == ["other"]
    assert shelf.library.broken == changes.broken
    assert len(caplog.records) == 2


async def test_a_text_that_was_cut_within_an_emoji_breaks_no_file(shelf: Shelf) -> None:
    titled = json.loads(json.dumps(PLAIN))
    next(iter(titled.values()))["_meta"] = {"title": "a boat \ud83d"}
    shelf.put("cut.json", json.dumps(titled))
    await shelf.library.open()
    assert list(shelf.library.workflows) == ["cut"]


@pytest.mark.parametrize("depth", [301, 960, 975, 985])
async def test_a_file_that_is_nested_deeply_is_broken_whatever_reads_it(
    shelf: Shelf, depth: int
) -> None:
    deep = b"[" * depth + b"]" * depth
    drawing = json.dumps(DRAWING).encode()
    shelf.put("value.json", drawing.replace(b'["there.png"]', b'["there.png", ' + deep + b"]"))
    shelf.put("extra.json", drawing.replace(b'"version"', b'"extra": ' + deep + b', "version"'))
    shelf.put("plain.json", json.dumps(PLAIN).encode().replace(b"{", b'{"x": ' + deep + b", ", 1))
    await shelf.library.open()
    await shelf.library.update("one", INFO_BYTES)
    assert shelf.library.workflows == {}
    for broken in shelf.library.broken:
        assert "nested" in broken.reason, broken
    inline: dict[str, Any] = {**DRAWING, "extra": []}
    for _ in range(depth):
        inline["extra"] = [inline["extra"]]
    with pytest.raises(InvalidInput, match="nested"):
        shelf.library.inline(inline)


async def test_what_was_good_stays_in_use_while_its_file_is_broken(shelf: Shelf) -> None:
    shelf.put("demo.json", PLAIN)
    await shelf.library.open()
    version = shelf.library.get("demo").version
    shelf.put("demo.json", '{"1": ')
    changes = await shelf.library.reload()
    assert [each.file for each in changes.broken] == ["demo.json"]
    assert changes.gone == []
    assert shelf.library.get("demo").version == version
    shelf.remove("demo.json")
    assert (await shelf.library.reload()).gone == ["demo"]


async def test_two_files_of_one_name_are_not_both_taken(shelf: Shelf) -> None:
    shelf.put("a b.json", PLAIN)
    shelf.put("a_b.json", NAMED)
    (fault,) = (await shelf.library.open()).broken
    assert (fault.file, fault.reason) == ("a_b.json", "its name 'a_b' is taken by a b.json")


@pytest.mark.parametrize("racy_s", [-10.0, 10.0], ids=["not read again", "read again"])
async def test_what_has_not_changed_is_not_built_again(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch, racy_s: float
) -> None:
    monkeypatch.setattr(folder, "_RACY_S", racy_s)
    shelf.put("good.json", PLAIN)
    shelf.put("waits.json", DRAWING)
    shelf.put("broken.json", {"1": {}})
    shelf.put("side.json", PLAIN)
    shelf.put("side.toml", "[inputs.nonsense]\nhide = true")
    built: list[str] = []
    build = source.WorkflowSource.build

    def noted(self: source.WorkflowSource, name: str, info: ObjectInfo | None) -> Any:
        built.append(name)
        return build(self, name, info)

    monkeypatch.setattr(source.WorkflowSource, "build", noted)
    for expected in (["broken", "good", "side", "waits"], []):
        await shelf.library.reload()
        assert built == expected
        built.clear()
    await shelf.library.update("one", INFO_BYTES)
    assert shelf.library.waiting == []
    assert [each.file for each in shelf.library.broken] == ["broken.json", "side.toml"]
    built.clear()
    assert await shelf.library.reload() == Changes([], [], [], [])
    assert built == []


async def test_a_drawing_waits_for_a_comfyui_and_is_then_converted(shelf: Shelf) -> None:
    shelf.put("drawn.json", DRAWING)
    changes = await shelf.library.open()
    assert (changes.updated, changes.broken, changes.waiting) == ([], [], ["drawn.json"])
    with pytest.raises(ComfyUIUnavailable, match="when a ComfyUI has reported"):
        shelf.library.get("drawn")
    learnt = await shelf.library.update("one", INFO_BYTES)
    assert learnt is not None
    assert [each.name for each in learnt.updated] == ["drawn"]
    assert shelf.library.waiting == []
    workflow = shelf.library.get("drawn")
    assert workflow.graph.nodes["2"].inputs == {"filename_prefix": "x", "images": ["1", 0]}
    # Kept on disk: the next start needs no ComfyUI.
    again = Library(shelf.folder, shelf.cache, ["one", "two"])
    assert (await again.open()).waiting == []
    assert again.get("drawn") == workflow


async def test_what_counts_as_no_output_at_comfyui_is_none_whatever_its_node_info_says(
    shelf: Shelf,
) -> None:
    shelf.put("odd.json", {"1": {"class_type": "Odd", "inputs": {}}})
    await shelf.library.open()
    info = msgspec.json.encode({"Odd": {"input": {}, "output": [], "output_node": True}})
    changes = await shelf.library.update("one", info, b"", ("Odd", "Unknown"))
    assert changes is not None
    (fault,) = changes.broken
    assert "no output node" in fault.reason
    assert await shelf.library.update("one", info, b"", ("Odd", "Unknown")) is None
    changes = await shelf.library.update("one", info)
    assert changes is not None
    assert [each.name for each in changes.updated] == ["odd"]


async def test_a_drawing_that_cannot_be_converted_says_at_which_node(shelf: Shelf) -> None:
    broken = json.loads(json.dumps(DRAWING))
    broken["links"] = []
    shelf.put("drawn.json", broken)
    await shelf.library.open()
    changes = await shelf.library.update("one", INFO_BYTES)
    assert changes is not None
    (fault,) = changes.broken
    assert (fault.file, fault.node) == ("drawn.json", "2")
    assert "a link that is not there" in fault.reason


@pytest.mark.parametrize("which", [[0], [1], [0, 1]])
async def test_a_drawing_with_nodes_that_are_not_installed_says_which(
    shelf: Shelf, which: list[int]
) -> None:
    unknown = json.loads(json.dumps(DRAWING))
    for index in which:
        unknown["nodes"][index]["type"] = f"Unheard{index}"
    shelf.put("drawn.json", unknown)
    shelf.put("drawn.toml", '[inputs.image]\ntitle = "A"\n[outputs.SaveImage]\ntitle = "B"')
    await shelf.library.open()
    changes = await shelf.library.update("one", INFO_BYTES)
    assert changes is not None
    assert changes.broken == []
    found = shelf.library.get("drawn").definition()
    assert found.runnable is False
    assert found.missing is not UNSET
    assert found.missing.nodes == [f"Unheard{index}" for index in which]


async def test_a_drawing_can_be_run_once_its_nodes_are_installed(shelf: Shelf) -> None:
    unknown = json.loads(json.dumps(DRAWING))
    unknown["nodes"][0]["type"] = "Unheard"
    shelf.put("drawn.json", unknown)
    await shelf.library.open()
    await shelf.library.update("one", INFO_BYTES)
    info = {**INFO.raw, "Unheard": INFO.raw["LoadImage"]}
    changes = await shelf.library.update("one", msgspec.json.encode(info))
    assert changes is not None
    assert [each.name for each in changes.updated] == ["drawn"]
    assert shelf.library.get("drawn").runnable


@pytest.mark.parametrize("suffix", [".png", ".webp"])
async def test_a_picture_is_a_workflow_file(shelf: Shelf, suffix: str) -> None:
    data = test_embedded.saved_png() if suffix == ".png" else test_embedded.saved_webp()
    shelf.put(f"picture{suffix}", data)
    await shelf.library.open()
    assert list(shelf.library.get("picture").graph.nodes) == ["1"]


async def test_a_sidecar_belongs_to_the_version(shelf: Shelf) -> None:
    shelf.put("demo.json", PLAIN)
    await shelf.library.open()
    alone = shelf.library.get("demo")
    shelf.put("demo.toml", 'title = "Barns"')
    (dressed,) = (await shelf.library.reload()).updated
    assert dressed.title == "Barns"
    assert dressed.version != alone.version
    shelf.remove("demo.toml")
    (bare,) = (await shelf.library.reload()).updated
    assert bare == alone


async def test_a_broken_sidecar_breaks_only_its_workflow(shelf: Shelf) -> None:
    shelf.put("demo.json", PLAIN)
    shelf.put("demo.toml", "title = 'x'\nnonsense = 1")
    shelf.put("other.json", PLAIN)
    shelf.put("lonely.toml", "title = 'x'")
    shelf.put("drawn.json", PLAIN)
    shelf.put("drawn.toml", "[inputs.nonsense]\nhide = true")
    changes = await shelf.library.open()
    assert [each.name for each in changes.updated] == ["other"]
    told = {each.file: each for each in changes.broken}
    assert told["demo.toml"].line == 2
    assert "no workflow file" in told["lonely.toml"].reason
    # The inputs are certain only when a ComfyUI has reported its nodes.
    assert changes.waiting == ["drawn.json"]
    learnt = await shelf.library.update("one", INFO_BYTES)
    assert learnt is not None
    assert [(each.file, each.line) for each in learnt.broken] == [("drawn.toml", 1)]
    with pytest.raises(UnknownWorkflow, match="its file is broken"):
        shelf.library.get("drawn")


async def test_workflows_are_described_by_what_other_bridges_have_too(shelf: Shelf) -> None:
    shelf.put("plain.json", PLAIN)
    await shelf.library.open()
    await shelf.library.update("one", b"{}")
    assert shelf.library.get("plain").missing is not None
    assert shelf.library.get("plain").definition().runnable is False
    changes = await shelf.library.set_others({"b-main": INFO}, ["b-main"])
    assert [each.name for each in changes.updated] == ["plain"]
    assert shelf.library.get("plain").definition().runnable is True
    needs = shelf.library.catalogue.needs(PLAIN)
    assert shelf.library.can_run("b-main", needs)
    assert not shelf.library.can_run("one", needs)
    # What ours report later leaves the others where they are.
    await shelf.library.update("one", b'{"Other": {}}')
    assert shelf.library.can_run("b-main", needs)
    assert list(shelf.library.reports()) == ["one"]
    changes = await shelf.library.set_others({}, ())
    assert [each.name for each in changes.updated] == ["plain"]
    assert not shelf.library.can_run("b-main", needs)


async def test_older_versions_can_be_had_for_a_while(shelf: Shelf) -> None:
    versions = []
    for value in range(VERSIONS_KEPT + 1):
        shelf.put("demo.json", colours(value))
        await shelf.library.reload()
        versions.append(shelf.library.get("demo").version)
    assert len(set(versions)) == VERSIONS_KEPT + 1
    for value, version in list(enumerate(versions))[1:]:
        found = shelf.library.get("demo", version)
        assert found.version == version
        assert found.graph.nodes["9"].inputs["value"] == value
    with pytest.raises(UnknownWorkflow) as caught:
        shelf.library.get("demo", versions[0])
    assert caught.value.details["version"] == versions[-1]
    assert caught.value.details["allowed"] == versions[1:]
    await shelf.library.update("one", INFO_BYTES)
    assert shelf.library.get("demo", versions[2]).missing is not None
    shelf.remove("demo.json")
    await shelf.library.reload()
    with pytest.raises(UnknownWorkflow, match="no such workflow"):
        shelf.library.get("demo", versions[2])


async def test_long_lists_of_choices_are_kept_while_a_workflow_names_them(shelf: Shelf) -> None:
    raw = json.loads(INFO_BYTES)
    many = [f"m{index}" for index in range(60)]
    raw["Loader"]["input"]["required"] = {"ckpt_name": [many]}
    document = {**PLAIN, "1": {"class_type": "Loader", "inputs": {"ckpt_name": "m1"}}}
    shelf.put("demo.json", document)
    await shelf.library.open()
    assert shelf.library.choices() == {}
    await shelf.library.update("one", msgspec.json.encode(raw))
    assert shelf.library.choices() == {"Loader-ckpt_name": tuple(many)}
    shelf.remove("demo.json")
    await shelf.library.reload()
    assert shelf.library.choices() == {}


async def test_a_file_rewritten_at_once_with_the_same_size_is_read_again(shelf: Shelf) -> None:
    shelf.put("demo.json", colours(1))
    await shelf.library.open()
    before = (shelf.folder / "demo.json").stat()
    shelf.put("demo.json", colours(2))
    os.utime(shelf.folder / "demo.json", ns=(before.st_atime_ns, before.st_mtime_ns))
    (changed,) = (await shelf.library.reload()).updated
    assert changed.graph.nodes["9"].inputs["value"] == 2


async def test_a_folder_that_goes_takes_its_workflows_along(shelf: Shelf) -> None:
    shelf.put("demo.json", PLAIN)
    await shelf.library.open()
    shelf.remove("demo.json")
    shelf.folder.rmdir()
    assert (await shelf.library.reload()).gone == ["demo"]


async def test_names_of_other_scripts_are_workflows_of_their_own(shelf: Shelf) -> None:
    for file in ("雪景.json", "雪山.json", "Stück.json", "Straße.json"):
        shelf.put(file, PLAIN)
    changes = await shelf.library.open()
    assert changes.broken == []
    assert {each.title for each in changes.updated} == {"雪景", "雪山", "Stück", "Straße"}
    names = {each.title: each.name for each in changes.updated}
    assert shelf.library.get(names["雪景"]).title == "雪景"
    shelf.remove("雪山.json")
    await shelf.library.reload()
    assert shelf.library.get(names["雪景"]).title == "雪景"


async def test_a_file_whose_name_is_not_utf8_is_reported_in_text(shelf: Shelf) -> None:
    shelf.put(os.fsdecode(b"caf\xe9.json"), "{")
    shelf.put(os.fsdecode(b"no\xebl.json"), DRAWING)
    shelf.put(os.fsdecode(b"beside\xe9.toml"), "")
    changes = await shelf.library.open()
    assert changes.waiting == shelf.library.waiting == ["no?l.json"]
    assert sorted(each.details["file"] for each in changes.broken) == ["beside?.toml", "caf?.json"]
    assert all(each.message.startswith(each.details["file"]) for each in changes.broken)


async def test_what_was_cut_short_while_it_was_learned_is_learned_the_next_time(
    shelf: Shelf,
) -> None:
    await shelf.library.open()
    async with shelf.library._changing:
        learning = asyncio.create_task(shelf.library.update("one", INFO_BYTES))
        while not (shelf.cache / "one.json").exists():  # noqa: ASYNC110 - a thread writes it
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        learning.cancel()
        await asyncio.wait([learning])
    assert await shelf.library.update("one", INFO_BYTES) is not None
    assert shelf.library.catalogue.merged is not None


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-be-mark", "nul", "crlf"])
async def test_files_are_read_in_the_encodings_of_editors(shelf: Shelf, encoding: str) -> None:
    document = json.dumps(PLAIN, indent=1, ensure_ascii=False)
    for name, text in (("demo.json", document), ("demo.toml", 'title = "Stück 雪"\n')):
        shelf.put(name, encoded(text, encoding))
    (found,) = (await shelf.library.reload()).updated
    assert (found.name, found.title) == ("demo", "Stück 雪")


def encoded(text: str, encoding: str) -> bytes:
    match encoding:
        case "utf-16-be-mark":
            return codecs.BOM_UTF16_BE + text.encode("utf-16-be")
        case "nul":
            return f"{text}\0".encode()
        case "crlf":
            return text.replace("\n", "\r\n").encode()
    return text.encode(encoding)


async def test_what_counts_as_no_output_is_kept_for_the_next_start(shelf: Shelf) -> None:
    shelf.put("odd.json", {"1": {"class_type": "Odd", "inputs": {}}})
    await shelf.library.open()
    info = msgspec.json.encode({"Odd": {"input": {}, "output": [], "output_node": True}})
    report = ("one", info, b"", ("Odd",))
    assert await shelf.library.update(*report) is not None
    assert shelf.library.broken
    again = Library(shelf.folder, shelf.cache, ["one"])
    await again.open()
    assert again.broken == shelf.library.broken
    # It reports the same: nothing is drawn again.
    assert await again.update(*report) is None


@pytest.mark.parametrize("kept", [b"{", b'["\xff"]'])
async def test_a_report_that_was_kept_and_cannot_be_read_is_asked_for_again(
    shelf: Shelf, kept: bytes
) -> None:
    shelf.put("demo.json", PLAIN)
    await shelf.library.open()
    await shelf.library.update("one", INFO_BYTES)
    (shelf.cache / "one.no_outputs.json").write_bytes(kept)
    again = Library(shelf.folder, shelf.cache, ["one"])
    await again.open()
    assert again.catalogue.merged is None
    assert await again.update("one", INFO_BYTES) is not None
