"""The add-on for Home Assistant: what the store shows, and how run.py runs and keeps a bridge."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
import re
import runpy
import signal
import subprocess
import sys
import tarfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from PIL import Image

import bridge
from bridge import config
from bridge.adapters.web.keyring import Keyring
from bridge.mosquitto import Mosquitto
from tests.deploy.add_on import CONFIG, FOLDER, AddOn, supervisor
from tests.end_to_end import graphs
from tests.support.comfyui import Server
from tests.support.peer import Peer

ROOT = FOLDER.parents[2]
Install = Callable[..., Awaitable[AddOn]]

# Keys of the supervisor's documentation (2026.11), without those for devices of the host.
KEYS = {"name", "version", "slug", "description", "arch", "url", "startup", "boot", "webui"}
KEYS |= {"map", "ports", "environment", "options", "schema", "timeout", "tmpfs", "services"}
KEYS |= {"ingress", "ingress_port", "ingress_entry", "ingress_stream", "panel_icon", "panel_title"}
KEYS |= {
    "stage",
    "panel_admin",
    "backup",
    "backup_pre",
    "backup_post",
    "backup_exclude",
    "init",
    "watchdog",
}
WATCHDOG = re.compile(r"(?:https?|\[PROTO:\w+\]|tcp)://\[HOST\]:(?:\[PORT:(\d+)\]|\d+)(.*)")
TYPES = re.compile(r"(?:bool|url|port|str|password|int|float|email|list\(.+\)|match\(.+\))\??")


class Read(dict[str, Any]):
    """Options that remember which of them were asked for."""

    def __init__(self, **options: Any) -> None:
        super().__init__(options)
        self.names: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        self.names.add(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        self.names.add(name)
        return super().get(name, default)


@pytest.fixture(scope="module")
def run() -> dict[str, Any]:
    return runpy.run_path(str(FOLDER / "run.py"))


def test_its_configuration_has_what_the_supervisor_takes() -> None:
    assert set(CONFIG) <= KEYS
    assert CONFIG["arch"] == ["amd64", "aarch64"]
    assert re.fullmatch(r"[-_.A-Za-z0-9]+", CONFIG["slug"])
    assert WATCHDOG.fullmatch(CONFIG["watchdog"])
    assert 10 <= CONFIG["timeout"] <= 300
    assert all(TYPES.fullmatch(kind) for kind in CONFIG["schema"].values())
    # What is left out may be left out, and what is given is of its kind.
    left_out = set(CONFIG["schema"]) - set(CONFIG["options"])
    assert all(CONFIG["schema"][name].endswith("?") for name in left_out)
    assert CONFIG["options"]["log_level"] in CONFIG["schema"]["log_level"][5:-1].split("|")


def test_every_option_is_read_translated_and_described(run: dict[str, Any]) -> None:
    names = set(CONFIG["schema"])
    options = Read(comfyui_url="http://pc:8188", comfyui_secret="s", log_level="debug")  # noqa: S106
    run["environment"](options, {"host": "h", "port": 1883})
    assert options.names == names
    found = list((FOLDER / "translations").glob("*.yaml"))
    assert {each.stem for each in found} == {"de", "en"}
    for each in found:
        translated = yaml.safe_load(each.read_text())["configuration"]
        assert set(translated) == names, each
        assert all(set(texts) == {"name", "description"} for texts in translated.values()), each
    for page in (FOLDER / "DOCS.md", ROOT / "docs" / "home-assistant-addon.md"):
        table = page.read_text().partition("| option | meaning |\n")[2].partition("\n\n")[0]
        assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == names, page


def test_the_store_has_what_it_shows() -> None:
    repository = yaml.safe_load((ROOT / "repository.yaml").read_text())
    assert set(repository) <= {"name", "url", "maintainer"}
    assert repository["name"]
    # The store takes every file of that name for an add-on.
    files = [*ROOT.glob("[!.]*/**/config.y*ml"), *ROOT.glob("[!.]*/**/config.json")]
    assert [each for each in files if "build" not in each.parts] == [FOLDER / "config.yaml"]
    for name, shape in (("icon.png", (128, 128)), ("logo.png", (250, 100))):
        with Image.open(FOLDER / name) as picture:
            assert (picture.format, picture.size) == ("PNG", shape)
    assert (FOLDER / "README.md").read_text().startswith("# ")
    changes = re.findall(r"^## (\S+)", (FOLDER / "CHANGELOG.md").read_text(), re.MULTILINE)
    # The image installs the package of this version.
    assert changes[0] == CONFIG["version"] == bridge.__version__
    assert "comfy2mqtt==${BUILD_VERSION}" in (FOLDER / "Dockerfile").read_text()


@pytest.mark.parametrize("has_wheel", [True, False])
def test_its_image_takes_a_wheel_that_lies_there_and_asks_no_index_then(
    has_wheel: bool,  # noqa: FBT001 - a parameter of the test
    tmp_path: Path,
) -> None:
    text = (FOLDER / "Dockerfile").read_text().replace("\\\n", "")
    (script,) = re.findall(r"^RUN (.+)$", text, re.MULTILINE)
    script = script.replace("/build", f"{tmp_path}/build").replace("/opt", f"{tmp_path}/opt")
    # Programs that only note what they are called with.
    for name in ("python", "opt/comfy2mqtt/bin/pip"):
        program = tmp_path / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n')
        program.chmod(0o755)
    (tmp_path / "build").mkdir()
    if has_wheel:
        (tmp_path / "build" / "comfy2mqtt-1.0-py3-none-any.whl").touch()
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "BUILD_VERSION": "1.0"}
    subprocess.run(["/bin/sh", "-ec", script], env=environment, check=True, timeout=60)
    *_, last = (tmp_path / "calls").read_text().splitlines()
    words = last.split()
    assert words[-1] == "comfy2mqtt==1.0"
    assert ("--no-index" in words, f"{tmp_path}/build" in words) == (has_wheel, has_wheel)


def test_it_gives_the_bridge_what_home_assistant_knows(run: dict[str, Any]) -> None:
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


def test_it_shows_the_page_in_the_sidebar(run: dict[str, Any], tmp_path: Path) -> None:
    host, port = run["INGRESS"].split(":")
    assert host == "0.0.0.0"  # noqa: S104 - a container's own
    assert (CONFIG["ingress"], CONFIG["ingress_port"]) == (True, int(port))
    settings = run["environment"]({"comfyui_url": "http://pc:8188"}, {"host": "h", "port": 1883})
    loaded = config.load({}, {**settings, "COMFY2MQTT_DATA": str(tmp_path / "data")})
    assert loaded.frame_ancestors == ("self",)
    assert loaded.trusted_proxies == (run["SUPERVISOR_ADDRESS"],)
    assert loaded.websocket_listen == run["INGRESS"]


def test_it_makes_the_pages_key_once(
    run: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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


NO_BROKER = {"result": "error", "message": "Service not enabled"}
MISTAKES = {
    "no broker": (NO_BROKER, 400, "{}", {}, "install and start the Mosquitto add-on"),
    "no host": ({"data": {}}, 200, "{}", {}, "did not answer with an MQTT broker"),
    "no data": (["data"], 200, "{}", {}, "did not answer with an MQTT broker"),
    "no token": ({}, 200, "{}", {"SUPERVISOR_TOKEN": ""}, "as an add-on of Home Assistant"),
    "no JSON": ({}, 200, "{", {}, "options.json cannot be read"),
    "no object": ({}, 200, "[]", {}, "set the option comfyui_url"),
    "no address": ({}, 200, '{"comfyui_url": ""}', {}, "set the option comfyui_url"),
    "no URL": (
        {"data": {"host": "127.0.0.1", "port": 9}},
        200,
        '{"comfyui_url": "pc"}',
        {},
        "COMFY2MQTT_COMFYUI_URL: ",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("mistake", MISTAKES)
async def test_a_mistake_ends_it_with_one_line_that_names_it(mistake: str, tmp_path: Path) -> None:
    answer, status, options, variables, expected = MISTAKES[mistake]
    async with supervisor(answer, status) as address:
        add_on = AddOn(tmp_path, address)
        if options != "{}":
            (add_on.data / "options.json").write_text(options)
        process = await add_on.start(**variables)
        assert await process.wait() in (1, 2)
    assert expected in add_on.log
    assert "Traceback" not in add_on.log
    if mistake != "no URL":  # that is the bridge's own message
        assert add_on.log.count("\n") == 1


@pytest.mark.slow
async def test_a_supervisor_that_is_away_is_named(tmp_path: Path) -> None:
    add_on = AddOn(tmp_path, "http://127.0.0.1:9/services/mqtt")
    assert await (await add_on.start()).wait() == 1
    assert "did not answer with an MQTT broker" in add_on.log
    assert "Traceback" not in add_on.log


@pytest.mark.slow
async def test_a_backup_that_is_damaged_stays_and_is_named(tmp_path: Path) -> None:
    async with supervisor({"data": {"host": "127.0.0.1", "port": 9}}) as address:
        add_on = AddOn(tmp_path, address)
        (add_on.data / "backup.tar").write_text("of no use")
        for _ in range(2):
            assert await (await add_on.start()).wait() == 1
            assert "backup.tar cannot be restored" in add_on.log
    assert (add_on.data / "backup.tar").exists()
    assert not (add_on.data / "bridge.running").exists()


@pytest.fixture
async def install(broker: Mosquitto, comfyui: Server, tmp_path: Path) -> AsyncIterator[Install]:
    """Installs add-ons at the test's broker and ComfyUI; none is started."""
    service = {"host": "127.0.0.1", "port": broker.port, "ssl": False, "protocol": "3.1.1"}
    service |= {"addon": "core_mosquitto", "username": "addons", "password": "p@ss/1"}
    async with AsyncExitStack() as stack:
        address = await stack.enter_async_context(supervisor({"result": "ok", "data": service}))

        async def make(name: str = "one") -> AddOn:
            secret = comfyui.secret
            add_on = AddOn(tmp_path / name, address, comfyui_url=comfyui.url, comfyui_secret=secret)
            stack.push_async_callback(add_on.kill)
            workflows = add_on.config / "workflows"
            workflows.mkdir()
            for each, graph in (("colour", graphs.colour()), ("echo", graphs.echo())):
                (workflows / f"{each}.json").write_text(json.dumps(graph))
            return add_on

        yield make


