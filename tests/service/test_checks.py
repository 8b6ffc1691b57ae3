"""The checks before a ComfyUI is installed."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from bridge.config import Config, ConfigError, load
from bridge.service import app, checks, instances


def read(tmp_path: Path, text: str) -> Config:
    file = tmp_path / "comfy2mqtt.toml"
    file.write_text(text)
    return load(environment={"COMFY2MQTT_DATA": str(tmp_path / "data")}, file=file)


def refused(config: Config, check: Callable[[Config], object]) -> str:
    with pytest.raises(ConfigError) as caught:
        check(config)
    return config.sources.explain(caught.value)


TABLES = [
    ('[[display]]\nname = "kitchen"\nwidth = 0', 3, "display.kitchen.width: '0': expected a"),
    ('[[display]]\nname = "kitchen"\nformat = "tif"', 3, "display.kitchen.format: 'tif': expected"),
    (
        '[[display]]\nname = "kitchen"\nformat = "png"\nquality = 9',
        4,
        "display.kitchen.quality: needs format jpeg or webp",
    ),
    (
        '[[trigger]]\nname = "a"\ntopic = "t"\nworkflow = "w"\nshow = "hal"',
        5,
        "trigger.a.show: there is no display 'hal'",
    ),
    ('[[trigger]]\nname = "a"\ntopic = "#"\nworkflow = "w"', 3, "trigger.a.topic: '#' may match"),
    (
        '[[trigger]]\nname = "a"\ntopic = "t"\nworkflow = "w"\ninputs = { x = { path = "(" } }',
        5,
        "trigger.a.inputs.x: '(': ",
    ),
    ('[[sink]]\n[[sink]]\nput = "http://h:x/"', 1, "sink[0]: give one of put and webhook"),
    ('[[sink]]\nput = "ftp://h/"', 2, "sink[0].put: expected a URL that begins with"),
    ('[[sink]]\nput = "folder:a"', 2, "sink[0].put: there is no folder 'a'"),
    (
        '[[sink]]\nput = "http://h/"\nheaders = { Host = "a" }',
        3,
        "sink[0].headers: 'Host' cannot be set",
    ),
    ('[[sink_folder]]\nname = "a"\npath = "."\nfile = "../x"', 4, "sink_folder.a.file: '../x': "),
    (
        '[[hook]]\nname = "a"\npreset = "ollama"\nurl = "http://[::1"',
        4,
        "hook.a.url: 'http://[::1'",
    ),
    (
        '[[hook]]\nname = "a"\n[hook.before_busy]\nurl = "http://h"\nheaders = { A = "b\\nc" }',
        5,
        "hook.a.before_busy.headers: 'A': expected one line",
    ),
]


@pytest.mark.parametrize(("text", "line", "told"), TABLES)
def test_a_wrong_table_is_refused_with_its_place(
    tmp_path: Path, text: str, line: int, told: str
) -> None:
    found = refused(read(tmp_path, text), checks.check_tables)
    assert found.startswith(f"{tmp_path / 'comfy2mqtt.toml'}, line {line}: {told}"), found


async def test_a_bridge_looks_before_it_installs_a_comfyui(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def install(*_: object) -> None:
        raise AssertionError("it was to be installed")

    monkeypatch.setattr(instances, "configs", install)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for text, told in (
            (TABLES[0][0], "display.kitchen.width"),
            (f'websocket_listen = "127.0.0.1:{port}"', "websocket_listen"),
            ('public_mqtt_url = "mqtt://h:x"', "public_mqtt_url"),
        ):
            with pytest.raises(ConfigError, match=told):
                await app.serve(read(tmp_path, text))


@pytest.mark.parametrize("setting", checks.LISTENS)
def test_a_port_that_another_program_has_is_named_with_its_setting(
    tmp_path: Path, setting: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        hosts = ("127.0.0.1", "", "0.0.0.0")  # noqa: S104 - all interfaces include it
        configs = [read(tmp_path, f'{setting} = "{host}:{port}"') for host in hosts]
        for host, config in zip(hosts, configs, strict=True):
            told = refused(config, checks.check_ports)
            assert f"line 1: {setting}: '{host}:{port}': another program listens there" in told
    for config in configs * 2:  # it has ended, and a check leaves nothing that listens
        checks.check_ports(config)


def test_an_address_of_another_machine_cannot_be_listened_at(tmp_path: Path) -> None:
    config = read(tmp_path, 'websocket_listen = "192.0.2.1:8090"')
    told = refused(config, checks.check_ports)
    assert "websocket_listen: '192.0.2.1:8090': Cannot assign requested address" in told


def test_a_data_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    for folder in ("file", "file/data"):
        config = Config(data=tmp_path / folder)
        told = refused(config, checks.check_data)
        assert told.startswith(f"data: '{tmp_path / folder}': "), told
        assert "file cannot be written: it is a file" in told
    assert checks.check_data(Config(data=tmp_path / "a" / "b")) == tmp_path
    assert not (tmp_path / "a").exists()


def test_a_full_disk_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checks, "try_folder", full)
    assert checks.check_data(Config(data=tmp_path)) == tmp_path


def test_a_bridge_with_its_journal_in_a_database_starts_without_a_folder_to_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container whose disk is read-only."""

    def read_only(_: Path) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(checks, "try_folder", read_only)
    checks.check_start(Config(data=tmp_path, journal="postgresql://h/d"))
    told = refused(Config(data=tmp_path), checks.check_start)
    assert "cannot be written: Read-only file system" in told


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('mqtt_url = "mqtt://h:x"', "mqtt_url: 'mqtt://h:***': the port must be a number"),
        ('mqtt_url = "mqtts://h"\nmqtt_ca = "{here}/empty"', "mqtt_ca: the CA file"),
        (
            'mqtt_url = "mqtts://h"\nmqtt_ca = "{here}/none"',
            "mqtt_ca: '{here}/none': expected a file",
        ),
        ('mqtt_ca = "{here}/empty"', "mqtt_ca: 'mqtt://127.0.0.1:1883': certificates need TLS"),
        (
            'mqtt_url = "mqtts://h"\nmqtt_cert = "{here}/empty"',
            "mqtt_cert: the certificate {here}/empty",
        ),
        ('mqtt_password_file = "{here}/empty"', "mqtt_password_file: 'mqtt://127.0.0.1:1883': a "),
        ('isolation_probe_url = "mqtt://["', "isolation_probe_url: 'mqtt://[': the host"),
        ('public_mqtt_url = "mqtt://u:p@h"', "public_mqtt_url: without user and password"),
        ('link_key_file = "{here}/empty"', "link_key_file: '{here}/empty': expected a file of 32"),
        (
            'webhook_key_file = "{here}/empty/x"',
            "webhook_key_file: '{here}/empty/x': {here}/empty is",
        ),
        (
            'websocket_listen = "127.0.0.1:0"\nwebsocket_cert = "{here}/empty"',
            "websocket_cert: '{here}/empty': expected a certificate",
        ),
        (
            'websocket_listen = "127.0.0.1:0"\nwebsocket_keys = "{here}/empty"',
            "websocket_keys: {here}/empty: not a file of keys",
        ),
        (
            'websocket_listen = "127.0.0.1:0"\nwebsocket_mqtt_url = "mqtt://h:0"',
            "websocket_mqtt_url: 'mqtt://h:0': the port",
        ),
    ],
)
def test_addresses_certificates_and_keys_are_looked_at(
    tmp_path: Path, text: str, told: str
) -> None:
    (tmp_path / "empty").write_bytes(b"")
    config = read(tmp_path, text.format(here=tmp_path))
    assert told.format(here=tmp_path) in refused(config, checks.check_connections)
    assert not (tmp_path / "data").exists()


def test_a_damaged_key_of_links_matters_where_there_are_links(tmp_path: Path) -> None:
    (tmp_path / "link.key").write_text("damaged")
    config = Config(data=tmp_path)
    checks.check_connections(config)
    linked = replace(config, public_url="https://pictures.example")
    assert "link.key': expected a file of 32" in refused(linked, checks.check_connections)
    page = replace(config, websocket_listen="127.0.0.1:0")
    assert "link.key': expected a file of 32" in refused(page, checks.check_connections)
