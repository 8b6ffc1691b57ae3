from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from bridge.adapters.mqtt.retained_images import RetainedImage, RetainedImages, SharedImages
from bridge.jobs.journal import Journal
from bridge.mqtt import PacketTooLarge

LIMIT = 100


class Publisher:
    """A broker's retained messages, as far as they fit."""

    def __init__(self) -> None:
        self.held: dict[str, bytes] = {}

    def image_room(self, _topic: str, _content_type: str, _about: object) -> int | None:
        return LIMIT

    def image(self, topic: str, data: bytes, _content_type: str, _about: object) -> None:
        if len(data) > LIMIT:
            raise PacketTooLarge(len(data), LIMIT)
        self.held[topic] = data

    def publish(self, topic: str, _message: None, *, retain: bool) -> None:
        assert retain
        self.held.pop(topic, None)


def images_in(folder: Path) -> tuple[RetainedImages, Publisher]:
    publisher = Publisher()
    return RetainedImages(folder, cast("Any", publisher), lambda name: f"display/{name}"), publisher


def picture(size: int = 10, letter: str = "a") -> RetainedImage:
    return RetainedImage(letter.encode() * size, "image/png", [("job_id", letter)])


def never(name: str, error: PacketTooLarge) -> None:
    raise AssertionError(name, error)


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


async def test_a_broker_that_lost_its_pictures_gets_them_back(tmp_path: Path) -> None:
    first, _ = images_in(tmp_path / "pictures")
    await first.put("hall", picture(letter="a"))
    await first.put("hall", picture(letter="b"))
    again, broker = images_in(tmp_path / "pictures")
    assert await again.publish_all(["hall", "attic"], never) == []
    assert broker.held == {"display/hall": b"b" * 10}
    assert await again.get("hall") == picture(letter="b")
    assert await again.get("attic") is None


async def test_a_picture_that_does_not_fit_leaves_the_one_before(tmp_path: Path) -> None:
    pictures, broker = images_in(tmp_path)
    await pictures.put("hall", picture())
    with pytest.raises(PacketTooLarge):
        await pictures.put("hall", picture(LIMIT + 1))
    assert broker.held == {"display/hall": b"a" * 10}
    assert await pictures.get("hall") == picture()
    assert names(tmp_path) == ["hall.picture"]


async def test_what_another_broker_would_not_take_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures, broker = images_in(tmp_path)
    await pictures.put("hall", picture())
    broker.held.clear()
    monkeypatch.setattr(f"{__name__}.LIMIT", 5)
    refused: list[tuple[str, int]] = []
    await pictures.publish_all(["hall"], lambda name, error: refused.append((name, error.size)))
    assert refused == [("hall", 10)]
    assert broker.held == {}


async def test_pictures_under_names_that_are_gone_are_deleted(tmp_path: Path) -> None:
    pictures, broker = images_in(tmp_path)
    for name in ("hall", "attic", "cellar"):
        await pictures.put(name, picture())
    assert await pictures.publish_all(["hall", "cellar"], never) == ["attic"]
    await pictures.remove("cellar")
    await pictures.remove("cellar")
    assert broker.held.keys() == {"display/hall"}
    assert names(tmp_path) == ["hall.picture"]


@pytest.mark.parametrize("content", [b"\xc1", b"\x82\xa4data\xc4\x01a\xaccontent_type\xa1\xff"])
async def test_a_file_that_is_no_picture_is_as_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "hall.picture").write_bytes(content)
    pictures, broker = images_in(tmp_path)
    assert await pictures.get("hall") is None
    await pictures.publish_all(["hall"], never)
    assert broker.held == {}


async def test_pictures_that_cannot_be_read_or_deleted_end_nothing(tmp_path: Path) -> None:
    pictures, _ = images_in(tmp_path)
    (tmp_path / "gone.picture").mkdir()  # a folder cannot be deleted as a file is
    assert await pictures.publish_all([], never) == ["gone"]
    (tmp_path / "file").touch()
    nowhere, _ = images_in(tmp_path / "file")
    assert await nowhere.publish_all(["hall"], never) == []


async def test_what_several_bridges_show_at_a_time_is_what_the_journal_has(tmp_path: Path) -> None:
    journal, broker = Journal(tmp_path / "journal.db"), Publisher()
    await journal.open()

    def bridge() -> SharedImages:
        return SharedImages(
            journal.adapter_store, "display", cast("Any", broker), lambda name: f"display/{name}"
        )

    one, other = bridge(), bridge()
    newer = picture(letter="b")

    keep = journal.adapter_store.keep

    async def overtaken(kind: str, values: dict[str, bytes], **options: bool) -> None:
        await keep(kind, values, **options)
        journal.adapter_store.keep = keep  # type: ignore[method-assign]
        await other.put("hall", newer)

    journal.adapter_store.keep = overtaken  # type: ignore[assignment, method-assign]
    await one.put("hall", picture(letter="a"))
    assert broker.held == {"display/hall": newer.data}
    assert await one.get("hall") == newer

    # One that does not fit changes nothing, and one of a display that is gone goes.
    with pytest.raises(PacketTooLarge):
        await one.put("hall", picture(LIMIT + 1))
    assert await other.get("hall") == newer
    await other.put("attic", picture())
    broker.held.clear()
    assert await one.publish_all(["hall"], never) == ["attic"]
    assert broker.held == {"display/hall": newer.data}
    assert await other.get("attic") is None
    await journal.close()