def children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(each) for each in found.split()]


async def is_ready(peer: Peer) -> None:
    """Wait until a bridge is online and can run jobs."""
    base = "comfy2mqtt/bridge"
    await peer.subscribe(f"{base}/state", f"{base}/comfyui/+", "homeassistant/device/+/config")
    await peer.next(f"{base}/state", lambda message: message.payload == b"online")
    await peer.next(f"{base}/comfyui/+", lambda message: message.json["state"] == "ready")


def noise() -> bytes:
    """A picture of more bytes than the journal takes: it is a file beside it."""
    target = io.BytesIO()
    Image.effect_noise((320, 320), 90).convert("RGB").save(target, "PNG")
    return target.getvalue()


@pytest.mark.comfyui
async def test_it_runs_a_bridge_at_home_assistants_broker_until_it_is_stopped(
    install: Install, broker: Mosquitto
) -> None:
    add_on = await install()
    process = await add_on.start()
    async with Peer(broker.url) as peer:
        await peer.listen()
        await is_ready(peer)
        await peer.next("homeassistant/device/comfy2mqtt-workflow-colour/config")
        await peer.ask("run/colour/j1", {"colour": 1})
        assert (await peer.result("j1"))["state"] == "succeeded"
        # As the supervisor's watchdog asks, and its ingress.
        found = WATCHDOG.fullmatch(CONFIG["watchdog"])
        assert found is not None
        assert int(found[1]) == CONFIG["ingress_port"]
        headers = {"X-Forwarded-For": "192.168.1.20", "X-Forwarded-Proto": "http"}
        headers |= {"X-Forwarded-Host": "ha.local:8123", "X-Ingress-Path": "/api/hassio_ingress/x"}
        async with aiohttp.ClientSession() as session:
            address = f"http://127.0.0.1:{add_on.port}"
            async with session.get(address + found[2]) as answer:
                assert answer.status == 200
            async with session.get(address, headers=headers) as answer:
                assert answer.status == 200
                assert "frame-ancestors 'self'" in answer.headers["Content-Security-Policy"]
        assert (add_on.data / "bridge.running").exists()
        assert await add_on.stop() == 0
        await peer.next("comfy2mqtt/bridge/state", lambda message: message.payload == b"offline")
    assert process.returncode == 0
    assert "Traceback" not in add_on.log
    assert (add_on.data / "bridge" / "journal.db").exists()
    assert not (add_on.data / "bridge.running").exists()


