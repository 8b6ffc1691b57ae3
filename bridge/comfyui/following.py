"""The prompts of ours at one ComfyUI, each with what is known of it and who waits for its events.

A prompt is doubtful when frames of it may have been missed: it was submitted over a socket that is
gone (blind), the queue ran empty without it, or nothing was heard of it for long. Doubt is not
acted on here: `reconciling` asks ComfyUI's queue and history.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable

from bridge.comfyui import events, frames
from bridge.comfyui.errors import AlreadyFollowed
from bridge.comfyui.events import Event, Terminal
from bridge.comfyui.execution import Execution
from bridge.comfyui.mailbox import Mailbox


class Follower:
    """One prompt. `blind` means that its frames go to a client id that nobody reads."""

    def __init__(self, prompt_id: str, execution: Execution, *, blind: bool, now: float) -> None:
        self.prompt_id = prompt_id
        self.execution = execution
        self.blind = blind
        # Until ComfyUI answered the submission, its queue says nothing about the prompt.
        self.submitted = False
        self.withdrawn = False
        self.doubtful = False
        self.heard_at = now
        self._mailbox = Mailbox()

    def put(self, new: Iterable[Event]) -> None:
        """Pass events on; never waits."""
        for event in new:
            self._mailbox.put(event)

    async def events(self) -> AsyncIterator[Event]:
        """Give the events up to the terminal one."""
        while True:
            event = await self._mailbox.get()
            yield event
            if isinstance(event, Terminal):
                return


class Followers:
    """All of them, by prompt id; `doubt` is set when one becomes doubtful."""

    def __init__(self, *, silence_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.doubt = asyncio.Event()
        # Set while there is none.
        self.none = asyncio.Event()
        self.none.set()
        self._silence_s = silence_s
        self._clock = clock
        self._by_id: dict[str, Follower] = {}
        # The prompt that ComfyUI works on, for frames that do not say.
        self._current: str | None = None

    def __contains__(self, prompt_id: str) -> bool:
        return prompt_id in self._by_id

    def get(self, prompt_id: str) -> Follower | None:
        """Return the follower of a prompt that has not ended."""
        return self._by_id.get(prompt_id)

    def follow(self, prompt_id: str, execution: Execution, *, blind: bool) -> Follower:
        """Begin to follow a prompt; raises AlreadyFollowed."""
        if prompt_id in self._by_id:
            raise AlreadyFollowed(prompt_id)
        follower = Follower(prompt_id, execution, blind=blind, now=self._clock())
        self._by_id[prompt_id] = follower
        self.none.clear()
        return follower

    def drop(self, follower: Follower) -> None:
        """Follow it no longer; nobody waits for its events."""
        self._remove(follower)

    def submitted(self, follower: Follower) -> None:
        """Note that ComfyUI's queue can tell of the prompt from now on."""
        follower.submitted = True
        follower.heard_at = self._clock()
        if follower.doubtful:
            self.doubt.set()

    def question(self, follower: Follower) -> None:
        """Note that frames of it may have been missed."""
        follower.doubtful = True
        self.doubt.set()

    def take(self, frame: frames.Frame) -> None:
        """Pass a frame to its follower; never waits: a stalled reader stalls ComfyUI for all."""
        prompt_id = frames.prompt_of(frame) or self._current
        if prompt_id is None:
            return
        self._current = prompt_id
        follower = self._by_id.get(prompt_id)
        if follower is None:
            return
        follower.heard_at = self._clock()
        follower.put(follower.execution.feed(frame))
        if follower.execution.ended:
            if follower.execution.end is not None and not follower.execution.missing():
                self.end(follower)
            else:
                self.question(follower)

    def end(self, follower: Follower) -> None:
        """Give a prompt's last events, once."""
        if self._remove(follower):
            follower.put(follower.execution.close())

    def _remove(self, follower: Follower) -> bool:
        if self._by_id.get(follower.prompt_id) is not follower:
            return False
        del self._by_id[follower.prompt_id]
        if not self._by_id:
            self.none.set()
        return True

    def queue_changed(self, remaining: int) -> None:
        """Question those for whom a change of ComfyUI's queue may be the only news there is."""
        for follower in self._by_id.values():
            wiped = remaining == 0 and not follower.execution.started
            if follower.submitted and (follower.blind or wiped):
                self.question(follower)

    def cut(self) -> None:
        """Note that the socket is gone: no frame will come for any of them."""
        self._current = None
        for follower in self._by_id.values():
            follower.blind = True
            follower.execution.cut()

    def question_all(self) -> None:
        """Question every one, after a connection was made."""
        for follower in self._by_id.values():
            self.question(follower)

    def doubtful(self) -> list[Follower]:
        """Return those to ask about: questioned, or silent."""
        return [
            follower
            for follower in self._by_id.values()
            if follower.submitted and (follower.doubtful or self.silent(follower))
        ]

    def any_silent(self) -> bool:
        """Whether there is one of which nothing was heard for long."""
        return any(map(self.silent, self._by_id.values()))

    def silent(self, follower: Follower) -> bool:
        """Whether nothing was heard of it for long."""
        return self._clock() - follower.heard_at >= self._silence_s

    def seen(self, follower: Follower) -> None:
        """Note that ComfyUI has a prompt, of which no frame can tell."""
        if follower.blind:
            follower.heard_at = self._clock()

    def silence(self, prompt_id: str) -> float | None:
        """Return for how many seconds nothing was heard of a prompt; None if it has no follower."""
        follower = self._by_id.get(prompt_id)
        return None if follower is None else self._clock() - follower.heard_at

    def lose(self, reason: str) -> None:
        """End all: their ComfyUI is gone. One of which all is known ends as it did."""
        for follower in tuple(self._by_id.values()):
            execution = follower.execution
            if execution.end is None or execution.missing():
                execution.stop(events.Lost(reason))
            self.end(follower)
