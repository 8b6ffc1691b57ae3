"""A click on the link of the first login, in a real Chromium."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from bridge.mosquitto import Mosquitto
from tests.adapters.web.conftest import serving
from tests.support.bridge import ROOT
from tests.support.browser import chromium
from tests.support.patience import PATIENCE_S

pytestmark = [pytest.mark.broker, pytest.mark.slow]

# Where the page keeps it.
KEY = "comfy2mqtt key"


async def test_a_click_on_the_link_logs_a_browser_in(
    broker: Mosquitto, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    page = ROOT / "bridge" / "adapters" / "web" / "page"
    with caplog.at_level(logging.INFO, logger="bridge.adapters.web.adapter"):
        async with serving(broker.url, tmp_path, page, {}, reachable=True) as standing:
            (line,) = (each for each in caplog.messages if "nobody has a key yet" in each)
            async with chromium() as browser:
                window = await browser.new_page()
                await window.goto(line.rpartition(" ")[2])
                # Not by `wait_for_function`: the page's policy lets nobody evaluate texts.
                key = None
                async with asyncio.timeout(PATIENCE_S):
                    while key is None:
                        key = await window.evaluate(f"localStorage.getItem({KEY!r})")
                assert window.url == f"{standing.http}/"
                assert standing.keyring.find(key) is not None
                # Again it logs nobody in, and says why.
                other = await browser.new_page()
                await other.goto(line.rpartition(" ")[2])
                await other.get_by_text("This link is used").wait_for()