@pytest.mark.comfyui
async def test_a_hot_backup_has_every_job_that_had_ended_whatever_is_written_meanwhile(
    install: Install, broker: Mosquitto, tmp_path: Path
) -> None:
    add_on = await install()
    await add_on.start()
    ended: dict[str, str] = {}
    another = asyncio.Event()
    async with Peer(broker.url) as peer:
        await peer.listen()
        await is_ready(peer)

        async def jobs() -> None:
            while True:
                job_id = f"j{len(ended)}"
                await peer.ask(f"run/echo/{job_id}", noise())
                result = await peer.result(job_id)
                ended[job_id] = result["outputs"][0]["sha256"]
                another.set()

        async def until_more(count: int) -> None:
            while len(ended) < count:
                another.clear()
                await another.wait()

        writing = asyncio.create_task(jobs())
        await until_more(5)
        before = dict(ended)
        await add_on.backed_up(tmp_path / "hot.tar", meanwhile=lambda: until_more(len(ended) + 3))
        await until_more(len(ended) + 1)
        writing.cancel()
        await add_on.stop()
        assert not (add_on.data / "backup.tar").exists()
        with tarfile.open(tmp_path / "hot.tar") as tar:
            assert set(tar.getnames()) == {"data", "data/options.json", "data/backup.tar"}

        other = await install("other")
        other.restore(tmp_path / "hot.tar")
        await other.start()
        await is_ready(peer)
        known = {job["job_id"]: job for job in (await peer.ask("list"))["data"]["jobs"]}
        for job_id, sha256 in before.items():
            assert known[job_id]["state"] == "succeeded"
            picture = (other.data / "bridge.running" / "blobs" / sha256).read_bytes()
            assert hashlib.sha256(picture).hexdigest() == sha256
        assert await other.stop() == 0
    assert not (other.data / "backup.tar").exists()


