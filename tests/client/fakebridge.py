"""A bridge that does what the test says: for faults that a real one does not have."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from bridge.client import Client, Event, Job
from bridge.mosquitto import Mosquitto
from tests.support.patience import PATIENCE_S

BASE = "comfy2mqtt"


class Asked(NamedTuple):
    """A request as the bridge got it."""

    client: str
    verb: str
    body: dict[str, Any]


class FakeBridge:
    """Answers requests as the test wants, by a plain MQTT client of another make."""

    def __init__(self, mqtt: aiomqtt.Client) -> None:
        self.mqtt = mqtt
        self.n = 0

    async def asked(self, verb: str | None = None) -> Asked:
        """Return the next request, which must be of that verb."""
        async with asyncio.timeout(PATIENCE_S):
            message = await anext(aiter(self.mqtt.messages))
        _, _, client, _, found = str(message.topic).split("/")
        assert verb in (None, found)
        return Asked(client, found, json.loads(bytes(message.payload)))

    async def answer(self, asked: Asked, data: Any) -> None:
        """Answer ok."""
        await self._respond(asked, {"status": "ok", "data": data})

    async def refuse(self, asked: Asked, code: str, **details: Any) -> None:
        """Answer with an error."""
        error = {"code": code, "message": f"{code}!", "details": details}
        await self._respond(asked, {"status": "error", "error": error})

    async def accept(self, asked: Asked, **more: Any) -> str:
        """Answer that a submitted job is taken; return its id."""
        job_id = str(asked.body["job_id"])
        accepted = {"job_id": job_id, "workflow": asked.body["workflow"], "state": "queued"}
        await self.answer(asked, accepted | more)
        return job_id

    async def say(self, client: str, job_id: str, topic: str, body: dict[str, Any]) -> None:
        """Publish JSON about a job."""
        about = {"job_id": job_id, "workflow": "wf"}
        await self.publish(f"client/{client}/job/{job_id}/{topic}", json.dumps(about | body))

    async def status(self, client: str, job_id: str, state: str) -> None:
        """Publish a status."""
        self.n += 1
        await self.say(client, job_id, "status", {"n": self.n, "state": state, "attempt": 1})

    async def output(self, client: str, job_id: str, index: int, data: bytes, **wrong: str) -> None:
        """Publish an output's bytes with its properties, or with `wrong` ones."""
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho has no types for it
        properties.ContentType = "image/png"
        facts = listed(index, data)
        names = ("name", "index", "size", "sha256", "width", "height")
        properties.UserProperty = [(name, str((facts | wrong)[name])) for name in names]
        topic = f"{BASE}/client/{client}/job/{job_id}/output/{index}"
        await self.mqtt.publish(topic, data, qos=1, properties=properties)

    def result(self, job_id: str, state: str = "succeeded", **more: Any) -> dict[str, Any]:
        """Return a result."""
        self.n += 1
        timings = {"queued_s": 0.1, "load_s": 0.2, "run_s": 0.3, "deliver_s": 0.4}
        return {
            "job_id": job_id,
            "workflow": "wf",
            "n": self.n,
            "state": state,
            "workflow_version": "1",
            "timings": timings,
            "attempts": 1,
        } | more

    async def end(self, client: str, result: dict[str, Any]) -> None:
        """Publish a result."""
        await self.say(client, result["job_id"], "result", result)

    def view(self, job_id: str, state: str, **more: Any) -> dict[str, Any]:
        """Return a job as `status` shows it."""
        return {
            "job_id": job_id,
            "workflow": "wf",
            "n": self.n,
            "state": state,
            "attempt": 1,
            "accepted_at": 1.0,
        } | more

    async def publish(self, topic: str, payload: str, *, retain: bool = False) -> None:
        """Publish below the base topic."""
        await self.mqtt.publish(f"{BASE}/{topic}", payload, qos=1, retain=retain)

    async def _respond(self, asked: Asked, body: dict[str, Any]) -> None:
        body["transaction"] = asked.body["transaction"]
        await self.publish(f"client/{asked.client}/response/{asked.verb}", json.dumps(body))


def listed(index: int, data: bytes, **more: Any) -> dict[str, Any]:
    """Return an output as a result lists it."""
    return {
        "index": index,
        "name": f"out{index}",
        "kind": "image",
        "content_type": "image/png",
        "size": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "width": 8,
        "height": 8,
    } | more


class Broker(Mosquitto):
    """A mosquitto with its own defaults: nothing is written to disk but at an orderly stop."""

    anonymous = "true"

    def _write_configuration(self, port: int) -> Path:
        path = self.folder / "own.conf"
        settings = ("user root", f"listener {port} 127.0.0.1", "max_packet_size 1000000")
        path.write_text("\n".join((*settings, f"allow_anonymous {self.anonymous}", "")))
        return path


@asynccontextmanager
async def fake_bridge(broker: Mosquitto) -> AsyncIterator[FakeBridge]:
    """Connect a fake bridge."""
    assert broker.port is not None
    version = aiomqtt.ProtocolVersion.V5
    async with aiomqtt.Client("127.0.0.1", broker.port, protocol=version) as mqtt:
        await mqtt.subscribe(f"{BASE}/client/+/request/#", qos=1)
        yield FakeBridge(mqtt)
        if mqtt._disconnected.done():
            mqtt._disconnected.exception()  # a broker killed by the test: the library would log it


async def submitted(client: Client, fake: FakeBridge, **inputs: Any) -> Job:
    """Return a job that the bridge has accepted."""
    submitting = asyncio.create_task(client.submit("wf", **inputs))
    await fake.accept(await fake.asked("submit"))
    return await submitting


async def events_of(job: Job) -> list[Event]:
    return [event async for event in job]


async def fetches(fake: FakeBridge, data: bytes, piece: int) -> None:
    """Serve one output by parts of `piece` bytes."""
    offset = 0
    while offset < len(data):
        asked = await fake.asked("fetch")
        assert asked.body["offset"] == offset
        body = data[offset : offset + piece]
        job_id, index = asked.body["job_id"], asked.body["output"]
        await fake.publish(f"client/alice/job/{job_id}/part/{index}/{offset}", body.decode())
        end = offset + len(body)
        part = part_of(asked.body, data, offset, len(body))
        await fake.answer(asked, part | ({"next": end} if end < len(data) else {}))
        offset = end


def part_of(body: dict[str, Any], data: bytes, offset: int, count: int) -> dict[str, Any]:
    facts = listed(0, data)
    return {
        "job_id": body["job_id"],
        "output": body["output"],
        "offset": offset,
        "count": count,
        "size": facts["size"],
        "sha256": facts["sha256"],
        "content_type": "image/png",
    }
