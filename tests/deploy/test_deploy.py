"""docs/deploy, the Dockerfile and compose.yaml name only what exists, by the code's own names."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from bridge import config
from bridge.adapters.metrics import BridgeCollector, MetricsSources
from bridge.adapters.scaling import Scaling, ScalingSources
from bridge.comfyui.state import InstanceState
from bridge.jobs.backlog import Backlog
from bridge.jobs.counters import Counters

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "docs" / "deploy"
# Variables that are no settings: the client's name, the nodes' own.
OTHERS = {"CLIENT", "SECRET", "CONFIG", "GUARD", "MEDIA_BYTES", "OUTPUT_BYTES", "UNPACKED_BYTES"}


def test_every_setting_that_a_page_names_is_one() -> None:
    pages = [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(path for path in DEPLOY.rglob("*") if path.is_file() and path.suffix != ".png"),
        ROOT / "Dockerfile",
        ROOT / "compose.yaml",
    ]
    for page in pages:
        for name in re.findall(r"COMFY2MQTT_([A-Z][A-Z_]*[A-Z])", page.read_text()):
            known = name.lower() in config.TYPES or name in OTHERS or name.startswith("TEST_")
            assert known, f"{page.relative_to(ROOT)} names COMFY2MQTT_{name}"


def test_the_image_is_made_of_what_is_there() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    copied = [line.split()[1:-1] for line in lines if line.startswith("COPY ") and "--" not in line]
    sources = [source for names in copied for source in names]
    assert "bridge" in sources
    allowed = (ROOT / ".dockerignore").read_text().split()
    for source in sources:
        assert (ROOT / source).exists()
        assert f"!{source}" in allowed
    assert any(line.startswith("USER ") for line in lines)
    assert any(line.startswith("HEALTHCHECK ") for line in lines)
    # Closed, and without a shell's files, at which the bridge would leave it open and say so.
    assert "    && mkdir --mode 700 /data \\" in lines


def test_a_service_keeps_all_in_its_folder_and_its_settings_name_it() -> None:
    text = (DEPLOY / "comfy2mqtt.service").read_text()
    (line,) = re.findall(r"^ExecStart=.*--config (\S+)$", text, re.MULTILINE)
    assert f"tee {line}" in text
    assert "COMFY2MQTT_CONFIG=" + line in text
    assert "ReadWritePaths=/opt/ComfyUI" in text
    assert "BindPaths=/home/you/ComfyUI" in text


async def test_the_dashboard_asks_for_metrics_that_there_are() -> None:
    counters = Counters()
    counters.ended("succeeded", client="c", workflow="w", instance="i", run_s=1.0)
    comfyui = SimpleNamespace(name="i", state=InstanceState(state="ready", since=0.0))
    sources = MetricsSources(
        version="1",
        counters=counters,
        instances=[cast("Any", comfyui)],
        queued=lambda: 0,
        running=lambda: 0,
        commits=lambda: 0,
        connected=lambda: True,
    )
    there = {"process_resident_memory_bytes", "process_open_fds"}
    labels = set[str]()
    for family in BridgeCollector(sources).collect():
        there |= {family.name, f"{family.name}_total", f"{family.name}_sum", f"{family.name}_count"}
        labels = labels.union(*(sample.labels for sample in family.samples))

    async def backlog() -> Backlog:
        return Backlog(1, [])

    scaling = Scaling(ScalingSources(backlog, leads=lambda: True, missing=lambda: None))
    await scaling.refresh()
    for family in scaling.collect():
        there.add(family.name)
        labels = labels.union(*(sample.labels for sample in family.samples))
    # Prometheus has these of its own, and would rename ours.
    assert labels.isdisjoint({"instance", "job"})
    dashboard = json.loads((DEPLOY / "grafana.json").read_text())
    targets = [target for panel in dashboard["panels"] for target in panel["targets"]]
    asked = {
        name
        for target in targets
        for name in re.findall(r"\b(?:comfy2mqtt|process)_[a-z_]+", target["expr"])
    }
    assert asked
    assert asked <= there
    legends = re.findall(r"{{(\w+)}}", " ".join(each["legendFormat"] for each in targets))
    assert set(legends) <= labels | {"instance"}


@pytest.mark.peers
def test_systemd_finds_the_unit_well_and_little_exposed(tmp_path: Path) -> None:
    unit = (DEPLOY / "comfy2mqtt.service").read_text()
    # What is not on this machine: the program and its user.
    unit = re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", unit, flags=re.MULTILINE)
    unit = re.sub(r"^(User|Group)=.*", r"\1=root", unit, flags=re.MULTILINE)
    path = tmp_path / "comfy2mqtt.service"
    path.write_text(unit)
    verified = subprocess.run(
        ["systemd-analyze", "verify", str(path)], capture_output=True, text=True, check=False
    )
    assert verified.returncode == 0, verified.stderr
    path.write_text(unit.replace("User=root", "User=comfy2mqtt"))
    rated = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=25", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert rated.returncode == 0, rated.stdout[-500:]
