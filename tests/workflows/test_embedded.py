from __future__ import annotations

import io
import json
import struct
import zlib
from contextlib import suppress
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from bridge.workflows import embedded, source
from bridge.workflows.binding import isolate
from bridge.workflows.graph import WorkflowError

PROMPT = '{"1": {"class_type": "SaveImage", "inputs": {"name": "Jörg"}}}'
DRAWING = '{"nodes": [], "links": []}'

PROMPT_ID = "12345678-1234-4234-8234-123456789abc"


def png(info: PngInfo) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4)).save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


def saved_png() -> bytes:
    """As SaveImage writes it."""
    info = PngInfo()
    info.add_text("prompt", PROMPT)
    info.add_text("workflow", DRAWING)
    return png(info)


def saved_webp() -> bytes:
    """As SaveAnimatedWEBP writes it."""
    picture = Image.new("RGB", (4, 4))
    exif = picture.getexif()
    exif[0x0110] = f"prompt:{json.dumps(json.loads(PROMPT))}"
    exif[0x010F] = f"workflow:{DRAWING}"
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", exif=exif)
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def test_a_saved_png_carries_prompt_and_drawing() -> None:
    data = saved_png()
    assert embedded.is_picture(data)
    assert embedded.texts(data) == {"prompt": PROMPT, "workflow": DRAWING}


def test_texts_may_be_packed_and_in_any_language() -> None:
    info = PngInfo()
    info.add_text("prompt", PROMPT, zip=True)
    info.add_itxt("workflow", DRAWING + " ☃", zip=True)
    assert embedded.texts(png(info)) == {"prompt": PROMPT, "workflow": DRAWING + " ☃"}
    info = PngInfo()
    info.add_itxt("prompt", PROMPT, "de", "Auftrag")
    assert embedded.texts(png(info)) == {"prompt": PROMPT}


def test_an_animated_png_has_them_behind_its_pixels() -> None:
    info = PngInfo()
    info.add(b"comf", b"prompt\0" + PROMPT.encode("latin-1"), after_idat=True)
    assert embedded.texts(png(info)) == {"prompt": PROMPT}


def test_a_saved_webp_has_them_in_its_exif_data() -> None:
    data = saved_webp()
    assert embedded.is_picture(data)
    found = embedded.texts(data)
    assert json.loads(found["prompt"]) == json.loads(PROMPT)
    assert found["workflow"] == DRAWING


def test_what_ran_is_taken_rather_than_the_drawing() -> None:
    assert source.document_of(saved_png()) == json.loads(PROMPT)
    for unfit in ("{broken", "[]", "[" * 100_000):
        info = PngInfo()
        info.add_text("prompt", unfit)
        info.add_text("workflow", DRAWING)
        assert source.document_of(png(info)) == json.loads(DRAWING)


def test_pythons_own_numbers_are_understood() -> None:
    info = PngInfo()
    info.add_text("prompt", '{"1": {"class_type": "X", "inputs": {}, "is_changed": [NaN]}}')
    document = source.document_of(png(info))
    assert document["1"]["is_changed"] == [None]


def test_a_picture_without_a_workflow_says_so() -> None:
    with pytest.raises(WorkflowError, match="carries no workflow"):
        source.document_of(png(PngInfo()))


def test_a_bomb_is_refused() -> None:
    packed = zlib.compress(bytes(embedded.MAX_TEXT + 1), 9)
    data = embedded.PNG + chunk(b"zTXt", b"prompt\0\0" + packed)
    with pytest.raises(WorkflowError, match="more than"):
        embedded.texts(data)


@pytest.mark.parametrize("data", [saved_png(), saved_webp()], ids=["png", "webp"])
def test_a_picture_cut_off_anywhere_is_read_or_refused(data: bytes) -> None:
    for end in range(12, len(data)):
        with suppress(WorkflowError):
            assert set(embedded.texts(data[:end])) <= embedded.KEYS


@given(st.binary(max_size=200), st.sampled_from([saved_png(), saved_webp()]), st.data())
def test_garbage_is_read_or_refused(garbage: bytes, data: bytes, draw: st.DataObject) -> None:
    place = draw.draw(st.integers(8, len(data)))
    with suppress(WorkflowError):
        embedded.texts(data[:place] + garbage + data[place + len(garbage) :])


def test_a_picture_that_was_made_here_does_not_name_the_folder_of_its_job() -> None:
    saver = {"class_type": "SaveImage", "inputs": {"filename_prefix": "a/fin"}}
    titled = {"1": {**saver, "_meta": {"title": "Finished"}}}
    info = PngInfo()
    info.add_text(
        "prompt", json.dumps(isolate(titled, PROMPT_ID, datetime(2026, 3, 9, tzinfo=UTC)))
    )
    document = source.document_of(png(info))
    assert document["1"]["inputs"] == {"filename_prefix": "fin"}
    assert document["1"]["_meta"] == {"title": "Finished"}


def of_a_job(kind: str) -> bytes:
    """A picture with a prompt that saves into a job's folder, and one that only speaks of it."""
    prompt = json.dumps({"1": {"filename_prefix": f'{FOLDER}/a "b"'}, "2": {"text": FOLDER}})
    if kind == "webp":
        picture = Image.new("RGB", (4, 4))
        exif = picture.getexif()
        exif[0x0110] = f"prompt:{prompt}"
        buffer = io.BytesIO()
        picture.save(buffer, "WEBP", exif=exif)
        return buffer.getvalue()
    info = PngInfo()
    if kind == "apng":
        info.add(b"comf", b"prompt\0" + prompt.encode())
    else:
        info.add_text("prompt", prompt)
    return png(info)


FOLDER = f"comfy2mqtt/{PROMPT_ID}"


@pytest.mark.parametrize("kind", ["png", "apng", "webp"])
def test_a_jobs_folder_is_taken_out_of_its_pictures(kind: str) -> None:
    data = of_a_job(kind)
    cleaned = embedded.without_folder(data, FOLDER)
    assert len(cleaned) == len(data)
    found = json.loads(embedded.texts(cleaned)["prompt"])
    assert found == {"1": {"filename_prefix": 'a "b"'}, "2": {"text": FOLDER}}
    # Pillow checks the checksums.
    with Image.open(io.BytesIO(cleaned)) as picture:
        picture.verify()
    with Image.open(io.BytesIO(cleaned)) as picture:
        assert picture.convert("RGB").getpixel((0, 0)) == (0, 0, 0)
    # Another job's, and what is no whole picture.
    assert embedded.without_folder(data, "comfy2mqtt/other") is data
    assert embedded.without_folder(data[1:], FOLDER) == data[1:]
    if kind != "webp":
        assert embedded.without_folder(data[:-3], FOLDER) in (data[:-3], cleaned[:-3])
