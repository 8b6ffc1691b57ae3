"""What commands share that run until they are told to stop."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Coroutine, Mapping
from typing import Any

from bridge import config

if sys.platform == "win32":
    from asyncio import new_event_loop
else:
    from uvloop import new_event_loop

log = logging.getLogger(__name__)


def warn_of_unknown(environment: Mapping[str, str]) -> None:
    """Tell of variables that look like settings and are none."""
    for variable in config.unknown(environment):
        log.warning("%s is no setting: is it misspelt?", variable)


def run(serving: Coroutine[Any, Any, None], *reasons: type[Exception]) -> str | None:
    """Run to the end; returns the text of the first of these reasons why it could not."""
    reason: str | None = None
    try:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(serving)
    except* reasons as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        reason = str(error)
    return reason
