"""Workflow files, their sidecars, and texts with choices."""

from __future__ import annotations

import json
import zlib
from contextlib import suppress

import msgspec

from bridge.workflows import dynamic_prompts, page_pictures, source
from bridge.workflows.embedded import PNG
from bridge.workflows.graph import WorkflowError
from bridge.workflows.source import NeedsObjectInfo
from tests.fuzz.target import Target
from tests.workflows import graphs, test_embedded

# Three times the largest case: texts between several choices are put in again.
_LONGEST_DRAWN = 400_000
_PNG = test_embedded.saved_png()
_WEBP = b"RIFF\x00\x00\x00\x00WEBP"

_SIDE = b"""
title = "A picture"
[inputs.steps]
place = "2.steps"
minimum = 1
maximum = 50
[outputs.picture]
node = "58:4"
[press]
inputs = { steps = 5 }
"""


def _file(data: bytes) -> None:
    with suppress(WorkflowError, NeedsObjectInfo):
        drawn = source.read("file", data).build("name", graphs.INFO)
        msgspec.json.encode(drawn.definition())


def _sidecar(data: bytes) -> None:
    with suppress(WorkflowError, NeedsObjectInfo):
        plain = json.dumps(graphs.PLAIN).encode()
        source.read("file", plain, data).build("name", graphs.INFO)


def _prompt(data: bytes) -> None:
    text = data.decode(errors="replace")
    for pick in (lambda _: 0, lambda number: number - 1):
        assert len(dynamic_prompts.draw(text, pick)) <= _LONGEST_DRAWN
    dynamic_prompts.is_dynamic(text)


def _page_picture(data: bytes) -> None:
    """A value as a file has it, and a node's input as ComfyUI describes it."""
    try:
        value = msgspec.json.decode(data)
        drawn = {"nodes": [{"id": 1, "type": "Load3D", "widgets_values": [value]}], "links": []}
        file = msgspec.json.encode(drawn)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return
    page_pictures.is_taken(value)
    assert page_pictures.is_taken(page_pictures.with_file(value, "photo.png"))
    with suppress(WorkflowError, NeedsObjectInfo):
        source.read("file", file).build("name", graphs.INFO)


TARGETS = {
    "files": Target(
        _file,
        (
            json.dumps(graphs.PLAIN).encode(),
            json.dumps(graphs.NAMED).encode(),
            _PNG,
            test_embedded.saved_webp(),
            b"{}",
            json.dumps({"prompt": graphs.PLAIN}).encode(),
            b'{"1": {"class_type": "A", "inputs": {"x": ["2", 0]}}}',
            b'{"1": {"class_type": "A"}}',
            b'{"a": 1\n',
            *(
                PNG + b"".join(test_embedded.chunk(kind, text) for kind, text in chunks)
                for chunks in (
                    [(b"tEXt", b"prompt\0{}"), (b"tEXt", b"workflow\0no json")],
                    [(b"zTXt", b"prompt\0\0" + zlib.compress(test_embedded.PROMPT.encode()))],
                    [(b"iTXt", b"prompt\0\0\0\0\0" + test_embedded.PROMPT.encode())],
                    [(b"iTXt", b"prompt\0\1\0\0\0" + zlib.compress(b"{}"))],
                    [(b"comf", b"prompt\0{}"), (b"IDAT", b""), (b"IEND", b"")],
                )
            ),
            _WEBP + b"VP8 \x01\x00\x00\x00x\x00EXIF\x02\x00\x00\x00??",
        ),
        {
            "bridge.workflows.source": ("document_of", "_from_picture", "_bad_json"),
            "bridge.workflows.embedded": (
                "texts",
                "_png",
                "_png_text",
                "_unpacked",
                "_webp",
                "_exif",
            ),
            "bridge.workflows.graph": ("parse", "_node", "link"),
        },
    ),
    "sidecars": Target(
        _sidecar,
        (_SIDE, b'description = "x"\n', b"[inputs]\n", b"[inputs.steps]\nminimum = 'x'\n"),
        {
            "bridge.workflows.sidecar": ("read", "_convert", "_keys", "_error"),
            "bridge.toml": ("line_of", "_ends", "_first_line", "_holds"),
        },
    ),
    "prompts": Target(
        _prompt,
        (
            b"a {cat|dog {one|two}} // no\n/* neither */ and \\{this\\}",
            b"{2$$a|b|c} {1-3$$ and $$a|b|c} {{{a}}} {a|b",
            b"http://example.org /* never closed",
        ),
        {
            "bridge.workflows.dynamic_prompts": (
                *("draw", "is_dynamic", "_drawn", "_chosen", "_options", "_without_comments"),
            )
        },
    ),
    "pages": Target(
        _page_picture,
        (b'{"image": "", "mask": "m"}', b'"photo.png"', b"null", b"[1]", b'{"image": {}}'),
        {"bridge.workflows.page_pictures": ("is_taken", "with_file")},
    ),
}
