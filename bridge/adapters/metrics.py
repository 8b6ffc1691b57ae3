"""Metrics for Prometheus, at `/metrics`: the bridge's counters, read at each scrape."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence

from aiohttp import web
from msgspec import UNSET, Struct
from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from bridge.adapters.scaling import Scaling
from bridge.adapters.web.server import serving
from bridge.comfyui.instance import Instance
from bridge.config import ConfigError
from bridge.contract.retained import GpuFigures
from bridge.jobs.counters import Counters, RunTotals

# The label that names a ComfyUI. Prometheus' own `instance` is the address that it reads from.
_COMFYUI = "comfyui"


class CannotServeMetrics(ConfigError):
    """The address `metrics_listen` cannot be used; the text is one line."""


class MetricsSources(Struct, frozen=True):
    """The sources of the figures; the callables return the current ones, and `gpus` holds them.

    `member` is the bridge's name in a group.
    """

    version: str
    counters: Counters
    instances: Sequence[Instance]
    queued: Callable[[], int]
    running: Callable[[], int]
    commits: Callable[[], int]
    connected: Callable[[], bool]
    gpus: Mapping[str, GpuFigures] = {}
    member: str = ""


class BridgeCollector(Collector):
    """Reads the figures at each scrape."""

    def __init__(self, sources: MetricsSources) -> None:
        self._sources = sources

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics of the bridge."""
        sources, counters = self._sources, self._sources.counters
        who: _Figures = {(sources.version, sources.member): 1.0}
        yield _gauge("info", "Which version this is, and its name.", who, ["version", "member"])
        yield _gauge("broker_connected", "Whether it is connected.", sources.connected())
        yield _gauge("jobs_queued", "Jobs that wait for their turn.", sources.queued())
        yield _gauge("jobs_running", "Jobs that are at a ComfyUI.", sources.running())
        yield _count("jobs_accepted", "Jobs accepted.", counters.accepted)
        yield _count("attempts_retried", "Runs again.", counters.retried)
        yield _count("journal_commits", "Transactions of the journal on disk.", sources.commits())
        paid: _Figures = {(client,): count for client, count in counters.paid.items()}
        yield _counter(
            "partner_prompts", "Prompts sent with an API key: they cost money.", paid, ["client"]
        )
        outcomes: _Figures = {(outcome,): count for outcome, count in counters.outcomes.items()}
        yield _counter("jobs_ended", "Jobs that have their outcome.", outcomes, ["outcome"])
        for name, label, shares in (
            ("workflow", "workflow", counters.workflows),
            ("client", "client", counters.clients),
            ("instance", _COMFYUI, counters.instances),
        ):
            yield _summary(f"{name}_run_seconds", f"Runs at a ComfyUI, by {label}.", label, shares)
        yield _gauge(
            "comfyuis_ready",
            "ComfyUIs of this bridge that take jobs.",
            sum(each.state.usable for each in sources.instances),
        )
        yield _gauge(
            "comfyui_state",
            "1 for the state that a ComfyUI is in.",
            {(each.name, each.state.state): 1.0 for each in sources.instances},
            [_COMFYUI, "state"],
        )
        restarts: _Figures = {
            (each.name,): float(each.state.restarts) for each in sources.instances
        }
        yield _counter("comfyui_restarts", "Restarts of a ComfyUI.", restarts, [_COMFYUI])
        yield from _gpus(sources.gpus)


# Figures by the values of their labels.
_Figures = Mapping[tuple[str, ...], float]


def _gpus(found: Mapping[str, GpuFigures]) -> Iterator[Metric]:
    """Yield what is known of each ComfyUI's card; what is unknown has no sample."""
    for field, name, about in (
        ("vram_total", "gpu_vram_total_bytes", "Memory of a ComfyUI's card."),
        ("vram_free", "gpu_vram_free_bytes", "Memory that is free there."),
        ("temperature_c", "gpu_temperature_celsius", "How warm it is."),
        ("power_w", "gpu_power_watts", "What it draws."),
    ):
        values = {(instance,): getattr(each, field) for instance, each in found.items()}
        known: _Figures = {key: value for key, value in values.items() if value is not UNSET}
        yield _gauge(name, about, known, [_COMFYUI])


def _gauge(
    name: str,
    about: str,
    values: float | _Figures,
    labels: Sequence[str] = (),
) -> Metric:
    family = GaugeMetricFamily(f"comfy2mqtt_{name}", about, labels=labels)
    for key, value in ({(): float(values)} if isinstance(values, int | float) else values).items():
        family.add_metric(key, value)
    return family


def _count(name: str, about: str, value: float) -> Metric:
    return _counter(name, about, {(): value}, ())


def _counter(name: str, about: str, values: _Figures, labels: Sequence[str]) -> Metric:
    family = CounterMetricFamily(f"comfy2mqtt_{name}", about, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family


def _summary(name: str, about: str, label: str, shares: Mapping[str, RunTotals]) -> Metric:
    family = SummaryMetricFamily(f"comfy2mqtt_{name}", about, labels=[label])
    for key, share in shares.items():
        family.add_metric([key], count_value=share.jobs, sum_value=share.run_s)
    return family


class MetricsAdapter:
    """Serves the metrics, and what else is at their address; use `run` as a task."""

    def __init__(self, host: str, port: int, sources: MetricsSources, scaling: Scaling) -> None:
        self._host = host
        self._port = port
        self._scaling = scaling
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(BridgeCollector(sources))
        self._registry.register(scaling)
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)

    async def run(self) -> None:
        """Serve until cancelled. Raises CannotServeMetrics."""
        app = web.Application()
        app.router.add_get("/metrics", self._metrics)
        app.router.add_routes(self._scaling.routes)
        try:
            async with serving(app, self._host, self._port):
                await asyncio.Event().wait()
        except OSError as error:
            where = f"{self._host}:{self._port}"
            raise CannotServeMetrics(f"{where}: {error.strerror}", "metrics_listen") from None

    async def _metrics(self, _: web.Request) -> web.Response:
        await self._scaling.refresh()
        body = generate_latest(self._registry)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})
