"""Webhooks: results that the journal keeps for a receiver until it has them, or is given up.

A webhook is written down with the result that it is about, in one transaction, so that no kill
loses it. It is sent again with longer and longer pauses; the receiver knows it again by its id.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable

import aiohttp

from bridge import logs
from bridge.aio import wait_set
from bridge.contract import targets
from bridge.contract.errors import BridgeError
from bridge.jobs.database import DatabaseError, LeaseLost
from bridge.jobs.journal import Journal
from bridge.jobs.journal.webhooks import PendingWebhook
from bridge.media.download import AllowedHosts
from bridge.sinks import http, schedule, signature
from bridge.sinks.schedule import DeliveryRefused
from bridge.text import problem_of

log = logging.getLogger(__name__)

# How many webhooks of a client are sent at a time.
AT_ONCE = 4
# Other bridges write some down too, and a disk may have been full: so the journal is read again.
POLL_S = 5.0

# Raises Forbidden unless a webhook may be sent; returns the addresses it may reach.
CheckHook = Callable[[PendingWebhook], AllowedHosts]
# Called with each webhook that was given up, and why.
GaveUp = Callable[[PendingWebhook, str], None]


class WebhookSender:
    """Use `run` as a task, once the journal is open. All methods are for the loop's thread."""

    def __init__(
        self,
        journal: Journal,
        *,
        key: Callable[[], bytes],
        check: CheckHook,
        gave_up: GaveUp,
        leads: Callable[[], bool] = lambda: True,
        pauses: Callable[[int, int | None], float | None] = schedule.next_attempt,
    ) -> None:
        """`key` returns the bridge's key, which is read when it is needed first.

        `leads`: True while this bridge is the one of several to send them. `pauses` returns after
        how long one is sent again, of which so many attempts failed, the last with that status.
        """
        self._journal = journal
        self._key = key
        self._check = check
        self._gave_up = gave_up
        self._leads = leads
        self._pauses = pauses
        self._going: dict[str, asyncio.Task[None]] = {}
        self._of_client: Counter[str] = Counter()
        self._wake = asyncio.Event()
        journal.webhooks.on_new = self._wake.set

    async def run(self) -> None:
        """Send due webhooks, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                self._wake.clear()
                try:
                    pause_s = await self._send_due(tasks)
                except DatabaseError as error:
                    log.warning("webhooks wait for the database: %s", error)
                    pause_s = POLL_S
                await wait_set(self._wake, pause_s)

    async def _send_due(self, tasks: asyncio.TaskGroup) -> float:
        """Begin to send due webhooks; returns the seconds until the next look."""
        if not self._leads():
            return POLL_S
        now = self._journal.clock.now()
        busy = {client for client, number in self._of_client.items() if number >= AT_ONCE}
        due = await self._journal.webhooks.due(now, busy, AT_ONCE)
        for each in due:
            if each.id not in self._going and self._of_client[each.client] < AT_ONCE:
                self._of_client[each.client] += 1
                self._going[each.id] = tasks.create_task(self._send(each))
        if self._journal.shared:
            return POLL_S
        next_at = await self._journal.webhooks.next_due(now)
        return POLL_S if next_at is None else min(POLL_S, max(0.05, next_at - now))

    async def _send(self, hook: PendingWebhook) -> None:
        with logs.about(hook.client, hook.name):
            try:
                problem, status = await self._attempt(hook)
                await self._conclude(hook, problem, status)
            except DatabaseError as error:
                log.warning("cannot store that a webhook was sent, it may be sent again: %s", error)
            except LeaseLost:
                raise
            except Exception:
                log.exception("defect in the bridge: the webhook waits for the next start")
                return  # it stays in `_going`
            self._going.pop(hook.id, None)
            self._of_client[hook.client] -= 1
            if not self._of_client[hook.client]:
                del self._of_client[hook.client]
            self._wake.set()

    async def _attempt(self, hook: PendingWebhook) -> tuple[str | None, int | None]:
        """Send it once; returns what went wrong, and the status if there was an answer."""
        at = int(time.time())
        try:
            reach = self._check(hook)
            headers = signature.headers(self._key(), hook.client, hook.id, at, hook.body)
            async with asyncio.timeout(schedule.WEBHOOK_TIMEOUT_S):
                await http.post(hook.url, headers, hook.body, reach)
        except DeliveryRefused as refused:
            return str(refused), refused.status
        except TimeoutError:
            return f"no answer within {schedule.WEBHOOK_TIMEOUT_S:g} s", None
        except BridgeError as error:
            return error.message, None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return problem_of(error), None
        return None, None

    async def _conclude(
        self, hook: PendingWebhook, problem: str | None, status: int | None
    ) -> None:
        webhooks = self._journal.webhooks
        if problem is None:
            await webhooks.remove(hook)
            return
        pause_s = self._pauses(hook.attempts + 1, status)
        shown = targets.shown(hook.url)
        if pause_s is None:
            log.warning("webhook %s failed for the last time: %s", shown, problem)
            await webhooks.remove(hook)
            self._gave_up(hook, problem)
            return
        log.info("webhook %s failed, next try in %g s: %s", shown, pause_s, problem)
        await webhooks.postpone(hook, self._journal.clock.now() + pause_s)
