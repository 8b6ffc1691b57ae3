"""Traces: a span for each job and its parts, where OpenTelemetry (an extra) was started before.

A request's User Property `traceparent` (W3C Trace Context) makes them children of the sender's
span. Where they go, OpenTelemetry's own settings say: `opentelemetry-instrument comfy2mqtt serve`.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from bridge.contract.messages import Timings
from bridge.jobs.finalizer import Trace
from bridge.jobs.job import Job

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

_NS = 1_000_000_000


def traces() -> Trace | None:
    """Return the maker of spans; None if nobody has started OpenTelemetry to collect them.

    `opentelemetry-instrument` loads it before it loads the bridge.
    """
    if "opentelemetry.trace" not in sys.modules:
        return None
    from opentelemetry import trace  # noqa: PLC0415 - an extra

    return with_tracer(trace.get_tracer("comfy2mqtt"))


def with_tracer(tracer: Tracer) -> Trace:
    """Return a maker of spans by a tracer."""
    from opentelemetry import trace  # noqa: PLC0415 - an extra
    from opentelemetry.trace.propagation.tracecontext import (  # noqa: PLC0415
        TraceContextTextMapPropagator,
    )

    propagator = TraceContextTextMapPropagator()

    def ended(job: Job, timings: Timings, at: float) -> None:
        sender = {
            "traceparent": job.envelope.traceparent,
            "tracestate": job.envelope.tracestate,
        }
        context = propagator.extract({name: each for name, each in sender.items() if each})
        attributes: dict[str, str | int] = {
            "comfy2mqtt.client": job.key.client,
            "comfy2mqtt.job_id": job.key.job_id,
            "comfy2mqtt.workflow": job.workflow,
            "comfy2mqtt.instance": job.instance or "",
            "comfy2mqtt.state": job.state,
            "comfy2mqtt.attempts": job.attempt,
        }
        start = int(job.accepted_at * _NS)
        span = tracer.start_span("job", context=context, attributes=attributes, start_time=start)
        if job.state != "succeeded":
            span.set_status(trace.StatusCode.ERROR, job.state)
        within = trace.set_span_in_context(span, context)
        # Computed backwards from the end: what is left at the beginning was the wait.
        end = int(at * _NS)
        for name in ("deliver", "run", "load", "queued"):
            begin = max(start, end - int(getattr(timings, f"{name}_s") * _NS))
            tracer.start_span(name, context=within, start_time=begin).end(end)
            end = begin
        span.end(int(at * _NS))

    return ended
