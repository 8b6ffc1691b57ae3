from __future__ import annotations

import asyncio
import socket
import urllib.request
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from bridge.adapters.metrics import BridgeCollector, MetricsSources
from bridge.contract.retained import GpuFigures
from bridge.jobs.counters import MAX_CLIENTS, OTHERS, Counters
from bridge.mosquitto import Mosquitto
from tests.conftest import StartBridge
from tests.end_to_end import graphs
from tests.support.peer import Peer


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def scrape(port: int) -> dict[tuple[str, str], float]:
    """The metrics by name and values of labels."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        text = answer.read().decode()
    return {
        (sample.name, ",".join(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.mark.broker
async def test_prometheus_reads_what_the_bridge_counts(
    detached: StartBridge, broker: Mosquitto
) -> None:
    port = free_port()
    await detached({"colour": graphs.colour()}, metrics_listen=f"127.0.0.1:{port}")
    async with Peer(broker.url) as peer:
        await peer.listen()
        for number in range(3):
            await peer.ask(f"run/colour/j{number}")
        await peer.ask("cancel", "j0")
        await peer.result("j0")
        found = await asyncio.to_thread(scrape, port)
    expected: dict[tuple[str, str], Any] = {
        ("comfy2mqtt_broker_connected", ""): 1,
        ("comfy2mqtt_jobs_queued", ""): 2,
        ("comfy2mqtt_jobs_running", ""): 0,
        ("comfy2mqtt_jobs_accepted_total", ""): 3,
        ("comfy2mqtt_jobs_ended_total", "cancelled"): 1,
        ("comfy2mqtt_client_run_seconds_count", "alice"): 1,
        ("comfy2mqtt_workflow_run_seconds_sum", "colour"): 0,
        ("comfy2mqtt_comfyui_state", "default,unreachable"): 1,
    }
    assert found.items() >= expected.items()
    assert found["comfy2mqtt_journal_commits_total", ""] >= 3
    assert found["process_resident_memory_bytes", ""] > 1e6


@pytest.mark.broker
async def test_an_address_that_is_taken_stops_the_start_with_one_line(
    bridges: StartBridge,
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        bridge = await bridges(start=False, metrics_listen=where, comfyui_url="http://127.0.0.1:9")
        await bridge.start(ready=False)
        assert await bridge.wait() == 2
    assert f"COMFY2MQTT_METRICS_LISTEN: '{where}': another program listens there" in bridge.log
    assert bridge.log.count("\n") == 1


def test_a_flood_of_names_does_not_cost_ever_more_memory() -> None:
    counters = Counters()
    for number in range(MAX_CLIENTS + 5):
        counters.ended("succeeded", client=f"c{number}", workflow="w", instance="i", run_s=2.0)
    assert len(counters.clients) == MAX_CLIENTS + 1
    assert counters.clients[OTHERS].jobs == 5
    assert counters.workflows["w"].run_s == 2.0 * (MAX_CLIENTS + 5)


def test_what_is_known_of_a_card_is_a_sample_and_what_is_unknown_is_none() -> None:
    gpus = {
        "one": GpuFigures(source="nvidia-smi", vram_total=24, vram_free=8, temperature_c=61.0),
        "two": GpuFigures(source="unknown"),
    }
    sources = MetricsSources(
        version="1",
        counters=Counters(),
        instances=(),
        queued=lambda: 0,
        running=lambda: 0,
        commits=lambda: 0,
        connected=lambda: True,
        gpus=gpus,
    )
    found = {
        (sample.name, sample.labels["comfyui"]): sample.value
        for family in BridgeCollector(sources).collect()
        for sample in family.samples
        if sample.name.startswith("comfy2mqtt_gpu_")
    }
    assert found == {
        ("comfy2mqtt_gpu_vram_total_bytes", "one"): 24.0,
        ("comfy2mqtt_gpu_vram_free_bytes", "one"): 8.0,
        ("comfy2mqtt_gpu_temperature_celsius", "one"): 61.0,
    }
