"""Keeps a workflow's models loaded: its defaults are run when a ComfyUI starts, and after a yield.

A warm-up is a prompt of the bridge's own, in no queue and no journal. It runs when no job waits,
and its outputs are dropped. Models that an idle ComfyUI unloads stay unloaded.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from secrets import SystemRandom
from typing import Any

from msgspec import UNSET, Raw, Struct

from bridge.comfyui import events as comfyui_events
from bridge.comfyui.instance import Instance
from bridge.comfyui.state import InstanceState
from bridge.contract.errors import BridgeError, UnknownWorkflow
from bridge.jobs import attempt
from bridge.jobs.attempt import Attempt
from bridge.jobs.core import events
from bridge.jobs.dispatcher import Dispatcher
from bridge.jobs.job import Envelope, Job, Plan
from bridge.jobs.outputs import CollectedOutput
from bridge.jobs.progress import Snapshot
from bridge.jobs.queue import Key
from bridge.workflows import binding
from bridge.workflows.binding import FOLDER
from bridge.workflows.library import Library
from bridge.workflows.workflow import Workflow

log = logging.getLogger(__name__)

_randint = SystemRandom().randint  # both bounds included
# A ComfyUI that has just started is asked what it has first: the workflow is not known at once.
_KNOWN_AFTER_S = 60.0
_RECHECK_S = 0.5
# How long a warm-up may take, and may be silent, in seconds.
_TIMEOUT_S = 1800.0


# No process has this name; one that is attached has none.
_NEVER = "never"


class WarmupState(Struct, frozen=True):
    """Decides when a ComfyUI is warmed. `epoch`: the process warmed last; `left`: it yielded.

    Pure: `after` returns what is known after another state.
    """

    epoch: str | None = _NEVER
    left: bool = False
    now: bool = False

    def after(self, state: InstanceState) -> WarmupState:
        """Return whether it is to be warmed in this state."""
        left = self.left or state.yielding
        if not state.usable:
            return WarmupState(self.epoch, left, now=False)
        new = state.epoch != self.epoch
        return WarmupState(state.epoch, left=False, now=new or left)


class Warmup:
    """Warms one ComfyUI. Use `run` as a task."""

    def __init__(
        self, instance: Instance, workflow: str, *, library: Library, dispatcher: Dispatcher
    ) -> None:
        self._instance = instance
        self._workflow = workflow
        self._library = library
        self._dispatcher = dispatcher

    async def run(self) -> None:
        """Warm it whenever that is due, until cancelled."""
        due, state = WarmupState(), self._instance.state
        while True:
            due = due.after(state)
            if due.now:
                await self._warm()
                if self._instance.state != state:
                    state = self._instance.state
                    continue
            state = await self._instance.changed(state)

    async def _warm(self) -> None:
        name = self._instance.name
        book = self._dispatcher.book
        if book.queued or book.running:
            log.info("ComfyUI %s: no warm-up, it has jobs", name)
            return
        try:
            plan = await self._plan()
        except BridgeError as error:
            log.warning("ComfyUI %s: warm-up refused: %s", name, error.message)
            return
        began = time.monotonic()
        ending = await self._run(plan)
        if isinstance(ending, attempt.Success):
            needs = self._library.catalogue.needs(plan.prompt)
            self._dispatcher.handle(events.ModelsLoaded(name, needs))
            took = time.monotonic() - began
            log.info("ComfyUI %s: warm-up loaded workflow %s in %.1f s", name, self._workflow, took)
        elif isinstance(ending, attempt.Failure | attempt.Retry):
            log.warning("ComfyUI %s: warm-up failed: %s", name, ending.error.message)

    async def _plan(self) -> Plan:
        """Return the workflow with its defaults. Raises BridgeError."""
        workflow = await self._wait_for_workflow()
        bound = binding.bind(workflow, {}, randint=_randint)
        classes = [node["class_type"] for node in bound.prompt.values()]
        paid = self._library.catalogue.partner_nodes(classes)
        if paid or workflow.forbidden or bound.media:
            what = ", ".join(paid or workflow.forbidden) or "media"
            raise BridgeError(f"{self._workflow!r} has {what}: it is not run unasked")
        drawing = UNSET if workflow.drawing is None else Raw(workflow.drawing)
        return Plan(
            bound.prompt, bound.inputs, bound.names, list(workflow.outputs), drawing=drawing
        )

    async def _wait_for_workflow(self) -> Workflow:
        """Return the workflow once the ComfyUI's nodes are known. Raises UnknownWorkflow."""
        until = time.monotonic() + _KNOWN_AFTER_S
        while True:
            late = time.monotonic() >= until
            try:
                workflow = self._library.get(self._workflow, None)
            except UnknownWorkflow:
                if late:
                    raise
            else:
                if late or workflow.runnable is not None:
                    return workflow
            await asyncio.sleep(_RECHECK_S)

    async def _run(self, plan: Plan) -> attempt.Ending:
        prompt_id = str(uuid.uuid4())
        job = Job(
            key=Key("", "warm-up"),
            workflow=self._workflow,
            workflow_version="",
            state="queued",
            prompt_id=prompt_id,
            envelope=Envelope(deliver="none"),
        )
        made = Attempt(
            job,
            self._instance,
            observer=_SilentObserver(),
            load_media=_no_media,
            timeout_s=_TIMEOUT_S,
            silence_s=_TIMEOUT_S,
            adopt=False,
            began=False,
        )
        ending = await made.run(plan)
        folder = f"{FOLDER}/{prompt_id}" if made.saved_files else None
        self._instance.clean_up(prompt_id, folder)
        return ending


class _SilentObserver:
    """Receives the progress of a warm-up, and publishes nothing."""

    def began(self) -> None:
        """ComfyUI began to run it."""

    def output(self, output: CollectedOutput) -> CollectedOutput:
        """Return the output; it is dropped."""
        return output

    def progress(self, snapshot: Snapshot) -> None:
        """Note progress: the warm-up does not hang."""

    def preview(self, preview: comfyui_events.PromptPreview) -> None:
        """ComfyUI sent an image of it."""


async def _no_media(sha256: str) -> Any:
    raise LookupError(sha256)  # what takes media is not run unasked
