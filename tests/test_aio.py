import asyncio

import pytest

from bridge.aio import Observable, first, wait_set


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


@pytest.fixture
def value() -> Observable[str]:
    return Observable("a")


async def changed(value: Observable[str]) -> str:
    return await value.until(lambda now: now != "a")


async def test_a_change_wakes_all_who_wait(value: Observable[str]) -> None:
    waiting = [asyncio.create_task(changed(value)) for _ in range(2)]
    asyncio.get_running_loop().call_soon(value.set, "b")
    assert [await one for one in waiting] == ["b"] * 2


async def test_one_who_gives_up_does_not_disturb_the_others(value: Observable[str]) -> None:
    impatient, patient = (asyncio.create_task(changed(value)) for _ in range(2))
    asyncio.get_running_loop().call_soon(impatient.cancel)
    await asyncio.gather(impatient, return_exceptions=True)
    value.set("b")
    assert await patient == "b"


async def test_a_change_that_was_missed_is_returned_at_once(value: Observable[str]) -> None:
    for each in "bc":
        value.set(each)
    assert await changed(value) == "c"


async def test_no_difference_wakes_nobody(value: Observable[str]) -> None:
    waiting = asyncio.create_task(changed(value))
    value.set("a")
    for _ in range(3):
        await asyncio.sleep(0)
    assert not waiting.done()
    waiting.cancel()


async def test_a_change_that_concerns_nobody_wakes_nobody(value: Observable[str]) -> None:
    waiting = asyncio.create_task(value.until(lambda now: now == "c"))
    await asyncio.sleep(0)
    value.set("b")
    assert not any(future.done() for future in value._waiting)
    value.set("c")
    assert await waiting == "c"
    assert not value._waiting


async def test_a_value_that_was_over_at_once_wakes_no_waiter(
    value: Observable[str],
) -> None:
    waiting = asyncio.create_task(value.until(lambda now: now == "b"))
    await asyncio.sleep(0)
    value.set("b")
    value.set("c")
    for _ in range(3):
        await asyncio.sleep(0)
    assert not waiting.done()
    value.set("b")
    assert await waiting == "b"
