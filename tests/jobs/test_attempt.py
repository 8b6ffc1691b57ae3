"""Data that an attempt sends to ComfyUI beside the graph, and its reports of ComfyUI's errors."""

from __future__ import annotations

import asyncio
import gc
import json
import weakref
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
    """A ComfyUI that keeps what it was sent, and ends each prompt as the test wants."""

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


class Slow(Comfy):
    """A ComfyUI that answers a submission when it is let, and ends a prompt that is stopped."""

    def __init__(self) -> None:
        super().__init__(DONE)
        self.answers = asyncio.Event()
        self.stopped: list[str] = []
        self._gone = asyncio.Event()

    async def execute(self, *_: Any, **__: Any) -> AsyncIterator[events.Event]:
        await self.answers.wait()
        yield events.Queued()
        yield events.Started()
        await self._gone.wait()
        yield events.PromptInterrupted()

    async def cancel(self, prompt_id: str) -> bool:
        self.stopped.append(prompt_id)
        self._gone.set()
        return True

    async def end(self, prompt_id: str, *, within_s: float) -> str:
        assert within_s > 0
        await self.cancel(prompt_id)
        return "stopped"


def slow_attempt(comfy: Comfy, timeout_s: float = 60.0, silence_s: float = 60.0) -> Attempt:
    return Attempt(
        draft().job,
        cast("Any", comfy),
        observer=cast("Any", Observer()),
        load_media=cast("Any", None),
        timeout_s=timeout_s,
        silence_s=silence_s,
        adopt=False,
        began=False,
    )


async def test_what_is_cancelled_while_it_is_sent_is_stopped_once_comfyui_has_it() -> None:
    comfy = Slow()
    made = slow_attempt(comfy)
    running = asyncio.create_task(made.run(PLAN))
    await asyncio.sleep(0)
    made.cancel()
    made.cancel()
    await asyncio.sleep(0)
    assert comfy.stopped == []
    comfy.answers.set()
    assert isinstance(await running, attempt.Interruption)
    assert comfy.stopped == [made.prompt_id]


async def test_what_is_cancelled_before_it_is_sent_is_not_sent() -> None:
    comfy = Slow()
    made = slow_attempt(comfy)
    made.cancel()
    assert isinstance(await made.run(PLAN), attempt.Interruption)
    assert comfy.stopped == []


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"timeout_s": 0.01}, {"timeout_s": 0.01}),
        ({"silence_s": 0.01}, {"silence_s": 0.01}),
    ],
)
async def test_what_runs_or_is_silent_for_too_long_is_stopped(
    limits: dict[str, float], said: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    comfy = Slow()
    comfy.answers.set()
    monkeypatch.setattr(comfy, "silence", lambda _: limits.get("silence_s", 0.0))
    ending = await slow_attempt(comfy, **limits).run(PLAN)
    assert isinstance(ending, attempt.Failure)
    assert (ending.error.code, ending.error.details) == ("timeout", said)


async def test_an_attempt_that_ended_is_held_by_no_timer() -> None:
    made = slow_attempt(Comfy(DONE))
    await made.run(PLAN)
    gone = weakref.ref(made)
    del made
    gc.collect()
    assert gone() is None
