"""Why jobs do not start whose turn it is: their ComfyUIs are away, or the queue is paused."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from itertools import islice

from bridge.comfyui.state import InstanceState, StateName
from bridge.jobs.backlog import Backlog
from bridge.jobs.job import Job
from bridge.jobs.posts import Post
from bridge.jobs.queue import Key

# What is over sooner is not worth telling.
SETTLES_S = 5.0
# So many are told, the next ones first: a status for each of thousands could cost others theirs.
MOST = 100

_WORDS: Mapping[StateName, str] = {
    "stopped": "is stopped",
    "starting": "is starting",
    "unreachable": "is unreachable",
    "yielded": "is left to others",
    "restarting": "is starting",
    "crash_loop": "does not start",
}


class Absence:
    """Use `run` as a task. `tell` is given a job of which another reason is to be told, or none."""

    def __init__(self, backlog: Backlog, tell: Callable[[Job], None]) -> None:
        self._backlog = backlog
        self._tell = tell
        self._told: dict[Key, str] = {}
        self._changed = asyncio.Event()

    def why(self, job: Job) -> str | None:
        """Why a job could not start now; None if it could, or runs."""
        if job.state != "queued":
            return None
        if self._backlog.paused:
            return "the operator paused the queue"
        posts = list(self._backlog.posts)
        if all(post.instance.state.usable for post in posts):
            return None
        able = self._backlog.able(job.needs)
        posts = [post for post in posts if post.name in able] or posts
        if any(post.instance.state.usable for post in posts):
            return None
        return ", ".join(f"ComfyUI {post.name} {_words(post.instance.state)}" for post in posts)

    def told(self, job: Job) -> str | None:
        """Return why a job waits, for a status that is about to be told."""
        why = self.why(job)
        if why is not None:
            self._told[job.key] = why
            self._changed.set()
        return why

    def look(self) -> None:
        """Look anew: the queue was paused, or goes on."""
        self._changed.set()

    async def run(self) -> None:
        """Tell those who are next, whenever it is another reason, or none any more."""
        async with asyncio.TaskGroup() as tasks:
            for post in self._backlog.posts:
                tasks.create_task(self._watch(post))
            while True:
                await self._changed.wait()
                await asyncio.sleep(SETTLES_S)
                self._changed.clear()
                self._tell_all()

    async def _watch(self, post: Post) -> None:
        state = post.instance.state
        while True:
            if not state.usable:
                self._changed.set()
            changed = await post.instance.changed(state)
            if changed.usable and not state.usable:
                self._changed.set()
            state = changed

    def _tell_all(self) -> None:
        told, self._told = self._told, {}
        for job in islice(self._backlog, MOST):
            why = self.why(job)
            if why is not None:
                self._told[job.key] = why
            if told.get(job.key) != why:
                self._tell(job)


def _words(state: InstanceState) -> str:
    return _WORDS.get(state.state, "takes no jobs")
