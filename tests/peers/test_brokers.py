"""Brokers of others: `make test-peers` runs bridge and client on them."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import venv
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import NamedTuple, TypeAlias

import pytest

from bridge.adapters.web.keyring import Keyring
from bridge.client import Client
from bridge.config import Config
from bridge.contract.access import ROLES, ForeignTopics
from bridge.contract.broker_files import BROKERS
from bridge.contract.topics import Topics
from bridge.mqtt import Address, Connection, MqttError
from bridge.retry import retry
from tests.adapters.web.page.conftest import choose, download, opened, picture, web_adapter
from tests.end_to_end import graphs
from tests.peers import debian, npm
from tests.support.bridge import ROOT, BridgeProcess
from tests.support.brokers import keeps_clients_apart, used_by_a_client
from tests.support.browser import Window, chromium
from tests.support.comfyui import Server
from tests.support.patience import PATIENCE_S
from tests.support.peer import Peer

pytestmark = [pytest.mark.peers, pytest.mark.timeout(300)]

AEDES, AMQTT = "aedes@1.2.0", "amqtt==0.12.1"
AEDES_SERVER = """
const { Aedes } = require("aedes");
Aedes.createBroker().then((broker) => {
  require("node:net").createServer(broker.handle).listen(Number(process.argv[2]), "127.0.0.1");
});
"""
AMQTT_SETTINGS = """
listeners: {{default: {{type: tcp, bind: "127.0.0.1:{port}"}}}}
plugins: {{amqtt.plugins.authentication.AnonymousAuthPlugin: {{allow_anonymous: true}}}}
"""


# Nobody may be without a name at ejabberd; where no password is checked, any will do.
EJABBERD_SETTINGS = """
hosts: [localhost]
auth_method: [anonymous]
anonymous_protocol: login_anon
allow_multiple_connections: true
listen:
  - {{port: {port}, ip: "127.0.0.1", module: mod_mqtt, max_payload_size: infinity}}
  - port: {websocket}
    ip: "127.0.0.1"
    module: ejabberd_http
    request_handlers: {{"/mqtt": mod_mqtt}}
modules: {{mod_mqtt: {{}}}}
"""
NATS_SETTINGS = """
server_name: comfy2mqtt
listen: "127.0.0.1:{own}"
jetstream {{ store_dir: "{folder}/jetstream" }}
mqtt {{ listen: "127.0.0.1:{port}" }}
include "authorization.conf"
"""
RABBITMQ_SETTINGS = """
listeners.tcp = none
mqtt.listeners.tcp.1 = 127.0.0.1:{port}
mqtt.allow_anonymous = true
web_mqtt.tcp.ip = 127.0.0.1
web_mqtt.tcp.port = {websocket}
"""


class Program(NamedTuple):
    """A broker to start, and the version of MQTT that is spoken to it."""

    command: Sequence[str]
    mqtt: str
    environment: Mapping[str, str] = os.environ
    user: str = ""
    websocket: str | None = None
    """Its address for MQTT over WebSocket: port and path."""


Broker: TypeAlias = Callable[[Path, int], AbstractAsyncContextManager[Program]]


@asynccontextmanager
async def aedes(folder: Path, port: int) -> AsyncIterator[Program]:
    """Node-RED's embedded broker."""
    server = folder / "server.cjs"
    server.write_text(AEDES_SERVER)
    (folder / "node_modules").symlink_to(npm.ensure(AEDES) / "node_modules")
    yield Program((npm.node(), str(server), str(port)), "3.1.1")


@asynccontextmanager
async def amqtt(folder: Path, port: int) -> AsyncIterator[Program]:
    """A broker in Python, in an environment of its own."""
    place = folder / "environment"
    await asyncio.to_thread(venv.create, place, with_pip=True)
    install = (place / "bin/python", "-m", "pip", "install", "-qq", AMQTT)
    await asyncio.to_thread(subprocess.run, install, check=True)
    settings = folder / "amqtt.yaml"
    settings.write_text(AMQTT_SETTINGS.format(port=port))
    yield Program((str(place / "bin/amqtt"), "-c", str(settings)), "3.1.1")


@asynccontextmanager
async def ejabberd(folder: Path, port: int) -> AsyncIterator[Program]:
    """Debian's, started without its script, which wants root and Debian's folders."""
    root = debian.ensure("ejabberd")
    settings = folder / "ejabberd.yml"
    websocket = free_port()
    settings.write_text(EJABBERD_SETTINGS.format(port=port, websocket=websocket))
    environment = {
        **debian.environment(root),
        "ERL_LIBS": str(next(root.glob("usr/lib/*/ejabberd-*")).parent),
        "EJABBERD_CONFIG_PATH": str(settings),
        "EJABBERD_LOG_PATH": str(folder / "ejabberd.log"),
        "HOME": str(folder),
    }
    command = ("erl", "-noinput", "-mnesia", "dir", f'"{folder}/tables"', "-s", "ejabberd")
    yield Program(command, "5", environment, "alice:any@", f"{websocket}/mqtt")


