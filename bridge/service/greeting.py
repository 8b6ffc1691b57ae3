"""The lines that a bridge prints once it is ready: its parts, and what it can do."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from msgspec import Struct

from bridge.comfyui.state import InstanceState
from bridge.contract.missing import why_not_runnable
from bridge.logs import NEVER_LEFT_OUT
from bridge.workflows.workflow import Workflow

log = logging.getLogger(__name__)

_POLL_S = 0.25
# A ComfyUI on a fast machine is ready by then; what is missing later is reported, once.
_PATIENCE_S = 15.0


class Readiness(Struct, frozen=True):
    """The state of all that a bridge needs before it is ready.

    `comfyuis` are the states by name, `addresses` those of attached ones, `workflows` those that
    were read, `broken` the files that could not be; `folder` says where they were read; `page` is
    the address of the page, if there is one.
    """

    broker: str
    connected: bool
    comfyuis: Mapping[str, InstanceState]
    workflows: Sequence[Workflow]
    broken: int = 0
    folder: str = ""
    page: str | None = None
    addresses: Mapping[str, str] = {}

    @property
    def ready(self) -> bool:
        """True if a job could run now, and each workflow is known to run or not."""
        usable = any(each.usable for each in self.comfyuis.values())
        return (
            self.connected and usable and all(each.runnable is not None for each in self.workflows)
        )


async def greet(read: Callable[[], Readiness], *, patience_s: float = _PATIENCE_S) -> None:
    """Log a greeting when the bridge is ready; after `patience_s`, what it waits for."""
    began = time.monotonic()
    reported = False
    readiness = read()
    while not readiness.ready:
        if not reported and time.monotonic() - began >= patience_s:
            reported = True
            for line in obstacles(readiness):
                log.warning("%s", line)
        await asyncio.sleep(_POLL_S)
        readiness = read()
    for line in lines(readiness, time.monotonic() - began):
        log.info("%s", line, extra=NEVER_LEFT_OUT)


def obstacles(readiness: Readiness) -> Iterator[str]:
    """Return what a bridge that is not ready waits for, line by line. Pure."""
    if not readiness.connected:
        yield f"not ready yet: no connection to the broker, {readiness.broker}"
    usable = [name for name, state in readiness.comfyuis.items() if state.usable]
    if not usable:
        for name, state in readiness.comfyuis.items():
            where = ", ".join(filter(None, (name, readiness.addresses.get(name))))
            why = state.last_error or f"ComfyUI is {state.state}"
            yield f"not ready yet: {why} ({where})"
    elif readiness.connected:
        yield f"not ready yet: the nodes of ComfyUI {', '.join(usable)} are being read"
    yield "`comfy2mqtt doctor` tests each part, and says what to do"


def lines(readiness: Readiness, seconds: float) -> Iterator[str]:
    """Return the greeting, line by line. Pure."""
    yield f"broker: {readiness.broker}"
    for name, state in readiness.comfyuis.items():
        version = f" {state.version}" if state.version else ""
        yield f"ComfyUI {name}{version}: {state.state}"
    yield f"workflows: {readiness.folder}"
    able = [each.name for each in readiness.workflows if each.runnable and not each.forbidden]
    yield f"workflows that can run: {', '.join(able) or 'none'}"
    for each in readiness.workflows:
        if each.forbidden:
            yield f"workflow {each.name} is not allowed: {', '.join(each.forbidden)}"
        elif each.runnable is False and each.missing is not None:
            yield f"workflow {each.name} cannot run: {why_not_runnable(each.name, each.missing)}"
    if readiness.broken:
        yield f"files that are no workflows: {readiness.broken}; `comfy2mqtt doctor` says which"
    if readiness.page is not None:
        yield f"page: {readiness.page}"
    yield f"ready in {seconds:.0f} s"
