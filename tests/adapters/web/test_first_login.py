"""The link that logs the first browser in: once, for a while, from this machine."""

from __future__ import annotations

import logging
import time
from http import HTTPStatus
from pathlib import Path

import aiohttp
import pytest

from bridge.adapters.web.first_login import LASTS_S, FirstLogin
from bridge.adapters.web.keyring import Keyring
from tests.adapters.web.conftest import Serve

# Where the page keeps it.
KEY = "comfy2mqtt key"
PAGE = "http://127.0.0.1:8090/"


@pytest.fixture
def keyring(tmp_path: Path) -> Keyring:
    return Keyring(tmp_path / "keys.json")


def offered(login: FirstLogin) -> str:
    link = login.offer(PAGE)
    assert link is not None
    assert link.startswith(f"{PAGE}#login=")
    return link.partition("=")[2]


def test_a_token_is_good_once(keyring: Keyring) -> None:
    login = FirstLogin(keyring)
    token = offered(login)
    key = login.redeem(token, "127.0.0.1")
    assert key is not None
    found = keyring.find(key)
    assert found is not None
    assert found.client == "me"
    assert login.redeem(token, "127.0.0.1") is None
    assert login.offer(PAGE) is None
    # Not even where that key is gone.
    keyring.revoke(found.id)
    assert login.redeem(token, "127.0.0.1") is None


@pytest.mark.parametrize("address", ["192.168.1.2", "::ffff:10.0.0.1", "2001:db8::1", "", "x"])
def test_a_token_is_good_from_this_machine_alone(keyring: Keyring, address: str) -> None:
    login = FirstLogin(keyring)
    token = offered(login)
    assert login.redeem(token, address) is None
    assert login.redeem(token, "::ffff:127.0.0.1") is not None


def test_a_token_grows_old_and_is_not_guessed(keyring: Keyring) -> None:
    now = 0.0
    login = FirstLogin(keyring, lambda: now)
    assert login.redeem("", "127.0.0.1") is None
    token = offered(login)
    assert login.redeem(token[:-1], "127.0.0.1") is None
    assert login.redeem("ü", "127.0.0.1") is None
    now = LASTS_S + 1
    assert login.redeem(token, "127.0.0.1") is None
    assert keyring.keys == []


def test_where_somebody_made_a_key_meanwhile_it_gives_none(keyring: Keyring) -> None:
    login = FirstLogin(keyring)
    token = offered(login)
    Keyring(keyring._path).add("alice", "", time.time())
    assert login.redeem(token, "127.0.0.1") is None
    assert [each.client for each in keyring.keys] == ["alice"]


async def test_the_link_is_logged_and_gives_a_browser_its_key(
    serve_alone: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="bridge.adapters.web.adapter"):
        async with serve_alone() as standing, aiohttp.ClientSession() as browser:
            (line,) = (each for each in caplog.messages if "nobody has a key yet" in each)
            token = line.partition("#login=")[2]
            url = f"{standing.http}/first-login"

            async def post(value: str) -> tuple[int, str]:
                headers = {"Authorization": f"Bearer {value}"}
                async with browser.post(url, headers=headers) as response:
                    return response.status, await response.text()

            for wrong in ("wrong", "\udcff"):  # as a byte that is not UTF-8
                assert (await post(wrong))[0] == HTTPStatus.FORBIDDEN
            status, key = await post(token)
            assert status == HTTPStatus.OK
            assert standing.keyring.find(key.strip()) is not None
            assert (await post(token))[0] == HTTPStatus.FORBIDDEN