@pytest.mark.comfyui
async def test_what_was_killed_continues_and_what_is_stopped_is_backed_up_as_it_is(
    install: Install, broker: Mosquitto, tmp_path: Path
) -> None:
    add_on = await install()
    await add_on.start()
    async with Peer(broker.url) as peer:
        await peer.listen()
        await is_ready(peer)
        await peer.ask("run/echo/j1", noise())
        await peer.result("j1")
        await add_on.kill()
        await peer.next("comfy2mqtt/bridge/state", lambda message: message.payload == b"offline")
        await add_on.start()
        await is_ready(peer)
        assert (await peer.ask("status", "j1"))["data"]["state"] == "succeeded"
        await add_on.stop()
        await add_on.backed_up(tmp_path / "cold.tar")
        other = await install("other")
        other.restore(tmp_path / "cold.tar")
        await other.start()
        await is_ready(peer)
        assert (await peer.ask("status", "j1"))["data"]["state"] == "succeeded"
        await other.stop()


@pytest.mark.comfyui
async def test_a_bridge_that_is_killed_ends_the_add_on_so_that_the_watchdog_sees_it(
    install: Install, broker: Mosquitto
) -> None:
    add_on = await install()
    process = await add_on.start()
    async with Peer(broker.url) as peer:
        await is_ready(peer)
        os.kill(children(process.pid)[0], signal.SIGKILL)
        assert await process.wait() == 128 + signal.SIGKILL
    assert (add_on.data / "bridge" / "journal.db").exists()
