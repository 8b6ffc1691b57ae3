"""`comfy2mqtt serve` and `websocket`: what runs until it is stopped."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from typing import Any

from bridge import config, logs, private
from bridge.adapters.web.keyring import KeyringError
from bridge.aio import first
from bridge.cli.shared import FAILED, stop
from bridge.config import Config, ConfigError
from bridge.mqtt import MqttError

if sys.platform == "win32":
    from bridge.aio import new_event_loop
else:
    from uvloop import new_event_loop

log = logging.getLogger(__name__)

# How long the event loop waits, at most, for a thread that computes in Python, such as the one that
# measures pictures. Python's own 5 ms would be added to answers several times over.
_SWITCH_S = 0.000_5
# The parameter of glibc's mallopt, and from how many bytes on a block is a mapping of its own.
_M_MMAP_THRESHOLD = -3
_LARGE_BLOCK = 256 * 1024
# Threads that wait for a disk or a database at the end get so long.
_THREADS_S = 5.0


def warn_of_unknown(environment: Mapping[str, str]) -> None:
    """Log a warning for each variable that looks like a setting and is none."""
    for variable in config.unknown(environment):
        log.warning("%s is no setting%s", variable, config.meant(variable))


def serve(settings: Config) -> str | None:
    """Run the bridge until SIGINT or SIGTERM; return why it could not."""
    from bridge import service
    from bridge.comfyui.building import InstallFailed
    from bridge.jobs.database import DatabaseError
    from bridge.service import checks

    private.from_now_on()
    if not settings.journal:
        checks.check_data(settings)
    private.claim(settings.folder, config.IN_DATA, leave=[settings.workflows])
    reasons = (DatabaseError, InstallFailed, KeyringError, MqttError)
    return _run(service.serve(settings), *reasons)


def serve_web(settings: Config) -> str | None:
    """Run the web adapter alone until SIGINT or SIGTERM; return why it could not."""
    private.from_now_on()
    return _run(_serve_web(settings), KeyringError, MqttError)


async def _serve_web(settings: Config) -> None:
    from bridge.adapters.web.adapter import WebAdapter

    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        with suppress(NotImplementedError):  # Windows: Ctrl-C comes as KeyboardInterrupt
            loop.add_signal_handler(number, stopping.set)
    await first(WebAdapter.of(settings).run(), stopping.wait())


def begin(
    settings: Config,
    check: Callable[[Config], None],
    run: Callable[[Config], str | None],
) -> None:
    """Check the settings, set up the log, and run; ends the process if that fails.

    Raises ConfigError.
    """
    check(settings)
    logs.set_up(settings.log_level, settings.log_format, settings.secrets)
    warn_of_unknown(os.environ)
    reason = run(settings)
    if reason is not None:
        stop(reason, FAILED)


def _run(serving: Coroutine[Any, Any, None], *reasons: type[Exception]) -> str | None:
    """Run to the end; return the text of the first of these reasons why it could not.

    Raises ConfigError.
    """
    failure: BaseException | None = None
    known: tuple[type[Exception], ...] = (ConfigError, *reasons)
    sys.setswitchinterval(_SWITCH_S)
    give_back_large_blocks()
    try:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            try:
                runner.run(serving)
            finally:
                _force_exit_soon()
    except* known as group:
        failure = group
        while isinstance(failure, BaseExceptionGroup):
            failure = failure.exceptions[0]
    if isinstance(failure, ConfigError):
        raise failure
    return None if failure is None else str(failure)


def give_back_large_blocks() -> None:
    """Make glibc return the memory of large messages to the system as soon as they are freed.

    It does so by itself only until one of that size was freed: then it keeps as much. Not by its
    environment variable, which a ComfyUI would inherit. Other C libraries have no such call.
    """
    if sys.platform == "linux":
        with suppress(AttributeError):
            ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE_BLOCK)


def _force_exit_soon() -> None:
    """See that this process ends soon: Python waits for its threads, and theirs may never end."""

    def end() -> None:
        log.error("a thread still waits for a disk or a database: ending without it")
        os._exit(FAILED)

    timer = threading.Timer(_THREADS_S, end)
    timer.daemon = True
    timer.start()
