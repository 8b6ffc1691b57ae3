"""Trying again: one back-off for all of the bridge, and one loop that uses it."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import TypeAlias, TypeVar

import tenacity

T = TypeVar("T")
Errors: TypeAlias = type[Exception] | tuple[type[Exception], ...]


class Backoff:
    """Delays that double up to a cap, each drawn from the upper half of its bound.

    The jitter keeps the many clients of a restarted server from coming back all at once; the
    lower half is left out so that no attempt follows the last one at once.
    """

    def __init__(
        self,
        first: float = 0.5,
        cap: float = 30.0,
        *,
        draw: Callable[[float, float], float] = random.uniform,
    ) -> None:
        """Start at `first` seconds, never wait longer than `cap`; `draw(low, high)` picks."""
        self._first = first
        self._cap = cap
        self._draw = draw
        self._bound = first

    def next(self) -> float:
        """Return the seconds to wait before the next attempt."""
        bound = min(self._bound, self._cap)
        self._bound = bound * 2
        return self._draw(bound / 2, bound)

    def reset(self) -> None:
        """Start over: call it once an attempt has proved to be good."""
        self._bound = self._first


async def retry(
    work: Callable[[], Awaitable[T]],
    errors: Errors | Callable[[BaseException], bool],
    *,
    backoff: Backoff | None = None,
    attempts: int | None = None,
    within_s: float | None = None,
    failed: Callable[[BaseException, int], None] = lambda _error, _attempt: None,
) -> T:
    """Await `work()` until it raises none of `errors`, and return its result.

    `errors` are types, or a function that returns whether an error passes. Without `attempts` and
    `within_s` (seconds from the first attempt) it is tried for ever; with them the last error is
    raised. `failed` is called with each error that another attempt follows, and with the number of
    the attempt, from 1. Cancelling this cancels the attempt, or the wait.
    """
    pauses = backoff or Backoff()
    stop: tenacity.stop.stop_base = tenacity.stop_never
    if attempts is not None:
        stop = tenacity.stop_after_attempt(attempts)
    if within_s is not None:
        stop = tenacity.stop_any(stop, tenacity.stop_after_delay(within_s))

    def again(error: BaseException) -> bool:
        return isinstance(error, errors) if isinstance(errors, type | tuple) else errors(error)

    def waiting(state: tenacity.RetryCallState) -> None:
        error = None if state.outcome is None else state.outcome.exception()
        if error is not None:
            failed(error, state.attempt_number)

    retrying = tenacity.AsyncRetrying(
        retry=tenacity.retry_if_exception(again),
        wait=lambda _state: pauses.next(),
        stop=stop,
        before_sleep=waiting,
        reraise=True,
    )
    async for attempt in retrying:
        with attempt:
            return await work()
    raise AssertionError("the last attempt returns or raises")
