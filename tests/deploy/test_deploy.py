"""What docs/deploy, the Dockerfile and compose.yaml name is there, and named as the code has it."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bridge import config
from bridge.adapters.metrics import BridgeCollector, MetricsSources
from bridge.adapters.scaling import Scaling, ScalingSources
from bridge.adapters.web.keyring import Keyring
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
        *(path for path in DEPLOY.rglob("*") if path.is_file()),
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


def test_a_service_keeps_all_in_its_folder_and_its_settings_name_it() -> None:
    text = (DEPLOY / "comfy2mqtt.service").read_text()
    (line,) = re.findall(r"^ExecStart=.*--config (\S+)$", text, re.MULTILINE)
    assert f"tee {line}" in text
    assert "COMFY2MQTT_CONFIG=" + line in text
    assert "ReadWritePaths=/opt/ComfyUI" in text
    assert "BindPaths=/home/you/ComfyUI" in text


def test_the_add_on_gives_the_bridge_what_home_assistant_knows() -> None:
    run = runpy.run_path(str(DEPLOY / "home-assistant-addon" / "run.py"))
    broker = {"host": "core-mosquitto", "port": 1883, "username": "addons", "password": "p@ss/1"}
    options: dict[str, Any] = {"comfyui_url": "http://pc:8188", "comfyui_secret": "s"}
    found = run["environment"](options, broker)
    loaded = config.load({}, found)
    assert loaded.mqtt_url == "mqtt://addons:p%40ss%2F1@core-mosquitto:1883"
    assert (loaded.comfyui_url, loaded.comfyui_secret) == ("http://pc:8188", "s")
    assert set(found) <= {f"COMFY2MQTT_{name.upper()}" for name in config.TYPES}
    assert run["environment"](options, {**broker, "ssl": True})["COMFY2MQTT_MQTT_URL"].startswith(
        "mqtts://"
    )


def test_the_add_on_shows_the_page_in_the_sidebar(tmp_path: Path) -> None:
    run = runpy.run_path(str(DEPLOY / "home-assistant-addon" / "run.py"))
    announced = (DEPLOY / "home-assistant-addon" / "config.yaml").read_text()
    host, port = run["INGRESS"].split(":")
    assert host == "0.0.0.0"  # noqa: S104 - a container's own
    assert f"ingress: true\ningress_port: {port}\n" in announced
    broker = {"host": "h", "port": 1883}
    settings = run["environment"]({"comfyui_url": "http://pc:8188"}, broker)
    loaded = config.load({}, {**settings, "COMFY2MQTT_DATA": str(tmp_path / "data")})
    assert loaded.frame_ancestors == ("self",)
    assert loaded.trusted_proxies == (run["SUPERVISOR_ADDRESS"],)
    assert loaded.websocket_listen == run["INGRESS"]


def test_the_add_on_makes_the_pages_key_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = runpy.run_path(str(DEPLOY / "home-assistant-addon" / "run.py"))
    monkeypatch.setenv("COMFY2MQTT_DATA", str(tmp_path / "data"))
    program = str(Path(sys.executable).with_name("comfy2mqtt"))
    for _ in range(2):
        run["keep_page_key"](program, tmp_path)
        keyring = Keyring(tmp_path / "data" / "keys.json")
        keyring.refresh()
        path = tmp_path / run["PAGE_KEY"]
        found = keyring.find(path.read_text().strip())
        assert found is not None
        assert (found.client, len(keyring.keys)) == ("page", 1)
        assert path.stat().st_mode & 0o777 == 0o600


async def test_the_dashboard_asks_for_metrics_that_there_are() -> None:
    counters = Counters()
    counters.ended("succeeded", client="c", workflow="w", instance="i", run_s=1.0)
    sources = MetricsSources(
        version="1",
        counters=counters,
        instances=(),
        queued=lambda: 0,
        running=lambda: 0,
        commits=lambda: 0,
        connected=lambda: True,
    )
    there = {"process_resident_memory_bytes", "process_open_fds"}
    for family in BridgeCollector(sources).collect():
        there |= {family.name, f"{family.name}_total", f"{family.name}_sum", f"{family.name}_count"}

    async def backlog() -> Backlog:
        return Backlog(1, [])

    scaling = Scaling(ScalingSources(backlog, speaks=lambda: True, missing=lambda: None))
    await scaling.look()
    there |= {family.name for family in scaling.collect()}
    dashboard = json.loads((DEPLOY / "grafana.json").read_text())
    asked = {
        name
        for panel in dashboard["panels"]
        for target in panel["targets"]
        for name in re.findall(r"\b(?:comfy2mqtt|process)_[a-z_]+", target["expr"])
    }
    assert asked
    assert asked <= there


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
