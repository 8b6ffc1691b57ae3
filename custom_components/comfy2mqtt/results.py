"""The results of a bridge: each is taken once, reported, and then acknowledged.

What was missed while either side was away is listed. What is known of results is kept on disk, and
the next start continues from there.

All methods run in Home Assistant's event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any

from homeassistant.core import HomeAssistant, callback
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers.storage import Store
from homeassistant.util import dt as dt_util

from .const import DOMAIN, LOGGER
from .protocol.definitions import MalformedError
from .protocol.ledger import Ledger
from .protocol.messages import OUTCOMES, RefusedError, Result, read_listed
from .protocol.pictures import Picture
from .protocol.topics import Topics

# A page of a list of jobs.
PAGE = 100
_STORE_VERSION = 1
_SAVE_DELAY_S = 10.0

Ask = Callable[..., Awaitable[Mapping[str, Any]]]


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
        came: Callable[[Result], None],
        tell: Callable[[Result, bool], None],
    ) -> None:
        """`ask` sends a request, and `spawn` has something done beside.

        `came` is called for each result, however often it comes; `tell` once, with whether the
        result is history.
        """
        self.pictures: dict[str, Picture] = {}
        self._topics = topics
        self._ask = ask
        self._spawn = spawn
        self._came = came
        self._tell = tell
        # Results, and whether each is history, until automations can listen.
        self._unreported: list[tuple[Result, bool]] | None = []
        # Those that came under a number that was acknowledged, until it is known why.
        self._late: list[Result] = []
        self._ledger = Ledger()
        self._is_new = True
        self._store: Store[dict[str, Any]] = Store(hass, _STORE_VERSION, f"{DOMAIN}.{store_id}")
        self._catching_up = asyncio.Lock()

    # What is kept on disk.

    async def load(self) -> None:
        """Load what was kept."""
        kept = await self._store.async_load()
        whose = (self._topics.base, self._topics.client)
        # Another bridge, and the same one for another client, has numbers of its own.
        if kept is None or (kept.get("base", whose[0]), kept.get("client", whose[1])) != whose:
            return
        self._is_new = False
        # Of an older version the last job is not known, by which a new journal is noticed: what
        # there is is listed from the beginning.
        if last := kept.get("last"):
            self._ledger = Ledger(int(kept["after"]), last, kept.get("taken", ()))
            self.pictures = {
                name: Picture(**picture) for name, picture in kept.get("pictures", {}).items()
            }

    async def save(self) -> None:
        """Keep what has to be known at the next start."""
        await self._store.async_save(self._kept())

    async def remove(self) -> None:
        """Remove what was kept on disk."""
        await self._store.async_remove()

    def _kept(self) -> dict[str, Any]:
        # Those that were not reported yet have to be new after the next start.
        untold = {each.job_id for each, is_history in self._unreported or () if not is_history}
        return {
            "base": self._topics.base,
            "client": self._topics.client,
            "after": self._ledger.after,
            "last": self._ledger.last,
            "taken": [each for each in self._ledger.taken if each not in untold],
            "pictures": {name: vars(picture) for name, picture in self.pictures.items()},
        }

    # What comes.

    @callback
    def take(self, result: Result) -> None:
        """Take a result that was published."""
        self._came(result)
        if result.n <= self._ledger.after:
            # It comes a second time, or came late, or the bridge has a new journal: that is found
            # out first.
            self._late.append(result)
            self._spawn(self.catch_up_quietly())
            return
        self._ended(result, result.n)
        self._acknowledge_later()

    @callback
    def take_asked(self, result: Result) -> None:
        """Take a result that was asked for: those before it may not have been published yet.

        So it is not acknowledged until they are listed.
        """
        self._came(result)
        if result.n <= self._ledger.after:
            self._late.append(result)
        self._spawn(self.catch_up_quietly())

    @callback
    def _ended(self, result: Result, n: int, *, is_history: bool = False) -> bool:
        """Take a result that came under a number; return False for one that came before."""
        if not self._ledger.take(n, result.job_id, renumbered=n != result.n):
            return False
        picture, before = result.first("image"), self.pictures.get(result.workflow)
        # One that was missed may be listed after a newer one has come.
        is_newer = before is None or result.n > before.n
        if picture is not None and is_newer:
            self.pictures[result.workflow] = Picture(
                result.n,
                result.job_id,
                picture.index,
                picture.content_type,
                picture.size,
                picture.sha256,
                dt_util.utcnow().isoformat(),
            )
        if self._unreported is None:
            self._tell(result, is_history)
        else:
            self._unreported.append((result, is_history))
        return True

    @callback
    def report(self) -> None:
        """Tell of what ended before now, and of all else at once from now on."""
        unreported, self._unreported = self._unreported or [], None
        for result, is_history in unreported:
            self._tell(result, is_history)
        self._acknowledge_later()

    # What was missed.

    @callback
    def interrupted(self) -> None:
        """Note that results may have been missed: nothing is acknowledged until they are listed."""
        self._ledger.interrupted()

    async def catch_up(self) -> None:
        """List the results since the last acknowledged one, take them, and acknowledge them.

        Raises RefusedError and HomeAssistantError.
        """
        async with self._catching_up:
            await self._begin_again_with_a_new_journal()
            while await self._list_missed():
                # A list gives new numbers to so many at a time of those that it did not have.
                await self._acknowledge()
            late, self._late = self._late, []
            for result in late:
                self._ended(result, result.n)
            await self._acknowledge()
            self._is_new = False

    async def catch_up_quietly(self) -> None:
        """Catch up; what cannot be listed now is listed after the next interruption."""
        try:
            await self.catch_up()
        except (RefusedError, HomeAssistantError) as error:
            LOGGER.warning("what was missed of %s cannot be listed: %s", self._topics.base, error)

    async def _begin_again_with_a_new_journal(self) -> None:
        """Forget up to where results were acknowledged, if the bridge does not know the last one.

        The numbers of a new journal start at the beginning, and those of one that was restored from
        a backup go back. A job that is forgotten since it is too old does no harm here: whatever
        the bridge still lists is newer, or was acknowledged.
        """
        if self._ledger.last is None:
            return
        try:
            n = int((await self._ask("status", job_id=self._ledger.last)).get("n", 0))
        except RefusedError as error:
            if error.code != "unknown_job":
                raise
            n = 0
        if n < self._ledger.after:
            LOGGER.info("the bridge %s has a new journal", self._topics.base)
            self._ledger = Ledger()
            self.pictures.clear()

    async def _list_missed(self) -> bool:
        """List what was missed, and take it; True if another list may have more of it."""
        after, more, renumbered = self._ledger.after, True, 0
        while more:
            page = await self._ask(
                "list",
                after=after,
                # What is acknowledged may be so once more: only then does the list have, under a
                # new number, what the broker did not take. What follows is not acknowledged yet.
                peek=after != self._ledger.after,
                states=list(OUTCOMES),
                limit=PAGE,
            )
            jobs = page.get("jobs", [])
            for job in jobs:
                try:
                    listed = read_listed(job)
                except MalformedError as error:
                    LOGGER.warning("job %s: %s", job.get("job_id"), error)
                    continue
                self._came(listed.result)
                is_history = self._is_new or listed.is_acked
                is_new = self._ended(listed.result, listed.n, is_history=is_history)
                renumbered += is_new and listed.n != listed.result.n
            more = bool(page.get("more")) and bool(jobs)
            after = int(jobs[-1]["n"]) if jobs else after
        self._ledger.listed()
        return renumbered > PAGE

    # What is acknowledged.

    def _acknowledge_later(self) -> None:
        if self._ledger.is_whole:
            self._spawn(self._acknowledge_quietly())

    async def _acknowledge_quietly(self) -> None:
        try:
            await self._acknowledge()
        except (RefusedError, HomeAssistantError) as error:
            # It is listed again after the next interruption.
            LOGGER.debug("results of %s are not acknowledged: %s", self._topics.base, error)

    async def _acknowledge(self) -> None:
        # If Home Assistant ends before results were reported to listeners, the bridge has to list
        # them once more. What is history is reported to nobody.
        is_reported = self._unreported is None or self._is_new
        ledger = self._ledger
        for up_to in ledger.to_acknowledge() if is_reported else ():
            await self._ask("ack", up_to=up_to)
            ledger.acknowledged(up_to)
        self._store.async_delay_save(self._kept, _SAVE_DELAY_S)
