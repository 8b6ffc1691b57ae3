"""The work of all bridges, for whoever starts and stops GPUs, and whether this bridge is ready.

At the address of the metrics: `/backlog` as JSON, and as metrics of the one bridge of a group that
takes its requests, so that their sum over all bridges is right; `/livez` and `/readyz` as probes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from http import HTTPStatus

import msgspec
from aiohttp import web
from msgspec import Struct
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from bridge.jobs.backlog import Backlog, Work
from bridge.jobs.database import DatabaseError, LeaseLost

# Whoever asks more often gets the same answer again, in seconds.
FRESH_S = 1.0
# KEDA waits for three seconds.
_PATIENCE_S = 2.5
_FILTERS = ("workflow", "model")


class Unavailable(Exception):
    """The journal gives no answer; the text says why."""


class ScalingSources(Struct, frozen=True):
    """The sources of the answers.

    `leads`: this bridge shows the figures of its group as metrics. `missing` says what this
    bridge lacks to work; None: nothing.
    """

    backlog: Callable[[], Awaitable[Backlog]]
    leads: Callable[[], bool]
    missing: Callable[[], str | None]


class BacklogReport(Struct, frozen=True):
    """The answer at `/backlog`: the work that was asked for, added up, and each kind of it."""

    members: int
    queued: int
    queued_s: float
    running: int
    waiting: int
    kinds: list[Work]


class Scaling(Collector):
    """Serves the backlog and the probes, and collects what was read last."""

    def __init__(self, sources: ScalingSources) -> None:
        self._sources = sources
        self._reading = asyncio.Lock()
        self._found: Backlog | None = None
        self._read_at = float("-inf")
        self._shown: Backlog | None = None

    @property
    def routes(self) -> list[web.RouteDef]:
        """The paths that are served."""
        return [
            web.get("/backlog", self._backlog),
            web.get("/livez", self._live),
            web.get("/readyz", self._ready),
        ]

    async def refresh(self) -> None:
        """Read what `collect` will yield: nothing if another bridge shows it, or nobody knows."""
        self._shown = None
        if self._sources.leads():
            try:
                self._shown = await self._read()
            except Unavailable:
                return

    def collect(self) -> Iterator[Metric]:
        """Yield the group's metrics."""
        if self._shown is None:
            return
        labels = ("workflow", "models")
        jobs = GaugeMetricFamily(
            "comfy2mqtt_backlog_jobs", "Jobs of all bridges.", labels=(*labels, "state")
        )
        seconds = GaugeMetricFamily(
            "comfy2mqtt_backlog_seconds", "What queued jobs will run, in all.", labels=labels
        )
        # With nothing to do there is a zero: no sample at all means that nobody knows.
        for each in (Work(workflow=""), *self._shown.kinds):
            kind = (each.workflow, ",".join(each.models))
            seconds.add_metric(kind, each.queued_s)
            for state in ("queued", "running", "waiting"):
                jobs.add_metric((*kind, state), getattr(each, state))
        yield jobs
        yield seconds
        members = GaugeMetricFamily("comfy2mqtt_members", "Bridges that share the journal.")
        members.add_metric((), self._shown.members)
        yield members

    async def _read(self) -> Backlog:
        async with self._reading:
            now = asyncio.get_running_loop().time()
            if self._found is None or now - self._read_at >= FRESH_S:
                try:
                    async with asyncio.timeout(_PATIENCE_S):
                        self._found = await self._sources.backlog()
                except TimeoutError:
                    raise Unavailable("the journal does not answer") from None
                except (DatabaseError, LeaseLost) as error:
                    raise Unavailable(str(error)) from None
                self._read_at = now
            return self._found

    async def _backlog(self, request: web.Request) -> web.Response:
        unknown = sorted(set(request.query) - set(_FILTERS))
        if unknown:
            error = f"{unknown[0]}: no such parameter; allowed: {', '.join(_FILTERS)}"
            return _json({"error": error}, HTTPStatus.BAD_REQUEST)
        workflows, models = (request.query.getall(name, []) for name in _FILTERS)
        try:
            found = await self._read()
        except Unavailable as error:
            return _json({"error": str(error)}, HTTPStatus.SERVICE_UNAVAILABLE)
        kinds = found.of(workflows, models)
        total = Work.total(kinds)
        return _json(
            BacklogReport(
                members=found.members,
                queued=total.queued,
                queued_s=total.queued_s,
                running=total.running,
                waiting=total.waiting,
                kinds=kinds,
            )
        )

    async def _live(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _ready(self, _: web.Request) -> web.Response:
        missing = self._sources.missing()
        if missing is None:
            return web.Response(text="ok\n")
        return web.Response(status=HTTPStatus.SERVICE_UNAVAILABLE, text=f"{missing}\n")


def _json(answer: object, status: HTTPStatus = HTTPStatus.OK) -> web.Response:
    body = msgspec.json.encode(answer)
    return web.Response(status=status, body=body, content_type="application/json")
