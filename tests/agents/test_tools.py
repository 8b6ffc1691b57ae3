"""A workflow as a tool."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from msgspec import UNSET

from bridge.agents import tools
from bridge.client import JobOutput
from bridge.contract.errors import InvalidInput
from bridge.contract.messages import OutputInfo
from bridge.contract.retained import Definition
from tests.support.definitions import definition


def output(content_type: str, data: bytes = b"x", **changes: Any) -> JobOutput:
    info = OutputInfo(
        index=0,
        name="image",
        kind="image",
        content_type=content_type,
        size=changes.pop("size", len(data)),
        sha256="",
        **changes,
    )
    return JobOutput(info, data)


def needing(*required: str) -> Definition:
    found = definition("demo")
    return definition("demo", inputs={**found.inputs, "required": list(required)})


def test_a_tool_takes_what_its_workflow_takes() -> None:
    found = tools.tool_of(definition("demo", description="Draws."))
    assert (found.name, found.title) == ("demo", "The demo")
    assert found.description == "Draws. Runs the ComfyUI workflow 'demo'; gives image."
    assert found.schema["required"] == ["prompt"]
    assert found.schema["properties"]["prompt"] == {
        "type": "string",
        "maxLength": 20,
        "description": "What to draw",
    }
    assert found.schema["additionalProperties"] is False


def test_media_is_named_by_an_address_or_an_earlier_job() -> None:
    picture = tools.tool_of(definition("demo")).schema["properties"]["picture"]
    assert set(picture["properties"]) == {"url", "job", "output", "base64"}


def test_only_what_can_run_is_offered() -> None:
    assert tools.is_offered(definition("a"))
    assert tools.is_offered(definition("a", runnable=UNSET))
    assert not tools.is_offered(definition("a", runnable=False))
    assert not tools.is_offered(definition("a", forbidden=["LoadImage"]))


def test_a_form_asks_for_what_is_required_and_was_not_given() -> None:
    assert tools.missing(needing("prompt", "steps"), {"steps": 3}) == {
        "type": "object",
        "properties": {
            "prompt": {"type": "string", "description": "What to draw", "maxLength": 20}
        },
        "required": ["prompt"],
    }
    assert tools.missing(needing("sampler"), {}) == {
        "type": "object",
        "properties": {"sampler": {"type": "string", "enum": ["euler", "ddim"]}},
        "required": ["sampler"],
    }
    assert tools.missing(needing("prompt"), {"prompt": ""}) is None
    # Nobody can type a picture.
    assert tools.missing(needing("prompt", "picture"), {}) is None


def test_a_result_is_pictures_sounds_texts_and_links() -> None:
    url = "https://x/1"
    found = tools.contents(
        [
            output("image/webp", b"abc"),
            output("audio/flac", b"abc"),
            output("text/plain; charset=utf-8", "ü".encode()),
            output("video/mp4", url=url),
            output("image/png", url=url, size=10**7),
            output("image/png", size=10**7),
        ]
    )
    encoded = base64.b64encode(b"abc").decode()
    assert [(each.data, each.content_type) for each in found[:2]] == [
        (encoded, "image/webp"),
        (encoded, "audio/flac"),
    ]
    assert found[2].text == "ü"
    assert [(each.url, each.content_type) for each in found[3:5]] == [
        (url, "video/mp4"),
        (url, "image/png"),
    ]
    assert "too large" in (found[5].text or "")


def test_an_error_says_what_is_allowed() -> None:
    error = InvalidInput("input 'steps': 0 is too small", allowed="1 to 100")
    assert tools.problem(error) == (
        "invalid_input: input 'steps': 0 is too small (allowed: 1 to 100)"
    )


@pytest.mark.parametrize("kind", ["text/plain", "application/json"])
def test_a_long_text_is_cut(kind: str) -> None:
    (found,) = tools.contents([output(kind, b"a" * 100_000)])
    assert found.text == "a" * tools.MAX_TEXT
