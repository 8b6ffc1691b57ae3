import asyncio

import pytest

from bridge.aio import first, wait_set


async def never() -> None:
    await asyncio.get_running_loop().create_future()


async def give(value: str) -> str:
    return value


async def fail() -> str:
    raise LookupError


async def test_the_first_to_end_gives_the_result_and_the_other_has_ended() -> None:
    cleaned = asyncio.Event()

    async def slow() -> None:
        try:
            await never()
        finally:
            await asyncio.sleep(0)  # what it does in the end takes a turn of the loop
            cleaned.set()

    assert await first(slow(), give("done")) == "done"
    assert cleaned.is_set()


async def test_the_first_to_fail_is_raised_and_the_others_are_cancelled() -> None:
    other = asyncio.get_running_loop().create_future()
    with pytest.raises(LookupError):
        await first(other, never(), fail())
    assert other.cancelled()


async def test_of_two_that_end_at_once_the_error_is_not_lost() -> None:
    with pytest.raises(LookupError):
        await first(give("done"), fail())


async def test_of_two_results_at_once_the_earlier_argument_counts() -> None:
    assert await first(give("a"), give("b")) == "a"


async def test_a_race_that_is_cancelled_leaves_nothing_running() -> None:
    work = [asyncio.create_task(never()) for _ in range(2)]
    race = asyncio.create_task(first(*work))
    await asyncio.sleep(0)
    race.cancel()
    with pytest.raises(asyncio.CancelledError):
        await race
    assert all(task.cancelled() for task in work)


async def test_a_wait_for_an_event_ends_with_it_or_with_its_time() -> None:
    event = asyncio.Event()
    assert not await wait_set(event, 0.001)
    waiting = asyncio.create_task(wait_set(event, None))
    await asyncio.sleep(0)
    assert not waiting.done()
    event.set()
    assert await waiting
    assert await wait_set(event, 0)
