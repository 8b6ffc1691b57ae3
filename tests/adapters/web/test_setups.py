"""Setups of the web adapter: a broker that keeps users apart, a proxy, TLS."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from bridge.adapters.web import adapter, limits
from bridge.adapters.web.adapter import WebAdapter
from bridge.adapters.web.certificate import Certificate
from bridge.adapters.web.settings import settings_of
from bridge.config import Config, ConfigError
from bridge.contract import links
from bridge.jobs.queue import Key
from bridge.mqtt import ConnectionRefused
from bridge.service.public_urls import PublicUrls
from tests.adapters.web.conftest import Serve, Standing
from tests.adapters.web.test_processes import NOWHERE
from tests.support.bridge import BridgeProcess
from tests.support.certificate import make_certificate
from tests.support.confined import Confined
from tests.support.patience import PATIENCE_S
from tests.support.visitor import Visitor


@pytest.mark.broker
async def test_with_an_account_of_its_own_it_asks_for_every_client(
    serve: Serve, tmp_path: Path
) -> None:
    async with Confined(tmp_path / "confined") as confined:
        bridge = BridgeProcess(
            tmp_path / "bridge", mqtt_url=confined.url_of("comfy2mqtt"), comfyui_url=NOWHERE
        )
        async with (
            serve(confined.url_of("comfy2mqtt-web")) as server,
            server.visitor() as alice,
        ):
            await bridge.start(ready=False)
            try:
                await alice.next("bridge", lambda each: each["state"] == "online")
                answer = await alice.ask("status", job_id="none")
                assert answer["error"]["code"] == "unknown_job"
                await alice.next("info")
            finally:
                await bridge.stop()


@pytest.mark.broker
async def test_a_wrong_password_at_the_broker_stops_the_start(serve: Serve, tmp_path: Path) -> None:
    async with Confined(tmp_path / "confined") as confined:
        wrong = confined.url.replace("//", "//comfy2mqtt-web:wrong@")
        async with serve(wrong) as server:
            with pytest.raises(ExceptionGroup) as caught:
                await server.running
            assert caught.group_contains(ConnectionRefused)


async def test_behind_a_trusted_proxy_each_address_answers_for_itself(
    serve_alone: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "FIRST_WAIT_S", limits.LONGEST_WAIT_S)
    proxies = settings_of(Config(trusted_proxies=("127.0.0.0/8",))).proxies
    async with serve_alone(proxies=proxies) as server:
        for each in range(5):
            # A proxy adds a line below what the client has sent.
            lines = [("X-Forwarded-For", f"198.51.100.{each}"), ("X-Forwarded-For", "192.0.2.1")]
            async with Visitor(server.socket, additional_headers=lines) as stranger:
                await stranger.say({"type": "register", "key": "wrong"})
                assert await stranger.closed() == 4401
        guesser = {"X-Forwarded-For": "192.0.2.1"}
        with pytest.raises(InvalidStatus, match="429"):
            await connect(server.socket, proxy=None, additional_headers=guesser)
        async with server.visitor(
            additional_headers={
                "X-Forwarded-For": "192.0.2.2",
                "X-Forwarded-Proto": "https",
                "X-Forwarded-Host": "pictures.example.org",
            },
            origin="https://pictures.example.org",
        ) as alice:
            assert (await alice.ask("ping"))["status"] == "ok"


@pytest.fixture
async def certificate(tmp_path: Path) -> tuple[Path, Path]:
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    making = await asyncio.create_subprocess_exec(
        *("openssl", "req", "-x509", "-nodes", "-days", "2"),
        *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
        *("-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"),
        *("-keyout", str(key), "-out", str(cert)),
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert await making.wait() == 0
    return cert, key


async def test_with_a_certificate_it_speaks_tls(
    serve_alone: Serve, certificate: tuple[Path, Path]
) -> None:
    cert, key = certificate
    settings = settings_of(Config(websocket_cert=cert, websocket_cert_key=key))
    client = ssl.create_default_context(cafile=cert)
    async with serve_alone(tls=settings.tls) as server:
        secure = Standing(
            server.port, server.keyring, server.running, scheme="wss", reachable=False
        )
        origin = f"https://127.0.0.1:{server.port}"
        async with secure.visitor(ssl=client, origin=origin) as alice:
            assert (await alice.ask("ping"))["status"] == "ok"


async def test_a_certificate_that_is_replaced_is_that_of_the_next_connections(
    serve_alone: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter, "_REREAD_S", 0.01)
    cert, key = (tmp_path / name for name in ("certificate.pem", "key.pem"))
    make_certificate(tmp_path)
    tls = Certificate(cert, key)
    async with serve_alone(tls=tls) as server:
        former = await presented_at(server.port)
        (tmp_path / "new").mkdir()
        make_certificate(tmp_path / "new")
        (tmp_path / "new/certificate.pem").rename(cert)
        with pytest.raises(OSError, match="KEY_VALUES_MISMATCH"):
            tls.refresh()
        assert await presented_at(server.port) == former
        (tmp_path / "new/key.pem").rename(key)
        async with asyncio.timeout(PATIENCE_S):
            while (presented := await presented_at(server.port)) == former:
                pass
        assert presented == ssl.PEM_cert_to_DER_cert(cert.read_text())


async def presented_at(port: int) -> bytes:
    """Return the certificate that a server presents."""
    anybody = ssl.create_default_context()
    anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=anybody)
    found: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return found


def test_a_certificate_that_is_none_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "cert.pem").write_text("none")
    with pytest.raises(ConfigError, match="websocket_cert"):
        settings_of(Config(websocket_cert=tmp_path / "cert.pem"))


async def test_an_address_that_is_taken_stops_the_start(
    serve_alone: Serve, alone: Standing
) -> None:
    with pytest.raises(ConfigError, match=f"websocket_listen: .*:{alone.port}: "):
        async with serve_alone(port=alone.port):
            pass


def test_the_bridge_and_a_web_adapter_of_the_same_settings_share_the_key_of_links(
    tmp_path: Path,
) -> None:
    config = Config(data=tmp_path, public_url="https://pictures.example.org")
    addresses = PublicUrls.of(config)
    assert addresses is not None
    WebAdapter.of(config)
    address = addresses.output(Key("alice", "j"), 1, 2000.7)
    key = bytes.fromhex((tmp_path / "link.key").read_text())
    token = address.removeprefix("https://pictures.example.org/o/")
    assert links.read(key, token, 0) == links.Link("alice", "j", 1, 2000)
    assert addresses.display("hall") == "https://pictures.example.org/d/hall.png"
    assert PublicUrls.of(Config(data=tmp_path)) is None
