"""A bridge's attempts at its ComfyUIs, one step at a time."""

from __future__ import annotations

from msgspec import Struct

from bridge.contract.errors import BridgeError, ComfyUIUnavailable
from bridge.jobs.core import effects, events
from bridge.jobs.queue import Key
from tests.jobs.process import Process
from tests.jobs.world import ComfyUI, Prompt, World


class Attempt(Struct):
    """An attempt as its bridge follows it. `sent`: ComfyUI has the prompt, or had it."""

    start: effects.StartJob
    prompt_id: str
    sent: bool = False
    began: bool = False
    stop: bool = False
    left: bool = False


class Attempting(Process):
    """A process that follows attempts."""

    def __init__(
        self, world: World, life: str, comfyuis: dict[str, ComfyUI], *, alone: bool
    ) -> None:
        super().__init__(world, life, comfyuis, alone=alone)
        self.attempts: dict[Key, Attempt] = {}

    def advance(self, key: Key) -> None:
        """Let one attempt make one step at its ComfyUI."""
        attempt = self.attempts[key]
        comfyui = self.comfyuis[attempt.start.instance]
        if attempt.left:
            del self.attempts[key]
            self._ended(attempt, succeeded=True)
        elif not attempt.sent:
            self._send(attempt, comfyui)
        elif attempt.prompt_id not in comfyui.prompts:
            self._end(attempt, events.AttemptBroke(key, ComfyUIUnavailable("lost"), self._new_id()))
        elif attempt.stop and not comfyui.away:
            del comfyui.prompts[attempt.prompt_id]
            self._end(attempt, events.AttemptStopped(key, self._new_id()))
        elif not comfyui.away:
            self._run(attempt, comfyui)

    def _send(self, attempt: Attempt, comfyui: ComfyUI) -> None:
        key = attempt.start.key
        if comfyui.away:
            error = ComfyUIUnavailable("away")
            self._end(attempt, events.AttemptBroke(key, error, self._new_id()))
        elif attempt.start.adopt and attempt.prompt_id in comfyui.prompts:
            attempt.sent = True
        elif attempt.start.adopt and attempt.start.began:
            self._end(attempt, events.AttemptBroke(key, ComfyUIUnavailable("lost"), self._new_id()))
        elif attempt.stop:
            self._end(attempt, events.AttemptStopped(key, self._new_id()))
        else:
            assert attempt.prompt_id not in comfyui.prompts, "a prompt id is used twice"
            attempt.sent = True
            comfyui.prompts[attempt.prompt_id] = Prompt.QUEUED

    def _run(self, attempt: Attempt, comfyui: ComfyUI) -> None:
        key = attempt.start.key
        comfyui.run({each.prompt_id for each in self.attempts.values()})
        match comfyui.prompts[attempt.prompt_id]:
            case Prompt.RUNNING if not attempt.began:
                attempt.began = True
                self.handle(events.Began(key))
            case Prompt.RUNNING | Prompt.DONE:
                comfyui.prompts[attempt.prompt_id] = Prompt.DONE
                attempt.left = True
                self.handle(events.LeftComfyUI(key))
            case Prompt.QUEUED:
                pass

    def _ended(self, attempt: Attempt, *, succeeded: bool) -> None:
        key = attempt.start.key
        how = self.world.draw_ending() if succeeded else "failed"
        if how == "succeeded":
            self.handle(events.AttemptSucceeded(key, 1.0))
        elif how == "failed":
            self.handle(events.AttemptFailed(key, BridgeError("a node failed")))
        elif how == "memory":
            error = BridgeError("out of memory")
            self.handle(events.AttemptBroke(key, error, self._new_id(), free_memory=True))
        elif how == "no room":
            error = BridgeError("ComfyUI's disk is full")
            self.handle(events.AttemptBroke(key, error, self._new_id(), no_room=True))
        else:
            self.handle(events.Defect(key, BridgeError("internal error")))

    def _end(self, attempt: Attempt, event: events.Event) -> None:
        del self.attempts[attempt.start.key]
        self.handle(event)

    def _new_id(self) -> str:
        return self.world.new_id()
