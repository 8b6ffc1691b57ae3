from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import aiomqtt
import pytest

from bridge import mosquitto
from bridge.mosquitto import Mosquitto, MosquittoError

pytestmark = pytest.mark.broker


def client(broker: Mosquitto, name: str) -> aiomqtt.Client:
    assert broker.port is not None
    return aiomqtt.Client(
        "127.0.0.1",
        broker.port,
        identifier=name,
        clean_session=False,
        protocol=aiomqtt.ProtocolVersion.V311,
    )


async def test_a_message_for_an_absent_client_survives_a_killed_broker(tmp_path: Path) -> None:
    async with Mosquitto(tmp_path) as broker:
        async with client(broker, "reader") as reader:
            await reader.subscribe("request", qos=1)
        async with client(broker, "writer") as writer:
            await writer.publish("request", "first", qos=1)
            # The last twenty changes may be lost, all before them may not.
            for _ in range(20):
                await writer.publish("request", "later", qos=1)
        before = broker.url
        await broker.kill()
        await broker.start()
        assert broker.url == before
        async with client(broker, "reader") as reader:
            message = await anext(aiter(reader.messages))
        assert message.payload == b"first"


@pytest.mark.slow
async def test_more_messages_wait_for_an_absent_client_than_mosquittos_default(
    tmp_path: Path,
) -> None:
    async with Mosquitto(tmp_path) as broker:
        async with client(broker, "reader") as reader:
            await reader.subscribe("request", qos=1)
        async with client(broker, "writer") as writer:
            for number in range(1200):
                await writer.publish("request", str(number), qos=1)
        async with client(broker, "reader") as reader:
            messages = aiter(reader.messages)
            received = [(await anext(messages)).payload for _ in range(1200)]
        assert received == [b"%d" % number for number in range(1200)]


async def test_it_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    script = (
        "import asyncio, pathlib, sys\n"
        "from bridge.mosquitto import Mosquitto\n"
        "async def main():\n"
        "    async with Mosquitto(pathlib.Path(sys.argv[1])) as broker:\n"
        "        print(broker.pid, flush=True)\n"
        "        await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    owner = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    assert owner.stdout is not None
    broker_pid = int(await owner.stdout.readline())
    handle = os.pidfd_open(broker_pid)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(handle, ended.set)
    owner.send_signal(signal.SIGKILL)
    await owner.wait()
    await ended.wait()
    asyncio.get_running_loop().remove_reader(handle)
    os.close(handle)


async def test_a_taken_port_is_an_error_even_though_somebody_answers_there(tmp_path: Path) -> None:
    async with Mosquitto(tmp_path / "first") as first:
        second = Mosquitto(tmp_path / "second", port=first.port)
        with pytest.raises(MosquittoError, match=f"port {first.port} cannot be used"):
            await second.start()
        assert second.pid is None


async def test_a_broker_that_does_not_start_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = tmp_path / "files"
    files.mkdir()
    (files / "comfy2mqtt.conf").write_text("no_such_setting true\n")
    monkeypatch.setenv(
        "PATH", f"{os.environ.get('PATH', os.defpath)}:{Path(await program()).parent}"
    )
    monkeypatch.setattr(mosquitto, "FILES", files)
    with pytest.raises(MosquittoError, match="no_such_setting"):
        await Mosquitto(tmp_path / "broker").start()


async def program() -> str:
    return await mosquitto.find_program("mosquitto")


async def test_without_a_checkout_and_without_a_program_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mosquitto, "FILES", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MosquittoError, match="no mosquitto_nowhere on the PATH"):
        await mosquitto.find_program("mosquitto_nowhere")


async def test_an_unknown_program_is_refused() -> None:
    with pytest.raises(MosquittoError, match="found no mosquitto_nowhere"):
        await mosquitto.find_program("mosquitto_nowhere")


async def test_the_clients_for_users_are_found_beside_the_broker() -> None:
    for name in ("mosquitto_pub", "mosquitto_sub", "mosquitto_rr", "mosquitto_passwd"):
        assert os.access(await mosquitto.find_program(name), os.X_OK)


def test_the_settings_for_users_open_nothing() -> None:
    lines = (mosquitto.FILES / "comfy2mqtt.conf").read_text().splitlines()
    settings = {line.split()[0] for line in lines if line and not line.startswith("#")}
    assert settings
    for opening in ("listener", "port", "bind", "allow", "password", "acl", "plugin", "include"):
        assert not {name for name in settings if name.startswith(opening)}


def test_its_url_is_unknown_before_it_starts(tmp_path: Path) -> None:
    with pytest.raises(MosquittoError, match="not been started"):
        _ = Mosquitto(tmp_path).url


async def test_starting_twice_is_an_error_and_stopping_twice_is_not(tmp_path: Path) -> None:
    async with Mosquitto(tmp_path) as broker:
        with pytest.raises(MosquittoError, match="runs already"):
            await broker.start()
        await broker.stop()
        assert broker.pid is None
        await broker.stop()
