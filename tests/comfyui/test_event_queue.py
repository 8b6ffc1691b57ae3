from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from bridge.comfyui.events import Event, PromptPreview, Started, Step
from bridge.comfyui.session import EventQueue


def step(value: int) -> Step:
    return Step("3", value, 100)


def preview(number: int) -> PromptPreview:
    return PromptPreview("3", "image/jpeg", bytes([number]))


async def drawn(queue: EventQueue, count: int) -> list[Event]:
    return [await queue.get() for _ in range(count)]


async def test_the_newest_preview_takes_the_place_of_one_that_waits() -> None:
    queue = EventQueue()
    for event in (step(1), preview(1), step(2), preview(2), step(3)):
        queue.put(event)
    assert await drawn(queue, 4) == [step(1), preview(2), step(2), step(3)]


async def test_a_preview_after_one_that_was_taken_is_given_too() -> None:
    queue = EventQueue()
    queue.put(preview(1))
    assert await queue.get() == preview(1)
    queue.put(preview(2))
    assert await queue.get() == preview(2)


async def test_a_waiting_reader_is_woken() -> None:
    queue = EventQueue()
    reading = asyncio.create_task(queue.get())
    asyncio.get_running_loop().call_soon(queue.put, Started())
    assert await reading == Started()


async def test_a_reader_that_gave_up_leaves_the_event_for_the_next() -> None:
    queue = EventQueue()
    reading = asyncio.create_task(queue.get())
    asyncio.get_running_loop().call_soon(reading.cancel)
    await asyncio.gather(reading, return_exceptions=True)
    queue.put(Started())
    assert await queue.get() == Started()


@given(st.lists(st.integers(0, 255).map(step) | st.integers(0, 255).map(preview)))
def test_nothing_but_older_previews_is_dropped(put: list[Event]) -> None:
    async def pass_on() -> list[Event]:
        queue = EventQueue()
        for event in put:
            queue.put(event)
        previews = [event for event in put if isinstance(event, PromptPreview)]
        steps = len(put) - len(previews)
        return await drawn(queue, steps + bool(previews))

    got = asyncio.run(pass_on())
    assert [one for one in got if isinstance(one, Step)] == [
        one for one in put if isinstance(one, Step)
    ]
    previews = [one for one in put if isinstance(one, PromptPreview)]
    assert [one for one in got if isinstance(one, PromptPreview)] == previews[-1:]
