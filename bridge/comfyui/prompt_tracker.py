"""Tracks our prompts at one ComfyUI. Pure.

Input: frames, ComfyUI's queue, history entries, and whether there is a connection. Output: the
events of each prompt, in ComfyUI's order, the last one a `Terminal`. Times are seconds of one
monotonic clock.

A prompt is in doubt when frames of it may have been missed: it was submitted over a socket that is
gone (it is blind), the queue ran empty without it, or it sent nothing for long. Whoever
owns the tracker then asks ComfyUI about the prompts in `doubtful` and passes on the answers:

    outputs that did not come over the socket    output_fetched, output_failed, then complete
    GET /queue                                   queue_read
    GET /history, for those not in the queue     history_read
    in neither, twice in a row                   vanished
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

from bridge.comfyui import events, frames
from bridge.comfyui.errors import AlreadyFollowed
from bridge.comfyui.events import Event
from bridge.comfyui.execution import Execution
from bridge.comfyui.history import HistoryEntry, QueueState

# Fetches of one prompt's outputs that may fail with an answer such as 500.
FETCH_ATTEMPTS = 5


class Prompt:
    """One prompt. `blind`: its frames are sent to a client id whose socket is gone."""

    def __init__(self, prompt_id: str, execution: Execution, *, blind: bool, now: float) -> None:
        self.prompt_id = prompt_id
        self.execution = execution
        self.blind = blind
        # Until ComfyUI answered the submission, its queue says nothing about the prompt.
        self.submitted = False
        # We asked ComfyUI to stop it or to take it out of the queue.
        self.withdrawn = False
        self.doubtful = False
        self.heard_at = now
        self.failed_fetches = 0

    @property
    def incomplete(self) -> bool:
        """True if its end is known, and outputs may still have to be fetched."""
        return self.execution.ended and self.execution.end is not None


# Events with the prompts whose they are, in the order in which they happened.
Deliveries: TypeAlias = list[tuple[Prompt, Event]]


class PromptTracker:
    """Every prompt of ours that has not ended, by its id.

    `doubt` is set when one comes into doubt; whoever looks after that clears it.
    """

    def __init__(self, *, silence_s: float) -> None:
        """A prompt that sent nothing for `silence_s` seconds is in doubt."""
        self.doubt = False
        self._silence_s = silence_s
        self._by_id: dict[str, Prompt] = {}
        # The prompt that ComfyUI works on, for frames that do not say.
        self._current: str | None = None

    def __contains__(self, prompt_id: str) -> bool:
        return prompt_id in self._by_id

    def __len__(self) -> int:
        return len(self._by_id)

    # -- our own doing --------------------------------------------------------------------------

    def follow(self, prompt_id: str, execution: Execution, *, blind: bool, now: float) -> Prompt:
        """Begin to follow a prompt. Raises AlreadyFollowed."""
        if prompt_id in self._by_id:
            raise AlreadyFollowed(prompt_id)
        prompt = self._by_id[prompt_id] = Prompt(prompt_id, execution, blind=blind, now=now)
        return prompt

    def submitted(self, prompt: Prompt, now: float) -> None:
        """Note that ComfyUI answered the submission: its queue shows the prompt from now on."""
        prompt.submitted = True
        prompt.heard_at = now
        self.doubt |= prompt.doubtful

    def question(self, prompt: Prompt) -> None:
        """Note that frames of it may have been missed."""
        prompt.doubtful = True
        self.doubt = True

    def withdraw(self, prompt_id: str) -> Prompt | None:
        """Note that it is being stopped: if it vanishes, it was interrupted and is not lost."""
        prompt = self._by_id.get(prompt_id)
        if prompt is not None:
            prompt.withdrawn = True
        return prompt

    def drop(self, prompt: Prompt) -> bool:
        """Stop following a prompt; False if it was not followed."""
        if not self.follows(prompt):
            return False
        del self._by_id[prompt.prompt_id]
        return True

    def follows(self, prompt: Prompt) -> bool:
        """True if this is the prompt that is followed under its id."""
        return self._by_id.get(prompt.prompt_id) is prompt

    # -- what the socket says -------------------------------------------------------------------

    def connected(self) -> None:
        """Note a new connection: each prompt may have made progress meanwhile."""
        for prompt in self._by_id.values():
            self.question(prompt)

    def disconnected(self) -> None:
        """Note that the socket is gone: no frame will come for any of the present prompts."""
        self._current = None
        for prompt in self._by_id.values():
            prompt.blind = True
            prompt.execution.disconnected()

    def received(self, frame: frames.Frame, now: float) -> Deliveries:
        """Take a frame, of a prompt of ours or of another client."""
        prompt_id = frames.prompt_of(frame) or self._current
        if prompt_id is None:
            return []
        self._current = prompt_id
        prompt = self._by_id.get(prompt_id)
        if prompt is None:
            return []
        prompt.heard_at = now
        execution = prompt.execution
        deliveries = _of(prompt, execution.feed(frame))
        if execution.ended:
            if execution.end is not None and not execution.missing():
                return deliveries + self.complete(prompt)
            self.question(prompt)
        return deliveries

    def queue_length(self, prompts: int) -> None:
        """Note that ComfyUI's queue changed: for some prompts this is the only sign.

        `prompts` counts everybody's that run or wait.
        """
        for prompt in self._by_id.values():
            wiped = prompts == 0 and not prompt.execution.started
            if prompt.submitted and (prompt.blind or wiped):
                self.question(prompt)

    # -- what ComfyUI answers -------------------------------------------------------------------

    def doubtful(self, now: float) -> list[Prompt]:
        """Return those to ask about: in doubt, or silent."""
        return [
            prompt
            for prompt in self._by_id.values()
            if prompt.submitted and (prompt.doubtful or self._is_silent(prompt, now))
        ]

    def queue_read(
        self, prompts: Sequence[Prompt], queue: QueueState, now: float
    ) -> tuple[Deliveries, list[Prompt]]:
        """Settle the doubt about those of `prompts` that are in the queue; returns the others.

        A blind one is never silent, since no frames of it come.
        """
        deliveries: Deliveries = []
        others: list[Prompt] = []
        for prompt in filter(self.follows, prompts):  # one may have ended meanwhile
            if prompt.prompt_id not in queue:
                others.append(prompt)
                continue
            prompt.doubtful = False
            if prompt.blind:
                prompt.heard_at = now
            deliveries += _of(prompt, prompt.execution.enqueue())
            if prompt.prompt_id in queue.running:
                deliveries += _of(prompt, prompt.execution.start())
        return deliveries, others

    def history_read(self, prompt: Prompt, entry: HistoryEntry, now: float) -> Deliveries:
        """Take what the history knows of a prompt, unless its frames are only late.

        If it is `incomplete` after that, fetch its missing outputs, then call `complete`.
        """
        execution = prompt.execution
        if not self.follows(prompt):
            return []  # it ended meanwhile
        if not (prompt.blind or execution.ended or self._is_silent(prompt, now)):
            # Frames say more than the history does.
            prompt.doubtful = False
            return []
        if not execution.ended:
            execution.disconnected()
        deliveries = _of(prompt, (*execution.enqueue(), *execution.start()))
        execution.settle(entry)
        return deliveries

    def vanished(self, prompt: Prompt) -> Deliveries:
        """End a prompt that ComfyUI neither queues nor remembers."""
        prompt.execution.stop(
            events.PromptInterrupted()
            if prompt.withdrawn
            else events.PromptLost("ComfyUI neither queues nor remembers the prompt")
        )
        return self.complete(prompt)

    def output_fetched(
        self, prompt: Prompt, header: frames.OutputHeader, data: bytes
    ) -> Deliveries:
        """Take an output of one of our nodes that did not come over the socket."""
        return _of(prompt, prompt.execution.output(header, data)) if self.follows(prompt) else []

    def output_failed(self, prompt: Prompt, reason: str, *, final: bool) -> Deliveries:
        """Note a fetch that failed: the prompt is lost if that is final, or happened too often."""
        prompt.failed_fetches += 1
        if not final and prompt.failed_fetches < FETCH_ATTEMPTS:
            return []  # it stays in doubt
        prompt.execution.stop(events.PromptLost(f"an output is gone: {reason}"))
        return self.complete(prompt)

    def complete(self, prompt: Prompt) -> Deliveries:
        """End a prompt of which all is known: its last events, once."""
        return _of(prompt, prompt.execution.close()) if self.drop(prompt) else []

    def fail_all(self, reason: str, *, died: bool, alone: bool = True) -> Deliveries:
        """End all: their ComfyUI is gone, by itself if it `died`.

        A prompt of which all is known ends as it did; the one that ran gets `died`. `alone`:
        no prompts of others are there.
        """
        deliveries: Deliveries = []
        suspect = self._ran(alone=alone) if died else None
        for prompt in tuple(self._by_id.values()):
            execution = prompt.execution
            if execution.end is None or execution.missing():
                execution.stop(events.PromptLost(reason, died=prompt is suspect))
            deliveries += self.complete(prompt)
        return deliveries

    def _ran(self, *, alone: bool) -> Prompt | None:
        """Return the prompt that ran when the process ended, as far as can be known.

        A prompt may end ComfyUI before its first frame: then it is the first one in the queue.
        """
        left = [
            prompt
            for prompt in self._by_id.values()
            if prompt.execution.end is None and not prompt.execution.ended
        ]
        started = (prompt for prompt in left if prompt.execution.started)
        return next(started, left[0] if left and alone else None)

    # -- silence --------------------------------------------------------------------------------

    def silence(self, prompt_id: str, now: float) -> float | None:
        """Return for how many seconds a prompt has sent nothing; None if it is not followed."""
        prompt = self._by_id.get(prompt_id)
        return None if prompt is None else now - prompt.heard_at

    def any_silent(self, now: float) -> bool:
        """True if there is one that sent nothing for `silence_s`."""
        return any(self._is_silent(prompt, now) for prompt in self._by_id.values())

    def _is_silent(self, prompt: Prompt, now: float) -> bool:
        return now - prompt.heard_at >= self._silence_s


def _of(prompt: Prompt, happened: Iterable[Event]) -> Deliveries:
    return [(prompt, event) for event in happened]
