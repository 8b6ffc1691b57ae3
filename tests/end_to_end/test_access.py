"""Rights to publish and read topics: each cell tried on a real mosquitto, in MQTT 3.1.1 and 5.

The broker runs with the files that `comfy2mqtt mosquitto setup` writes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import aiomqtt
import pytest

from bridge.mqtt import Address, Connection, ConnectionRefused, Unreachable
from tests.conftest import StartBridge
from tests.end_to_end import graphs
from tests.support.certificate import make_certificate
from tests.support.comfyui import Server
from tests.support.confined import ROOT_USER, Confined
from tests.support.peer import Peer

pytestmark = pytest.mark.broker

USERS = ("comfy2mqtt", "comfy2mqtt-web", "homeassistant", "operator", "alice", "bob")
# r: read, w: publish, -: neither. An anonymous user is not even let in.
MATRIX = """
topic                                      bridge  adapter  home  operator  alice  bob
comfy2mqtt/client/alice/request/run/demo   r       rw       -     r         w      -
comfy2mqtt/client/alice/request/submit     r       rw       -     r         w      -
comfy2mqtt/client/alice/request/upload/u   r       rw       -     r         w      -
comfy2mqtt/client/alice/response/run       w       r        -     r         r      -
comfy2mqtt/client/alice/job/j1/status      w       r        -     r         r      -
comfy2mqtt/client/alice/job/j1/output/0    w       r        -     r         r      -
comfy2mqtt/client/alice/job/j1/result      w       r        -     r         r      -
comfy2mqtt/client/alice/reply/here         w       r        -     r         r      -
comfy2mqtt/client/alice                    -       r        -     r         -      -
comfy2mqtt/client/alice/else               -       r        -     r         -      -
comfy2mqtt/client/operator/request/list    r       rw       -     rw        -      -
comfy2mqtt/client/homeassistant/request/x  r       rw       w     r         -      -
comfy2mqtt/bridge/state                    rw      r        r     r         r      r
comfy2mqtt/bridge/info                     rw      r        r     r         r      r
comfy2mqtt/bridge/health                   rw      r        r     r         r      r
comfy2mqtt/bridge/event                    rw      r        r     r         r      r
comfy2mqtt/bridge/log                      rw      -        -     r         -      -
comfy2mqtt/bridge/comfyui/default          rw      r        r     r         r      r
comfy2mqtt/bridge/choices/models           rw      r        r     r         r      r
comfy2mqtt/bridge/member/one               rw      -        -     r         -      -
comfy2mqtt/bridge/request/comfyui/restart  rw      -        w     rw        -      -
comfy2mqtt/bridge/request/queue/clear      rw      -        -     rw        -      -
comfy2mqtt/bridge/response/queue/clear     rw      -        -     r         -      -
comfy2mqtt/workflow/demo                   rw      r        r     r         r      r
comfy2mqtt/display/hall/image              rw      r        r     r         r      r
comfy2mqtt/homeassistant/demo/run          rw      -        rw    r         -      -
homeassistant/device/comfy2mqtt/config     rw      -        r     -         -      -
homeassistant/status                       rw      -        rw    -         -      -
cameras/door/snapshot                      r       -        -     -         -      -
cameras/door/secret                        -       -        -     -         -      -
comfy2mqtt                                 -       -        -     r         -      -
elsewhere                                  -       -        -     -         -      -
"""
ROWS = [line.split() for line in MATRIX.strip().splitlines()[1:]]
TOPICS = [row[0] for row in ROWS]
CELLS = {row[0]: dict(zip(USERS, row[1:], strict=True)) for row in ROWS}
CONFIG = '[clients.alice]\ninput_topics = ["cameras/+/snapshot"]\n'
# Everybody may read this one: what was to come before it has come.
LAST = "comfy2mqtt/bridge/state"


def may(user: str, what: str) -> list[str]:
    return [topic for topic in TOPICS if what in CELLS[topic][user]]


@pytest.fixture
async def confined(tmp_path: Path) -> AsyncIterator[Confined]:
    async with Confined(tmp_path / "mosquitto", "alice", "bob", config=CONFIG) as broker:
        yield broker


@pytest.mark.parametrize("version", [4, 5])
async def test_each_user_reads_and_publishes_what_the_matrix_says_and_no_more(
    confined: Confined, version: int
) -> None:
    async with AsyncExitStack() as stack:
        root = await stack.enter_async_context(Peer(confined.url_of(ROOT_USER)))
        await root.subscribe("#")
        peers = {
            user: await stack.enter_async_context(Peer(confined.url_of(user), version=version))
            for user in USERS
        }
        for user, peer in peers.items():
            await peer.subscribe("#", "+/client/alice/job/+/result", "comfy2mqtt/client/alice/#")
            for topic in TOPICS:
                peer.publish(topic, user)
            peer.publish(f"comfy2mqtt/client/{user}/request/last", user)
            await root.next(f"comfy2mqtt/client/{user}/request/last")
        written = {
            user: [
                topic
                for topic in TOPICS
                if any(m.payload == user.encode() for m in root.all(topic))
            ]
            for user in USERS
        }
        for topic in TOPICS:
            root.publish(topic, b"from root")
        root.publish(LAST, b"last")
        read = {}
        for user, peer in peers.items():
            await peer.next(LAST, lambda message: message.payload == b"last")
            came = {each.topic for each in peer.messages if each.payload == b"from root"}
            read[user] = [topic for topic in TOPICS if topic in came]
    assert written == {user: may(user, "w") for user in USERS}
    assert read == {user: may(user, "r") for user in USERS}


@pytest.mark.parametrize("version", [aiomqtt.ProtocolVersion.V311, aiomqtt.ProtocolVersion.V5])
@pytest.mark.parametrize(
    "credentials", [(None, None), ("alice", None), ("alice", "wrong"), ("x", "y")]
)
async def test_nobody_comes_in_without_a_right_password(
    confined: Confined,
    version: aiomqtt.ProtocolVersion,
    credentials: tuple[str | None, str | None],
) -> None:
    address = Address.parse(confined.url)
    user, password = credentials
    client = aiomqtt.Client(
        address.host, address.port, username=user, password=password, protocol=version
    )
    with pytest.raises(aiomqtt.MqttError, match=r"[Nn]ot authori[sz]ed|[Bb]ad user name"):
        await client.__aenter__()


async def test_on_the_network_it_speaks_tls_alone(tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path)
    async with Confined(tmp_path / "mosquitto", "alice", certificate=certificate) as broker:
        where = broker.url_of("alice").rpartition(":")[0].replace("127.0.0.1", "localhost")
        tls = f"{where.replace('mqtt:', 'mqtts:')}:{broker.tls_port}"
        async with Connection(Address.parse(tls, ca=certificate)) as connection:
            assert connection.alive
        with pytest.raises(Unreachable, match="certificate is not valid"):
            await Connection(Address.parse(tls)).__aenter__()
        with pytest.raises(Unreachable):
            await Connection(Address.parse(f"{where}:{broker.tls_port}")).__aenter__()
        anonymous = Address.parse(f"mqtts://localhost:{broker.tls_port}", ca=certificate)
        with pytest.raises(ConnectionRefused):
            await Connection(anonymous).__aenter__()


async def test_a_password_that_is_changed_in_its_file_is_that_of_the_next_connection(
    confined: Confined, tmp_path: Path
) -> None:
    file = tmp_path / "password"
    file.write_text("the former one\n")
    url = confined.url.replace("//", "//alice@")
    address = Address.parse(url, password_file=file)
    with pytest.raises(ConnectionRefused):
        await Connection(address).__aenter__()
    file.write_text(confined.password["alice"] + "\n")
    async with Connection(address) as connection:
        assert connection.alive


@pytest.mark.comfyui
async def test_a_job_runs_behind_the_acl_and_another_client_sees_nothing_of_it(
    confined: Confined, bridges: StartBridge, comfyui: Server, tmp_path: Path
) -> None:
    secret = tmp_path / "password"
    secret.write_text(confined.password["comfy2mqtt"] + "\n")
    bridge = await bridges(
        workflows={"colour": graphs.colour()},
        mqtt_url=confined.url.replace("//", "//comfy2mqtt@"),
        mqtt_password_file=secret,
        isolation_probe_url=confined.url_of("bob"),
        comfyui_url=comfyui.url,
        comfyui_secret=comfyui.secret,
    )
    async with (
        Peer(confined.url_of("alice")) as alice,
        Peer(confined.url_of("bob"), client="bob") as bob,
    ):
        await alice.listen()
        await bob.subscribe("#", "comfy2mqtt/client/alice/#")
        bob.publish("comfy2mqtt/client/alice/request/run/colour/stolen", b"")
        answer = await alice.ask("run/colour/j1", ResponseTopic="comfy2mqtt/client/alice/reply/1")
        assert answer["status"] == "ok"
        assert (await alice.result("j1"))["state"] == "succeeded"
        await alice.job("j1", "output/0")
        await alice.next("comfy2mqtt/client/alice/reply/1")
        assert [job["job_id"] for job in (await alice.ask("list"))["data"]["jobs"]] == ["j1"]
        info = await bob.next(
            "comfy2mqtt/bridge/info", lambda message: message.json["isolation"] != "unknown"
        )
        assert info.json["isolation"] == "enforced"
        assert not {each for each in confined.password.values() if each in info.payload.decode()}
        assert not bob.all("comfy2mqtt/client/alice/#")
    assert "refused" not in bridge.log
    for user in USERS:
        assert confined.password[user] not in bridge.log
