"""What an attempt sends to ComfyUI beside the graph, and what it tells of ComfyUI's words."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any, cast

import pytest
from msgspec import Raw
from msgspec.structs import replace

from bridge.comfyui import events
from bridge.comfyui.errors import NodeProblems, PromptRejected, ValidationProblem
from bridge.contract.messages import encode
from bridge.jobs import attempt
from bridge.jobs.attempt import Attempt
from tests.jobs.drafts import PLAN, draft

KEY = "comfyui-0123"


class Comfy:
    """A ComfyUI that keeps what it was sent, and ends each prompt as it is told to."""

    name = "main"
    supervised = False

    def __init__(self, end: events.Terminal | PromptRejected, api_key: str | None = KEY) -> None:
        self.api_key = api_key
        self.client = cast("Any", self)
        self.sent: Any = None
        self._end = end

    async def view(self, *_: object) -> bytes:
        return b""

    def silence(self, _prompt_id: str) -> float:
        return 0.0

    async def execute(
        self, _prompt_id: str, _prompt: Mapping[str, Any], *, preview: bool, extra_data: Any
    ) -> AsyncIterator[events.Event]:
        del preview
        self.sent = extra_data
        if isinstance(self._end, PromptRejected):
            raise self._end
        yield events.Queued()
        yield events.Started()
        yield self._end


async def attempted(comfy: Comfy, **changes: Any) -> tuple[attempt.Ending, bool]:
    """Run a plan with these changes; return how it ended, and whether the key was used."""
    made = Attempt(
        draft().job,
        cast("Any", comfy),
        observer=cast("Any", Observer()),
        load_media=cast("Any", None),
        timeout_s=60.0,
        silence_s=60.0,
        adopt=False,
        began=False,
    )
    return await made.run(replace(PLAN, **changes)), made.used_key


class Observer:
    def began(self) -> None: ...

    def output(self, output: Any) -> Any:
        return output


DONE = events.Succeeded({})


@pytest.mark.parametrize(
    ("plan", "key", "sent"),
    [
        ({"partner": True}, KEY, {"api_key_comfy_org": KEY}),
        ({"partner": False}, KEY, {}),
        ({"partner": True}, None, {}),
        (
            {"partner": True, "drawing": Raw(b"{}")},
            KEY,
            {"api_key_comfy_org": KEY, "extra_pnginfo": {"workflow": Raw(b"{}")}},
        ),
    ],
)
async def test_the_key_goes_with_what_needs_it_and_may_have_it(
    plan: dict[str, Any], key: str | None, sent: dict[str, Any]
) -> None:
    comfy = Comfy(DONE, key)
    ending, used = await attempted(comfy, **plan)
    assert isinstance(ending, attempt.Success)
    assert json.loads(encode(comfy.sent)) == json.loads(encode(sent))
    assert used == ("api_key_comfy_org" in sent)


@pytest.mark.parametrize(
    "end",
    [
        events.Failed("Exception", f"401: {KEY}", "1", "Gemini", (f"X-API-KEY: {KEY}",)),
        PromptRejected(
            ValidationProblem(type="x", message="m"),
            {
                "1": NodeProblems(
                    class_type="Gemini",
                    errors=(ValidationProblem(type="x", message=f"no {KEY}", details=KEY),),
                )
            },
        ),
    ],
)
async def test_no_error_repeats_the_key(end: Any) -> None:
    ending, _ = await attempted(Comfy(end), partner=True)
    assert isinstance(ending, attempt.Failure)
    assert KEY.encode() not in encode(ending.error.wire())
    assert "***" in ending.error.message
