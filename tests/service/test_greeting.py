from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import msgspec
import pytest

from bridge.comfyui.state import InstanceState
from bridge.config import Config
from bridge.contract.retained import Missing, MissingChoice
from bridge.logs import LINES, FloodFilter
from bridge.service import greeting
from bridge.service.greeting import Readiness, greet, lines, obstacles
from bridge.service.public_urls import page_address
from bridge.workflows.catalogue import NodeRules
from bridge.workflows.library import Library
from bridge.workflows.workflow import Workflow
from tests.workflows.graphs import INFO, NAMED

READY = InstanceState("ready", 0.0, version="0.33.0")


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(greeting, "_POLL_S", 0.01)


@pytest.fixture
async def workflow(tmp_path: Path) -> Workflow:
    (tmp_path / "named.json").write_bytes(msgspec.json.encode(NAMED))
    (tmp_path / "info").mkdir()
    (tmp_path / "info" / "main.json").write_bytes(msgspec.json.encode(INFO.raw))
    library = Library(tmp_path, tmp_path / "info", ["main"], NodeRules())
    await library.open()
    return library.workflows["named"]


def test_a_bridge_says_what_it_has_and_what_can_run(workflow: Workflow) -> None:
    model = Missing(
        choices=[MissingChoice(node="1", input="ckpt_name", value="sd.safetensors", allowed=[])]
    )
    lacks = msgspec.structs.replace(workflow, name="txt2img", missing=model)
    odd = msgspec.structs.replace(workflow, name="odd", missing=Missing(nodes=["Rare"]))
    denied = msgspec.structs.replace(workflow, name="denied", forbidden=("Shell",))
    readiness = Readiness(
        "mqtt://h:1883",
        connected=True,
        comfyuis={"main": READY},
        workflows=[workflow, lacks, odd, denied],
        broken=1,
        folder="in /srv/workflows",
        page="http://127.0.0.1:8090/",
    )
    assert readiness.ready
    assert list(lines(readiness, 9.2)) == [
        "broker: mqtt://h:1883",
        "ComfyUI main 0.33.0: ready",
        "workflows: in /srv/workflows",
        "workflows that can run: named",
        "workflow txt2img cannot run: optional: needs a model, sd.safetensors",
        "workflow odd cannot run: missing Rare",
        "workflow denied is not allowed: Shell",
        "files that are no workflows: 1; `comfy2mqtt doctor` says which",
        "page: http://127.0.0.1:8090/",
        "ready in 9 s",
    ]


async def test_it_waits_until_a_job_could_run(
    workflow: Workflow, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="bridge.service.greeting")
    unknown = msgspec.structs.replace(workflow, missing=None)
    stages = [
        Readiness("b", connected=False, comfyuis={"main": READY}, workflows=[workflow]),
        Readiness(
            "b", connected=True, comfyuis={"main": InstanceState("starting", 0.0)}, workflows=[]
        ),
        Readiness("b", connected=True, comfyuis={"main": READY}, workflows=[unknown]),
        Readiness("b", connected=True, comfyuis={"main": READY}, workflows=[workflow]),
    ]
    assert [each.ready for each in stages] == [False, False, False, True]
    async with asyncio.timeout(10):
        await greet(lambda: stages.pop(0))
    assert caplog.messages[-1].startswith("ready in ")
    # Also after a line for each of many workflows that cannot run.
    flood = FloodFilter()
    assert all(flood.filter(caplog.records[-1]) for _ in range(LINES + 1))


async def test_what_a_bridge_waits_for_is_reported_once(
    workflow: Workflow, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="bridge.service.greeting")
    away = InstanceState("unreachable", 0.0, last_error="ComfyUI cannot be reached: refused")
    states = {"main": away, "next": InstanceState("starting", 0.0)}
    waits = Readiness(
        "b",
        connected=True,
        comfyuis=states,
        workflows=[workflow],
        addresses={"main": "http://h:8188"},
    )
    stages = [waits, waits, msgspec.structs.replace(waits, comfyuis={"main": READY})]
    async with asyncio.timeout(10):
        await greet(lambda: stages.pop(0), patience_s=0)
    assert caplog.messages[:3] == [
        "not ready yet: ComfyUI cannot be reached: refused (main, http://h:8188)",
        "not ready yet: ComfyUI is starting (next)",
        "`comfy2mqtt doctor` tests each part, and says what to do",
    ]
    assert sum("not ready yet" in each for each in caplog.messages) == 2
    assert caplog.messages[-1].startswith("ready in ")


def test_each_obstacle_is_named(workflow: Workflow) -> None:
    alone = Readiness("mqtt://h", connected=False, comfyuis={"main": READY}, workflows=[workflow])
    assert next(obstacles(alone)) == "not ready yet: no connection to the broker, mqtt://h"
    unread = msgspec.structs.replace(alone, connected=True)
    assert next(obstacles(unread)) == "not ready yet: the nodes of ComfyUI main are being read"


@pytest.mark.parametrize(
    ("listen", "more", "address"),
    [
        (None, {}, None),
        ("127.0.0.1:8090", {}, "http://127.0.0.1:8090/"),
        (":8090", {}, "http://127.0.0.1:8090/"),
        ("[::]:8090", {}, "http://[::1]:8090/"),
        ("[::1]:8090", {"websocket_cert": Path("c.pem")}, "https://[::1]:8090/"),
        (":8090", {"public_url": "https://home.example"}, "https://home.example/"),
    ],
)
def test_the_address_of_the_page_can_be_opened_as_it_stands(
    listen: str | None, more: dict[str, object], address: str | None
) -> None:
    settings = msgspec.structs.replace(Config(), websocket_listen=listen, **more)
    assert page_address(settings) == address
