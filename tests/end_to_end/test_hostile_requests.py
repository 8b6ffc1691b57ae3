"""Requests made to break what reads them: refused, answered, and nothing else happens."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from bridge.jobs.uploads import MAX_BEGUN
from bridge.mosquitto import Mosquitto
from tests.conftest import StartBridge
from tests.end_to_end import graphs
from tests.support.peer import Peer

pytestmark = pytest.mark.broker

MB = 1024 * 1024
NAMES = [
    "..",
    "../../etc/passwd",
    "/etc/passwd",
    "a/b",
    "a\\b",
    "a\0b",
    "a\nb",
    "+",
    "#",
    "$share",
    "%2e%2e",
    "c\u043elour",  # a Cyrillic o
    "colour\u200b",
    "\uff43olour",
    "a" * 65,
    "",
    " ",
    "CON:",
]
JSON: list[tuple[str, bytes, str]] = [
    ("run/colour", b'{"colour": ' + b"[" * 100_000, "bad_request"),
    ("submit", b'{"workflow": "colour", "inputs": ' + b'{"a":' * 50_000, "bad_request"),
    ("submit", b'{"meta": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "bad_request"),
    # Little enough for the request's decoder, and too much for the journal's at the next start.
    ("submit", b'{"workflow": "colour", "meta": ' + b"[" * 970 + b"]" * 970 + b"}", "bad_request"),
    ("run/colour", b'{"colour": ' + b"[" * 970 + b"]" * 970 + b"}", "bad_request"),
    ("run/colour", b'{"colour": NaN}', "bad_request"),
    ("run/colour", b'{"colour": -Infinity}', "bad_request"),
    ("run/colour", b'{"colour": 1e999}', "bad_request"),
    ("run/colour", b'{"colour": ' + b"9" * 5000 + b"}", "bad_request"),
    ("run/colour", b'{"colour": 1e300}', "invalid_input"),
    ("run/colour", b'{"colour": 18446744073709551616}', "invalid_input"),
    ("run/colour", b'{"colour": "\\ud800"}', "bad_request"),
    ("run/colour", b'{"\\udfff": 1}', "bad_request"),
    ("run/colour", b'{"colour": "\xed\xa0\x80"}', "bad_request"),
    ("run/colour", b'{"colour": 1, "colour": -1}', "invalid_input"),  # the last one counts
    ("run/colour", b'{"colour": 1} {"colour": 2}', "bad_request"),
    ("run/colour", b"{" + b" " * 10 * MB, "bad_request"),
    ("submit", b" " * 10 * MB, "bad_request"),
    ("list", b'{"after": 1e400}', "bad_request"),
    ("ack", b'{"up_to": -1}', "bad_request"),
    ("ack", b'{"up_to": 99999999999999999999999}', "bad_request"),
    ("fetch", b'{"job_id": "x", "offset": 9223372036854775808}', "bad_request"),
    ("upload/u", b'{"size": 1e30, "sha256": "' + b"0" * 64 + b'"}', "bad_request"),
    ("upload/u/999999999999999", b"x", "invalid_input"),
    ("status", b"x" * MB, "bad_request"),
]


async def test_hostile_json_is_refused_and_the_bridge_goes_on(
    detached: StartBridge, broker: Mosquitto
) -> None:
    bridge = await detached({"colour": graphs.colour()})
    pid = bridge.pid
    async with Peer(broker.url) as peer:
        await peer.listen()
        for verb, payload, code in JSON:
            answer = await peer.ask(verb, payload)
            assert answer.get("error", {}).get("code") == code, (verb, payload[:60], answer)
            assert len(json.dumps(answer)) < 4000, (verb, payload[:60])
        assert (await peer.ask("run/colour/j1", b" " * 10 * MB))["status"] == "ok"  # no payload
        assert (await peer.ask("list"))["status"] == "ok"
    assert bridge.pid == pid
    assert "Traceback" not in bridge.log


async def test_no_name_reaches_the_file_system_or_another_topic(
    detached: StartBridge, broker: Mosquitto, tmp_path: Path
) -> None:
    bridge = await detached({"colour": graphs.colour()}, log_level="info")
    data = Path(bridge.settings["data"])
    before = files(data)
    async with Peer(broker.url) as peer, Peer(broker.url, client="spy") as spy:
        await peer.listen()
        await spy.subscribe("comfy2mqtt/client/#")
        for name in NAMES:
            tries: list[dict[str, Any]] = [
                {"workflow": name},
                {"workflow": "colour", "job_id": name},
                {"workflow": "colour", "workflow_version": name},
                {"workflow": "colour", "inputs": {name: 1}},
                {"workflow": "colour", "transaction": 5, "output": {"format": name}},
            ]
            for body in tries:
                answer = await peer.ask("submit", body)
                assert answer["status"] == "error", (body, answer)
            # As a level of a topic, where the broker lets it be one.
            if not set(name) & set("+#\0\n"):
                for topic in (
                    f"comfy2mqtt/client/{name}/request/list",
                    f"comfy2mqtt/client/alice/request/run/{name}",
                    f"comfy2mqtt/client/alice/request/run/colour/{name}",
                    f"comfy2mqtt/client/alice/request/upload/{name}",
                    f"comfy2mqtt/client/alice/request/upload/{name}/fin",
                    f"comfy2mqtt/client/alice/request/{name}",
                ):
                    peer.publish(topic, b"x")
        assert (await peer.ask("list", {"transaction": "last"}))["data"]["jobs"] == []
        for each in spy.messages:
            if "/request/" not in each.topic:
                assert each.topic.startswith("comfy2mqtt/client/alice/response/"), each.topic
                assert each.topic.rpartition("/")[2].isascii()
                assert each.json["status"] == "error" or "jobs" in each.json["data"]
    assert files(data) - before <= {"object_info", "uploads"}
    assert names(tmp_path) == {"bridge", "mosquitto"}


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def files(folder: Path) -> set[str]:
    found = (path for path in folder.rglob("*") if "journal.db" not in path.name)
    return {str(path.relative_to(folder)) for path in found}


async def test_log_lines_cannot_be_forged_and_carry_neither_secrets_nor_payloads(
    bridges: StartBridge, broker: Mosquitto
) -> None:
    bridge = await bridges(
        workflows={"colour": graphs.colour()},
        start=False,
        mqtt_url=broker.url.replace("//", "//bridge:hunter2@"),
        comfyui_url="http://127.0.0.1:9",
        comfyui_secret="hunter3",  # noqa: S106 - to be looked for
    )
    forged = "x\n2026-01-01 00:00:00,000 WARNING bridge.service: forged\r\nforged too"
    secret = "a long prompt that is nobody's business"  # noqa: S105 - to be looked for
    await bridge.start(ready=False)
    await bridge.ready("unreachable")
    async with Peer(broker.url) as peer:
        await peer.listen()
        await peer.subscribe("comfy2mqtt/bridge/#")
        for body in (
            {"workflow": forged},
            {"workflow": "colour", "job_id": forged},
            {"workflow": "colour", "inputs": {forged: secret}},
            {"workflow": "colour", "meta": {"secret": secret}},
            {"workflow": "colour", "inputs": {"picture": {"url": f"http://u:{secret}@h/{secret}"}}},
        ):
            await peer.ask("submit", body)
        await peer.ask("run/colour", secret.encode())
        told = b"".join(each.payload for each in peer.all("comfy2mqtt/bridge/#"))
    assert bridge.log
    for line in bridge.log.splitlines():
        assert re.match(r"\d{4}-\d\d-\d\d [\d:,]+ [A-Z]+ [\w.]+: |    ", line), line
        assert not line.startswith("2026-01-01"), line
    for each in (secret, "hunter2", "hunter3"):
        assert each not in bridge.log
        assert each.encode() not in told


async def test_uploads_that_are_begun_and_left_are_counted(
    detached: StartBridge, broker: Mosquitto
) -> None:
    await detached({"colour": graphs.colour()})
    begin = {"size": 1, "sha256": "0" * 64}
    async with Peer(broker.url) as peer:
        await peer.listen()
        for number in range(MAX_BEGUN):
            peer.request(f"upload/u{number}", begin)
        for _ in range(MAX_BEGUN):
            assert (await peer.response("upload")).json["status"] == "ok"
        assert (await peer.ask("upload/more", begin))["error"]["code"] == "quota_exceeded"
        assert (await peer.ask("upload/u5", begin))["data"]["held"] == 0  # the same once more
