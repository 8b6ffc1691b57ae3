from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest

from bridge.adapters.mqtt import logtopic
from bridge.comfyui.instance import last_lines
from bridge.contract.operator import BridgeLog

log = logging.getLogger("bridge.somewhere")


@pytest.fixture
async def lines() -> AsyncIterator[list[BridgeLog]]:
    found: list[BridgeLog] = []
    with logtopic.publishing(found.append, ["hunter2"]):
        yield found


async def test_warnings_and_worse_are_reported_in_one_line(lines: list[BridgeLog]) -> None:
    log.info("all is well")
    log.warning("it broke:\n  %s", "badly")
    log.error("x" * 1000)
    log.error("caf\udce9.json")
    await asyncio.sleep(0)
    assert [(line.level, line.logger) for line in lines] == [
        ("warning", "bridge.somewhere"),
        ("error", "bridge.somewhere"),
        ("error", "bridge.somewhere"),
    ]
    assert lines[2].message == "caf?.json"
    assert lines[0].message == "it broke: badly"
    assert len(lines[1].message) == logtopic.LENGTH


async def test_secrets_and_comfyuis_own_words_are_not_reported(lines: list[BridgeLog]) -> None:
    log.warning("the broker said: no, hunter2 is wrong")
    last_lines.warning("ComfyUI main | anything")
    await asyncio.sleep(0)
    assert [line.message for line in lines] == ["the broker said: no, *** is wrong"]


async def test_a_flood_is_cut_off_and_counted(
    lines: list[BridgeLog], monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(logtopic.LINES + 5):
        log.warning("again")
    await asyncio.sleep(0)
    assert len(lines) == logtopic.LINES
    monkeypatch.setattr(logtopic, "PER_S", -1.0)  # the next minute
    log.warning("later")
    await asyncio.sleep(0)
    assert lines[-1].message == "later"
    assert lines[-1].dropped == 5


async def test_what_goes_wrong_in_publishing_is_not_published() -> None:
    published = 0

    def publish(_: BridgeLog) -> None:
        nonlocal published
        published += 1
        log.warning("too large for the broker")

    with logtopic.publishing(publish, []):
        log.warning("something")
        for _ in range(3):
            await asyncio.sleep(0)
        assert published == 1


async def test_other_threads_may_log(lines: list[BridgeLog]) -> None:
    await asyncio.to_thread(log.warning, "from the journal's thread")
    await asyncio.sleep(0)
    assert [line.message for line in lines] == ["from the journal's thread"]
