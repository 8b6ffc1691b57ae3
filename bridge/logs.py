"""Log lines: each says which client's which job it is about, as text or as JSON.

`about` names the job for all that is logged within, also in tasks that are started there. What one
place in the code logs without end is left out.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from bridge.text import hider, sendable, without_colours

Format = Literal["text", "json"]

# What one place in the code may log.
LINES = 200
PER_S = 60.0
_TRACEBACK_LINES = 20
# As `extra`: a line that is never left out, such as who commanded what.
NEVER_LEFT_OUT: Mapping[str, object] = {"never_left_out": True}

_about: ContextVar[dict[str, str]] = ContextVar("about", default={})  # noqa: B039 - never changed


# What ends a line for some reader, or makes a terminal do something.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


@contextmanager
def about(client: str, job: str | None = None) -> Iterator[None]:
    """Name what is logged about until the block ends."""
    fields = {"client": client} if job is None else {"client": client, "job": job}
    token = _about.set(fields)
    try:
        yield
    finally:
        _about.reset(token)


class TextFormatter(logging.Formatter):
    """A record is one line: what others wrote into a message cannot forge a line of ours."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """Return the record; a traceback follows in lines of its own, indented."""
        trace, record.exc_info, record.exc_text = record.exc_info, None, None
        line = _plain(super().format(record))
        line += "".join(f" {name}={value}" for name, value in _about.get().items())
        if not trace:
            return line
        lines = self.formatException(trace).splitlines()
        return "\n".join((line, *(f"    {_plain(each)}" for each in lines)))


def _plain(text: str) -> str:
    text = without_colours(text)
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class JsonFormatter(logging.Formatter):
    """A record is a line of JSON: `at`, `level`, `logger`, `message`, `client`, `job`, `trace`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record."""
        fields: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": sendable(without_colours(record.getMessage())),
            **_about.get(),
        }
        if record.exc_info:
            fields["trace"] = sendable(self.formatException(record.exc_info))
        return msgspec.json.encode(fields).decode()


class WithoutSecrets(logging.Formatter):
    """Formats as another does, without secrets that others' words may repeat."""

    def __init__(self, formatter: logging.Formatter, secrets: Collection[str]) -> None:
        super().__init__()
        self._formatter = formatter
        self._hide = hider(secrets)

    def format(self, record: logging.LogRecord) -> str:
        """Return the record."""
        return self._hide(self._formatter.format(record))


class FloodFilter(logging.Filter):
    """Leaves out what one place in the code logs more than `LINES` times in `PER_S` seconds.

    So nobody fills the disk by what is logged of each of his requests. A traceback counts for as
    many lines as it has, more or less. Lines that are `NEVER_LEFT_OUT`, or for developers, do not
    count. `clock` gives monotonic seconds. Safe on any thread.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._lock = threading.Lock()
        # By place: the begin of its time, and the lines since.
        self._places: dict[tuple[str, int], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to log a record; the last one says that others are left out."""
        if record.levelno < logging.INFO or hasattr(record, "never_left_out"):
            return True
        lines = _TRACEBACK_LINES if record.exc_info else 1
        place, now = (record.pathname, record.lineno), self._clock()
        with self._lock:
            since, before = self._places.get(place, (now, 0))
            if now - since >= PER_S:
                since, before = now, 0
            self._places[place] = since, before + lines
        if before < LINES <= before + lines:
            # Not formatted here: a fault of that would be raised where it is logged.
            record.msg = f"{record.msg}; more like this is left out for a while"
        return before < LINES


def set_up(level: str, form: Format = "text", secrets: Collection[str] = ()) -> None:
    """Log to standard error: ours from `level` on, of others what matters; no `secrets`."""
    handler = logging.StreamHandler()
    formatter = JsonFormatter() if form == "json" else TextFormatter()
    handler.setFormatter(WithoutSecrets(formatter, secrets))
    handler.addFilter(FloodFilter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("bridge").setLevel(level.upper())