@asynccontextmanager
async def rabbitmq(folder: Path, port: int) -> AsyncIterator[Program]:
    """Debian's, whose version 3 has no MQTT 5. Its nodes find each other by a program of Erlang."""
    root = debian.ensure("rabbitmq-server")
    place = next(root.glob("usr/lib/rabbitmq/lib/rabbitmq_server-*"))
    settings, plugins = folder / "rabbitmq.conf", folder / "plugins"
    websocket = free_port()
    settings.write_text(RABBITMQ_SETTINGS.format(port=port, websocket=websocket))
    plugins.write_text("[rabbitmq_mqtt, rabbitmq_web_mqtt].")
    found = debian.environment(root)
    names_port = str(free_port())
    environment = {
        **found,
        "PATH": f"{place}/sbin:{found['PATH']}",
        "HOME": str(folder),
        "RABBITMQ_CONFIG_FILE": str(settings),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(plugins),
        "RABBITMQ_MNESIA_BASE": str(folder / "tables"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_NODENAME": f"comfy2mqtt{port}@localhost",
        "RABBITMQ_DIST_PORT": str(free_port()),
        "ERL_EPMD_PORT": names_port,
        "ERL_EPMD_ADDRESS": "127.0.0.1",
    }
    old = place.name.startswith("rabbitmq_server-3.")
    async with started(("epmd",), environment):
        version = "3.1.1" if old else "5"
        yield Program(("rabbitmq-server",), version, environment, websocket=f"{websocket}/ws")


@asynccontextmanager
async def nats(folder: Path, port: int) -> AsyncIterator[Program]:
    """Debian's nats-server; who may do what is in `authorization.conf` of the folder."""
    root = debian.ensure("nats-server")
    settings = folder / "nats.conf"
    (folder / "authorization.conf").touch()
    settings.write_text(NATS_SETTINGS.format(port=port, own=free_port(), folder=folder))
    environment = debian.environment(root)
    command = (str(root / "usr/sbin/nats-server"), "-c", str(settings))
    yield Program(command, "3.1.1", environment, "comfy2mqtt:any@")


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@asynccontextmanager
async def started(command: Sequence[str], environment: Mapping[str, str]) -> AsyncIterator[None]:
    """Run a program, with all that it starts, while the block lasts."""
    program = shutil.which(command[0], path=environment["PATH"])
    assert program is not None
    null = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(
        program, *command[1:], env=environment, stdout=null, stderr=null, start_new_session=True
    )
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        await process.wait()


async def answers(url: str) -> None:
    async with Connection(Address.parse(url)):
        pass


async def is_online(url: str) -> None:
    """Wait for the bridge, by a topic that has no wildcard: not each broker retains for those."""
    async with Peer(url, version=4) as peer:
        await peer.subscribe("comfy2mqtt/bridge/state")
        await peer.next("comfy2mqtt/bridge/state", lambda message: message.payload == b"online")


@asynccontextmanager
async def running(broker: Broker, folder: Path) -> AsyncIterator[tuple[Program, str]]:
    """Run a broker while the block lasts; gives what it is, and its address once it answers."""
    port = free_port()
    async with broker(folder, port) as program, started(program.command, program.environment):
        url = f"mqtt://{program.user}127.0.0.1:{port}"
        async with asyncio.timeout(PATIENCE_S):
            await retry(lambda: answers(url), MqttError)
        yield program, url


@pytest.mark.parametrize("broker", [aedes, amqtt, ejabberd, nats, rabbitmq])
async def test_jobs_and_uploads_go_over(broker: Broker, tmp_path: Path) -> None:
    async with running(broker, tmp_path) as (program, url):
        bridge = BridgeProcess(tmp_path / "bridge", mqtt_url=url, comfyui_url="http://127.0.0.1:9")
        bridge.add_workflow("colour", graphs.colour())
        bridge.add_workflow("echo", graphs.echo())
        await bridge.start(ready=False)
        try:
            await is_online(url)
            info = await used_by_a_client(url)
            assert info.mqtt == program.mqtt
            listing = (sys.executable, "-m", "bridge", "workflows", "--mqtt-url", url)
            listed = await asyncio.to_thread(
                subprocess.run, listing, capture_output=True, text=True, check=True, cwd=ROOT
            )
            assert {"colour", "echo"} <= set(listed.stdout.split())
            if program.websocket is not None:
                websocket = f"ws://{program.user}127.0.0.1:{program.websocket}"
                async with Client(websocket, "bob") as bob:
                    assert await bob.state() == "online"
        finally:
            await bridge.stop()


@pytest.mark.comfyui
@pytest.mark.parametrize("broker", [aedes, amqtt, rabbitmq])
async def test_the_page_sends_a_picture_and_has_the_one_that_comes_back(
    broker: Broker, comfyui: Server, tmp_path: Path
) -> None:
    async with AsyncExitStack() as stack:
        _, url = await stack.enter_async_context(running(broker, tmp_path))
        settings = {"comfyui_url": comfyui.url, "comfyui_secret": comfyui.secret}
        bridge = BridgeProcess(tmp_path / "bridge", mqtt_url=url, **settings)
        bridge.add_workflow("echo", graphs.echo())
        await bridge.start(ready=False)
        stack.push_async_callback(bridge.stop)
        await is_online(url)
        config = Config(mqtt_url=url, data=tmp_path / "web", websocket_listen="127.0.0.1:0")
        keys = Keyring(config.keys_file)
        port = await stack.enter_async_context(web_adapter(config, keys))
        browser = await stack.enter_async_context(chromium())
        window = Window(await browser.new_page(), f"http://127.0.0.1:{port}/")
        await window.log_in(keys.add("alice", "test", time.time())[1], "echo")
        mine = picture((300, 200))
        await choose(window, "picture", mine)
        await window.ended(await window.run())
        back = opened(await download(window))
        assert back.convert("RGB").tobytes() == opened(mine).tobytes()
        assert window.complaints == []


def with_name(url: str, user: str) -> str:
    return re.sub("//(.*@)?", f"//{user}:any@", url)


async def test_rabbitmq_keeps_clients_apart_by_the_file_that_is_made_for_it(tmp_path: Path) -> None:
    script = tmp_path / "rabbitmq.sh"
    script.write_text(
        BROKERS["rabbitmq"].text(Topics(), [("comfy2mqtt", "bridge")], ForeignTopics(()))
    )
    async with running(rabbitmq, tmp_path) as (program, url):
        users = ("comfy2mqtt", "alice", "bob")
        script_of_users = "".join(f"rabbitmqctl -q add_user {each} any\n" for each in users)
        for command in (("-c", script_of_users), (str(script), "alice", "bob")):
            await asyncio.to_thread(
                subprocess.run, ("sh", *command), check=True, env=dict(program.environment)
            )
        await keeps_clients_apart(lambda user: with_name(url, user))


async def test_nats_keeps_clients_apart_by_the_file_that_is_made_for_it(tmp_path: Path) -> None:
    text = BROKERS["nats"].text(Topics(), [("comfy2mqtt", "bridge")], ForeignTopics(()))
    text = re.sub('password: ".*?"', 'password: "any"', text)
    end = "  ]\n}\n"
    users = text.removesuffix(end)
    alice = users[users.index('    { user: "alice"') :]
    (tmp_path / "authorization.conf").write_text(users + alice.replace("alice", "bob") + end)
    async with running(nats, tmp_path) as (_, url):
        await keeps_clients_apart(lambda user: with_name(url, user))


def test_erlang_reads_the_file_for_emqx(tmp_path: Path) -> None:
    file = tmp_path / "acl.conf"
    users = [(each, each) for each in ROLES]
    file.write_text(BROKERS["emqx"].text(Topics(), users, ForeignTopics(("cameras/+/jpg",))))
    read = f"""
        {{ok, Rules}} = file:consult("{file}"),
        {{deny, all}} = lists:last(Rules),
        lists:foreach(
            fun({{allow, Who, What, [_ | _] = Filters}}) ->
                true = lists:member(What, [publish, subscribe]),
                case Who of all -> ok; {{username, Name}} -> true = is_list(Name) end,
                true = lists:all(fun io_lib:printable_list/1, Filters)
            end,
            lists:droplast(Rules)
        ),
        io:format("~b rules", [length(Rules)]),
        halt(0)
    """
    environment = debian.environment(debian.ensure("rabbitmq-server"))
    erl = shutil.which("erl", path=environment["PATH"])
    assert erl is not None
    done = subprocess.run(
        (
            erl,
            "-noshell",
            "-eval",
            f'try {read.strip()} catch _:Reason -> io:format("~p", [Reason]), halt(1) end.',
        ),
        env=dict(environment),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, f"{2 + 2 * len(users) + 1} rules")
