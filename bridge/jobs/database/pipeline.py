"""Statements on a connection to PostgreSQL, sent without waiting for one another's results.

Who sends a statement gets its result at once, and waits only by looking into it: then everything
that was sent so far goes to the server in one packet, and comes back in one. libpq's pipeline mode
is used directly, since a statement costs a tenth of the processor time so.
"""

from __future__ import annotations

import functools
import itertools
from collections import deque
from collections.abc import Iterator, Sequence
from selectors import EVENT_READ, EVENT_WRITE, DefaultSelector
from typing import Any

import psycopg
import psycopg.abc
from psycopg import pq
from psycopg.adapt import Transformer
from psycopg.errors import error_from_result

_DONE = (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK, pq.ExecStatus.PIPELINE_SYNC)


class PendingResult:
    """A `Cursor` whose statement may be under way still."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._rows: Iterator[Any] | None = None
        self._changed = 0
        self.status = ""

    @property
    def rowcount(self) -> int:
        """The number of rows that were changed, or found."""
        self._wait()
        return self._changed

    def fetchone(self) -> Any:
        """Return the next row, None after the last."""
        return next(self._wait(), None)

    def __iter__(self) -> Iterator[Any]:
        return self._wait()

    @property
    def is_here(self) -> bool:
        """True if the statement was executed, and looking into its result waits for nothing."""
        return self._rows is not None

    def take(self, result: pq.abc.PGresult, transformer: psycopg.abc.Transformer) -> None:
        """Take what the server has answered."""
        transformer.set_pgresult(result, format=pq.Format.BINARY)
        self._rows = iter(transformer.load_rows(0, result.ntuples, tuple))
        self._changed = result.command_tuples or 0
        self.status = (result.command_status or b"").decode()

    def _wait(self) -> Iterator[Any]:
        if self._rows is None:
            self._pipeline.settle()
        if self._rows is None:
            raise psycopg.errors.PipelineAborted("a statement before this one failed")
        return self._rows


class Pipeline:
    """A connection in pipeline mode. Only for the thread that made it."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection
        self._libpq = connection.pgconn
        self._encoding = connection.info.encoding
        self._transformer = Transformer(connection)
        self._names = map(b"s%d".__mod__, itertools.count())
        self._prepared: dict[bytes, bytes] = {}
        # What is waited for: a statement's result, that its text was prepared, or that a packet
        # was gone through (None).
        self._sent: deque[PendingResult | bytes | None] = deque()
        self.round_trips = 0
        self._selector = DefaultSelector()
        self._selector.register(self._libpq.socket, EVENT_READ)
        self._libpq.nonblocking = 1
        self._libpq.enter_pipeline_mode()

    @property
    def closed(self) -> bool:
        """True if the connection is lost, or was closed."""
        return self._connection.closed

    def is_alive(self) -> bool:
        """False if the connection was closed, also by the server: then nothing is sent in vain."""
        if not self.closed:
            try:
                while self._ready(EVENT_READ, timeout_s=0.0):
                    self._libpq.consume_input()
            except psycopg.Error:
                self._connection.close()
        return not self.closed

    def close(self) -> None:
        """Disconnect."""
        self._selector.close()
        self._connection.close()

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> PendingResult:
        """Send one statement. Looking into the result raises psycopg.Error, also of those before.

        The server finds out the parameters' types, so that a statement is prepared once.
        """
        text = _numbered(sql)
        name = self._prepared.get(text)
        if name is None:
            name = self._prepared[text] = next(self._names)
            self._libpq.send_prepare(name, text)
            self._sent.append(text)
        values = [self._encoded(each) for each in parameters]
        formats = [
            pq.Format.BINARY if isinstance(each, str | bytes) else pq.Format.TEXT
            for each in parameters
        ]
        self._libpq.send_query_prepared(name, values, formats, pq.Format.BINARY)
        result = PendingResult(self)
        self._sent.append(result)
        return result

    def command(self, text: str) -> PendingResult:
        """Send a statement without parameters that is not worth a name, such as COMMIT."""
        self._libpq.send_query_params(text.encode(), None)
        result = PendingResult(self)
        self._sent.append(result)
        return result

    def send(self) -> None:
        """Send what there is, and do not wait for the results."""
        self._libpq.pipeline_sync()
        self._sent.append(None)
        self._flush()

    def settle(self) -> None:
        """Wait for the results of all that was sent. Raises psycopg.Error: of the first failure."""
        if not self._sent:
            return
        self.round_trips += 1
        failure: psycopg.Error | None = None
        try:
            self.send()
            while self._sent:
                answer = self._next()
                sent = self._sent.popleft()
                if answer.status not in _DONE:
                    failure = failure or error_from_result(answer, self._encoding)
                    if isinstance(sent, bytes):
                        del self._prepared[sent]
                elif isinstance(sent, PendingResult):
                    sent.take(answer, self._transformer)
        except psycopg.Error:
            self._connection.close()  # the next answer would be read as another's result
            raise
        finally:
            self._sent.clear()
        if failure is not None:
            raise failure

    def _encoded(self, value: Any) -> bytes | None:
        if value is None or isinstance(value, bytes):
            return value
        return value.encode(self._encoding) if isinstance(value, str) else repr(value).encode()

    def _flush(self) -> None:
        """Send what is to be sent, and receive meanwhile: the server may wait for that."""
        while self._libpq.flush():
            if self._ready(EVENT_READ | EVENT_WRITE) & EVENT_READ:
                self._libpq.consume_input()

    def _next(self) -> pq.abc.PGresult:
        """Return the next answer; waits without the interpreter's lock."""
        while True:
            while self._libpq.is_busy():
                self._ready(EVENT_READ)
                self._libpq.consume_input()
            answer = self._libpq.get_result()
            if answer is not None:
                return answer  # None only ends one statement's
            if self._libpq.status == pq.ConnStatus.BAD:
                raise psycopg.OperationalError("the connection is lost")

    def _ready(self, events: int, timeout_s: float | None = None) -> int:
        """Wait for events of the socket; 0 if none came."""
        self._selector.modify(self._libpq.socket, events)
        return sum(ready for _, ready in self._selector.select(timeout_s))


@functools.cache
def _numbered(sql: str) -> bytes:
    """Name each parameter, and the type of bytes, as PostgreSQL does."""
    first, *parts = sql.replace(" AS BLOB)", " AS BYTEA)").split("?")
    numbered = "".join(f"${place}{part}" for place, part in enumerate(parts, 1))
    return (first + numbered).encode()
