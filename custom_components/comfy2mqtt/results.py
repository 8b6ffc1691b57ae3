"""The results of a bridge: each is taken once, reported, and then acknowledged.

What was missed while either side was away is listed. What is known of results is kept on disk, and
the next start continues from there.

All methods run in Home Assistant's event loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from homeassistant.core import HomeAssistant, callback
from homeassistant.exceptions import HomeAssistantError
from homeassistant.util import dt as dt_util

from .const import LOGGER
from .protocol.decode import MalformedError
from .protocol.ledger import REMEMBERED, Ledger
from .protocol.messages import OUTCOMES, RefusedError, Result, read_listed, read_number
from .protocol.pictures import Picture
from .protocol.stored import StoredResults, read_results
from .protocol.topics import Topics
from .requests import Ask, decoded, pages, requests_left
from .storage import load, store

_SAVE_DELAY_S = 10.0


class Results:
    """The results of one client of a bridge, and the last picture of each workflow."""

    def __init__(
        self,
        hass: HomeAssistant,
        topics: Topics,
        store_id: str,
        *,
        ask: Ask,
        spawn: Callable[[Coroutine[Any, Any, None]], None],
        on_result: Callable[[Result], None],
        on_report: Callable[[Result, bool], None],
    ) -> None:
        """`ask` sends a request, and `spawn` has something done beside.

        `on_result` is called with each result, however often it comes; `on_report` once, with
        whether the result is history.
        """
        self.pictures: dict[str, Picture] = {}
        # What was missed could not be listed when it was last tried.
        self.is_behind = False
        self._topics = topics
        self._ask = ask
        self._spawn = spawn
        self._on_result = on_result
        self._on_report = on_report
        # Results, and whether each is history, until automations can listen.
        self._unreported: list[tuple[Result, bool]] | None = []
        # Those that came under a number that was acknowledged, until it is known why.
        self._late: deque[Result] = deque()
        self._ledger = Ledger()
        self._is_new = True
        self._store = store(hass, store_id)
        # It differs from what was loaded.
        self._is_changed = False
        # Lists and acknowledgements come one after the other.
        self._turn = asyncio.Lock()
        # All that was missed is listed, and can be acknowledged once it was reported.
        self._is_listed = False
        # One more list waits for its turn.
        self._catches_up_next = False

    # What is kept on disk.

    async def load(self) -> None:
        """Load what was kept; what cannot be read is listed again, and old jobs are events then."""
        self._is_new = False
        try:
            kept = await load(self._store, read_results)
        except MalformedError as error:
            LOGGER.warning(
                "the results of %s are listed from the beginning: %s", self._topics.base, error
            )
            return
        base, client = self._topics.base, self._topics.client
        # Another bridge, and the same one for another client, has numbers of its own.
        if kept is None or (kept.base or base, kept.client or client) != (base, client):
            self._is_new = True
        elif kept.last is not None:
            self._ledger = Ledger(kept.after, kept.last, kept.taken)
            self.pictures = dict(kept.pictures)
        # Where nothing is acknowledged yet, or an older version did not note the last job, by which
        # a new journal is noticed, what there is is listed from the beginning.
        else:
            self._ledger = Ledger(taken=kept.taken)

    async def save(self) -> None:
        """Keep what has to be known at the next start, and write nothing later."""
        if self._is_changed:
            await self._store.async_save(self._contents())

    def _save_later(self) -> None:
        self._is_changed = True
        self._store.async_delay_save(self._contents, _SAVE_DELAY_S)

    def _contents(self) -> dict[str, Any]:
        # Those that were not reported yet have to be new after the next start.
        new = {each.job_id for each, is_history in self._unreported or () if not is_history}
        return StoredResults(
            base=self._topics.base,
            client=self._topics.client,
            after=self._ledger.after,
            last=self._ledger.last,
            taken={job_id: n for job_id, n in self._ledger.taken.items() if job_id not in new},
            pictures=self.pictures,
        ).written()

    # What comes.

    @callback
    def take(self, result: Result) -> None:
        """Take a result that was published."""
        self._on_result(result)
        if result.n <= self._ledger.after:
            # It comes a second time, or came late, or the bridge has a new journal: that is found
            # out first.
            self._hold_late(result)
            self.catch_up_later()
            return
        self._ended(result, result.n)
        self._acknowledge_later()

    @callback
    def take_asked(self, result: Result) -> None:
        """Take a result that was asked for: those before it may not have been published yet.

        So it is not acknowledged until they are listed.
        """
        self._on_result(result)
        if result.n <= self._ledger.after:
            self._hold_late(result)
        self.catch_up_later()

    @callback
    def _hold_late(self, result: Result) -> None:
        self._late.append(result)
        # While nothing can be listed the oldest one is reported without knowing why it came.
        if len(self._late) > REMEMBERED:
            oldest = self._late.popleft()
            self._ended(oldest, oldest.n)

    @callback
    def _ended(self, result: Result, n: int, *, is_history: bool = False) -> None:
        """Take a result that came under a number, and tell of it if it is new."""
        picture, before = result.first("image"), self.pictures.get(result.workflow)
        # One that was missed may be listed after a newer one has come.
        if picture is not None and (before is None or result.n > before.n):
            self.pictures[result.workflow] = Picture(
                result.n,
                result.job_id,
                picture.index,
                picture.content_type,
                picture.size,
                picture.sha256,
                dt_util.utcnow().isoformat(),
            )
        if not self._ledger.take(n, result.job_id, None if result.is_partial else result.n):
            return
        if self._unreported is None:
            self._report(result, is_history=is_history)
        else:
            self._unreported.append((result, is_history))

    def _report(self, result: Result, *, is_history: bool) -> None:
        self._on_report(result, is_history)
        # It is listed after the next start if the bridge does not take its acknowledgement.
        self._save_later()

    @callback
    def report(self) -> None:
        """Tell of what ended before now, and of all else at once from now on."""
        unreported, self._unreported = self._unreported or [], None
        for result, is_history in unreported:
            self._report(result, is_history=is_history)
        if self._ledger.is_settled:
            self._acknowledge_later()
        else:
            # What was listed is acknowledged now, and then that is listed which does not count it.
            self.catch_up_later()

    # What was missed.

    @property
    def newest(self) -> int:
        """The highest number that is acknowledged: what is newer has a higher one."""
        return self._ledger.after

    @callback
    def interrupted(self) -> None:
        """Note that results may have been missed: nothing is acknowledged until they are listed."""
        self._is_listed = False
        self._ledger.interrupted()

    async def catch_up(self) -> None:
        """List the results since the last acknowledged one, take them, and acknowledge them.

        Raises RefusedError and HomeAssistantError.
        """
        async with self._turn:
            self._catches_up_next = False
            if self._is_listed and await self._acknowledge():
                self._is_listed = False
            self._ledger.interrupted()
            await self._begin_again_with_a_new_journal()
            # What the broker did not take counts for no number above its own. The next list has it
            # under a new one, which acknowledges it.
            left = requests_left()
            while await self._list_missed(left):
                if not await self._acknowledge():
                    self._is_listed = True
                    break
            else:
                self._ledger.settled()
            while self._late:
                late = self._late.popleft()
                self._ended(late, late.n)
            await self._acknowledge()
            self._is_new = False

    @callback
    def catch_up_later(self) -> None:
        """Catch up beside; once, however often that is asked for before it begins."""
        if not self._catches_up_next:
            self._catches_up_next = True
            self._spawn(self.catch_up_quietly())

    async def catch_up_quietly(self) -> None:
        """Catch up; log a failure, and set `is_behind`, where `catch_up` would raise."""
        try:
            await self.catch_up()
        except (RefusedError, HomeAssistantError) as error:
            # It is said once, however often it is tried again.
            level = logging.DEBUG if self.is_behind else logging.WARNING
            base = self._topics.base
            LOGGER.log(level, "what was missed of %s cannot be listed: %s", base, error)
            self.is_behind = True
        else:
            self.is_behind = False

    async def _begin_again_with_a_new_journal(self) -> None:
        """Forget up to where results were acknowledged, if the bridge does not know the last one.

        The numbers of a new journal start at the beginning, and one that was restored from a backup
        does not know what it had after that: its results are listed again, and those that were
        taken are still known by their own numbers. A job that is forgotten since it is too old does
        no harm here: whatever the bridge still lists is newer, or was acknowledged.
        """
        if self._ledger.last is None:
            return
        try:
            n = decoded(read_number, await self._ask("status", job_id=self._ledger.last))
        except RefusedError as error:
            if error.code != "unknown_job":
                raise
            n = 0
        if n < self._ledger.after:
            LOGGER.info("the bridge %s has a new journal", self._topics.base)
            self._ledger = Ledger(taken=self._ledger.taken)
            self.pictures.clear()

    async def _list_missed(self, left: Iterator[int]) -> bool:
        """List what was missed, and take it; False if there was nothing."""
        found = False
        # What is acknowledged may be so once more: only then does the list have, under a new
        # number, what the broker did not take. What follows is not acknowledged yet.
        async for page in pages(
            self._ask, self._ledger.after, acknowledges=True, left=left, states=list(OUTCOMES)
        ):
            for job in page.jobs:
                try:
                    listed = read_listed(job)
                except MalformedError as error:
                    LOGGER.warning("job %s: %s", job.get("job_id"), error)
                    continue
                found = True
                self._on_result(listed.result)
                is_history = self._is_new or listed.is_acked
                self._ended(listed.result, listed.n, is_history=is_history)
        return found

    # What is acknowledged.

    def _acknowledge_later(self) -> None:
        if self._ledger.is_settled:
            self._spawn(self._acknowledge_quietly())

    async def _acknowledge_quietly(self) -> None:
        try:
            async with self._turn:
                # It may have been interrupted meanwhile.
                if self._ledger.is_settled:
                    await self._acknowledge()
        except (RefusedError, HomeAssistantError) as error:
            # It is listed again after the next interruption.
            LOGGER.debug("results of %s are not acknowledged: %s", self._topics.base, error)

    async def _acknowledge(self) -> bool:
        """Acknowledge what came; False if there is nothing, or nobody to tell of it yet."""
        # If Home Assistant ends before results were reported to listeners, the bridge has to list
        # them once more. What is history is reported to nobody.
        is_reported = self._unreported is None or self._is_new
        numbers = self._ledger.to_acknowledge() if is_reported else []
        for up_to in numbers:
            await self._ask("ack", up_to=up_to)
            self._ledger.acknowledged(up_to)
        self._save_later()
        return bool(numbers)
