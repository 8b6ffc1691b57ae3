from __future__ import annotations

import sys

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from bridge import tracing
from bridge.contract.messages import Timings
from bridge.jobs.finalizer import Trace
from bridge.jobs.job import Envelope, Job
from tests.jobs.drafts import draft

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TIMINGS = Timings(queued_s=3.0, load_s=0.5, run_s=2.0, deliver_s=0.25)


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def trace(exporter: InMemorySpanExporter) -> Trace:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return tracing.with_tracer(provider.get_tracer("tests"))


def job(traceparent: str | None) -> Job:
    found = draft(envelope=Envelope(traceparent=traceparent), accepted_at=100.0).job
    found.state = "succeeded"
    return found


def test_a_job_is_a_span_of_its_senders_trace_and_its_parts_lie_within(
    trace: Trace, exporter: InMemorySpanExporter
) -> None:
    trace(job(f"00-{TRACE}-{SPAN}-01"), TIMINGS, 106.0)
    spans = {span.name: span for span in exporter.get_finished_spans()}
    whole = spans.pop("job")
    assert whole.context.trace_id == int(TRACE, 16)
    assert whole.parent is not None
    assert whole.parent.span_id == int(SPAN, 16)
    assert (whole.start_time, whole.end_time) == (100 * 10**9, 106 * 10**9)
    assert whole.attributes is not None
    assert whole.attributes["comfy2mqtt.job_id"] == "j1"
    assert set(spans) == {"queued", "load", "run", "deliver"}
    for span in spans.values():
        assert span.parent is not None
        assert span.parent.span_id == whole.context.span_id
    assert spans["run"].end_time == spans["deliver"].start_time == 105_750_000_000


def test_without_a_senders_trace_it_is_one_of_its_own_and_a_failure_is_reported(
    trace: Trace, exporter: InMemorySpanExporter
) -> None:
    failed = job(None)
    failed.state = "failed"
    trace(failed, TIMINGS, 106.0)
    (whole,) = (span for span in exporter.get_finished_spans() if span.name == "job")
    assert whole.parent is None
    assert not whole.status.is_ok


def test_spans_are_made_only_where_opentelemetry_was_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert tracing.traces() is not None
    monkeypatch.delitem(sys.modules, "opentelemetry.trace")
    assert tracing.traces() is None
