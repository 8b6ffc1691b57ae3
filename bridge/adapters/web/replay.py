"""Replay of missed messages: they are listed from the bridge, and sent in their order.

A client that registers again names the last `n` that it has, which the bridge takes as an ack. What
this process missed while it had no broker is listed without an ack: no client has it yet.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

import msgspec
from msgspec import UNSET, Raw, Struct

from bridge.adapters.web import frames
from bridge.adapters.web.broker import Broker
from bridge.adapters.web.hub import BrowserSession, Hub
from bridge.adapters.web.requests import Reply
from bridge.contract.messages import JobList, JobStatus, JobView, List, encode
from bridge.contract.reading import UNREADABLE

log = logging.getLogger(__name__)

_PAGE: Final = 100
_AGAIN_S: Final = 1.0


class Replay:
    """`follow` is a task; `resume` is for one connection."""

    def __init__(self, broker: Broker, hub: Hub) -> None:
        self._broker = broker
        self._hub = hub

    async def resume(self, session: BrowserSession, after: int) -> None:
        """Send a session what it missed after `after`; the client has all up to there.

        The session must hold back numbered frames since before it joined the hub.
        """
        await self._replay(session.client, [session], List(after=after, limit=_PAGE))
        session.send(frames.text("resumed", {"n": session.n}))

    async def follow(self) -> None:
        """After each time without a broker, send all sessions what they missed; never returns."""
        came_back = self._broker.came_back
        await came_back.wait()
        catching_up: list[asyncio.Task[None]] = []
        async with asyncio.TaskGroup() as tasks:
            while True:
                came_back.clear()
                await came_back.wait()
                # One that nobody answers is not to keep the others from what they miss now.
                for each in catching_up:
                    each.cancel()
                catching_up = [
                    tasks.create_task(self._catch_up(client)) for client in self._hub.clients
                ]

    async def _catch_up(self, client: str) -> None:
        sessions = [each for each in self._hub.sessions_of(client) if each.n is not None]
        if not sessions:
            return
        for session in sessions:
            session.hold_back()
        after = min(session.n or 0 for session in sessions)
        await self._replay(client, sessions, List(after=after, peek=True, limit=_PAGE))

    async def _replay(self, client: str, sessions: Sequence[BrowserSession], wanted: List) -> None:
        """List a client's jobs, send each session what it has not been sent, and release it."""
        more = True
        while more and not all(session.ended for session in sessions):
            page = await self._page(client, wanted)
            for job in page.jobs:
                frame = _frame(job)
                for session in sessions:
                    if job.n > (session.n or 0):
                        session.send_missed(frame, job.n)
            if page.jobs:
                # A peek: what was just written to a client is not acked for it.
                wanted = msgspec.structs.replace(wanted, after=page.jobs[-1].n, peek=True)
            more = page.more
        for session in sessions:
            session.release_held()

    async def _page(self, client: str, wanted: List) -> JobList:
        """List, until there is an answer."""
        while True:
            if self._hub.bridge == "online":
                reply = await self._broker.request(client, "list", encode(wanted))
                if reply.status == "ok" and reply.data is not UNSET:
                    return _read(reply.data)
                if not _passes(reply):
                    return JobList(jobs=[], more=False)
            await asyncio.sleep(_AGAIN_S)


class _ErrorHead(Struct):
    """The one field of an error that matters here."""

    code: str = ""


def _passes(reply: Reply) -> bool:
    """Return whether asking again may help."""
    error = bytes(b"" if reply.error is UNSET else reply.error)
    try:
        code = msgspec.json.decode(error, type=_ErrorHead).code
    except UNREADABLE:
        code = ""
    if code in ("busy", "quota_exceeded"):
        return True
    log.error("cannot replay missed results: the bridge answered %s", error.decode())
    return False


def _read(data: Raw) -> JobList:
    try:
        return msgspec.json.decode(data, type=JobList)
    except UNREADABLE:
        log.exception("cannot read the bridge's list of results")
        return JobList(jobs=[], more=False)


def _frame(job: JobView) -> bytes:
    """Return the frame of a job's newest message, as it would have been sent at the time."""
    if job.result is not UNSET:
        return frames.spliced("result", bytes(job.result))
    status = JobStatus(
        job_id=job.job_id,
        workflow=job.workflow,
        transaction=job.transaction,
        meta=job.meta,
        n=job.n,
        state=job.state,
        attempt=job.attempt,
        position=job.position,
    )
    return frames.text("status", status)
