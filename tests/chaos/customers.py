"""Clients as they are in the field: paho scripts of MQTT 3.1.1 and 5 that want their pictures.

Half of a customer's requests have job ids, and are sent again until they are answered. The others
are published once. Some customers are away for long, and ask for what they missed.
"""

from __future__ import annotations

import asyncio
import json
import random
import uuid
from collections import defaultdict
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

BASE = "comfy2mqtt"
RESEND_S = 3.0
PAGE_S = 10.0
OUTCOMES = ("succeeded", "failed", "cancelled", "expired")


class Customer:
    """One client; use `connect`, `ask_for` and `collect` from the event loop."""

    def __init__(self, name: str, url: str, version: int) -> None:
        self.name = name
        self.version = version
        # By job id: the tag that its request carries, so that runs can be distinguished.
        self.wanted: dict[str, str] = {}
        self.accepted: set[str] = set()
        self.refused: list[Any] = []
        self.copies: dict[str, list[bytes]] = defaultdict(list)
        # What a list gave, and up to which number it has all: that is acked now and then.
        self.listed: set[str] = set()
        self._n = 0
        self._resumes = False
        self.unnamed = 0
        # Tags of requests without a job id: by packet id, until the broker has acknowledged them;
        # and those that the client library may have sent again after a new connection.
        self._unacknowledged: dict[int, str] = {}
        self.sent_again: set[str] = set()
        # Those that the broker has acknowledged.
        self.sent: set[str] = set()
        # By set id: the ids of its jobs, which are wanted as well.
        self.sets: dict[str, list[str]] = {}
        self.set_copies: dict[str, list[bytes]] = defaultdict(list)
        self._loop = asyncio.get_running_loop()
        self._came = asyncio.Event()
        self._answers: dict[str, asyncio.Future[Any]] = {}
        self._at = urlsplit(url)
        self._paho: paho.Client | None = None
        self._dice = random.Random(name)

    # Being there, and not.

    def connect(self) -> None:
        """Connect, and again whenever the connection is lost."""
        # A new client each time, on the session that the broker keeps.
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            f"customer-{self.name}",
            clean_session=None if self.version == 5 else False,
            protocol=MQTTProtocolVersion.MQTTv5
            if self.version == 5
            else MQTTProtocolVersion.MQTTv311,
        )
        client.reconnect_delay_set(1, 1)
        client.on_connect = self._on_connect
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        options: dict[str, Any] = {}
        if self.version == 5:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call] # paho's
            properties.SessionExpiryInterval = 3600
            options = {"clean_start": False, "properties": properties}
        client.connect_async(self._at.hostname or "", self._at.port or 1883, keepalive=5, **options)
        client.loop_start()
        self._paho = client

    async def leave(self) -> None:
        """Be away: what is published meanwhile is the broker's and the bridge's to keep."""
        client, self._paho = self._paho, None
        if client is not None:
            client.disconnect()
            await asyncio.to_thread(client.loop_stop)

    # Wanting pictures.

    def ask_for(self, workflow: str, *, named: bool) -> None:
        """Ask for one picture; one with a job id is asked for again until it is answered."""
        tag = uuid.uuid4().hex
        body: dict[str, Any] = {"tag": tag, "$meta": {"tag": tag}}
        if named:
            self.wanted[f"j{len(self.wanted)}-{tag[:8]}"] = tag
        elif self._paho is not None:
            self.unnamed += 1
            packet = self._publish(f"run/{workflow}", body)
            self._unacknowledged[packet] = tag

    def ask_for_set(self, size: int) -> None:
        """Ask for so many pictures at once, again and again until that is answered."""
        set_id = f"s{len(self.sets)}-{uuid.uuid4().hex[:8]}"
        self.sets[set_id] = [f"{set_id}-{index}" for index in range(size)]
        self.wanted |= {job_id: uuid.uuid4().hex for job_id in self.sets[set_id]}

    async def insist(self, workflow: str) -> None:
        """Send what has a job id and no answer again and again, until cancelled."""
        while True:
            of_sets = {job_id for jobs in self.sets.values() for job_id in jobs}
            for job_id, tag in list(self.wanted.items()):
                if job_id not in self.accepted | of_sets:
                    self._publish(f"run/{workflow}/{job_id}", {"tag": tag, "$meta": {"tag": tag}})
            for set_id, jobs in list(self.sets.items()):
                if not self.accepted.issuperset(jobs):
                    each = [{"tag": self.wanted[job_id]} for job_id in jobs]
                    body = {"workflow": workflow, "set_id": set_id, "each": each}
                    self._publish("submit", {**body, "meta": {"tag": set_id}})
            await self._claim()
            await asyncio.sleep(RESEND_S * self._dice.uniform(0.8, 1.2))

    async def _claim(self) -> None:
        """Ack what was received; after a connection first ask for what comes after that."""
        if self._paho is None:
            return
        if not self._resumes:
            self._publish("ack", {"up_to": self._n})
            return
        page = await self._ask("list", {"after": self._n, "limit": 50})
        self.listed |= {job["job_id"] for job in page["jobs"] if "result" in job}
        self._n = max([self._n, *(job["n"] for job in page["jobs"])])
        self._resumes &= page["more"]

    @property
    def missing(self) -> set[str]:
        """Accepted jobs and sets whose result has not come."""
        sets = {name for name, jobs in self.sets.items() if self.accepted.issuperset(jobs)}
        return (self.accepted - self.copies.keys()) | (sets - self.set_copies.keys())

    @property
    def lacking(self) -> set[str]:
        """Requests that must be accepted and are not, and what has no result but was accepted."""
        return (self.wanted.keys() - self.accepted) | self.missing

    async def gets_more(self) -> None:
        """Wait until one request more is accepted, or one result more has come."""
        before = self._got
        while self._got == before:
            self._came.clear()
            await self._came.wait()

    @property
    def _got(self) -> tuple[int, ...]:
        return len(self.accepted), len(self.copies), len(self.set_copies)

    async def collect(self) -> dict[str, Any]:
        """Ask for all jobs, page by page; returns what the bridge says of each."""
        found: dict[str, Any] = {}
        after = 0
        while True:
            page = await self._ask("list", {"after": after, "limit": 50})
            for job in page["jobs"]:
                found[job["job_id"]] = job
                after = max(after, job["n"])
            if not page["more"]:
                return found

    async def _ask(self, verb: str, body: dict[str, Any]) -> Any:
        while True:
            transaction = uuid.uuid4().hex
            answer = self._answers[transaction] = self._loop.create_future()
            self._publish(verb, {**body, "transaction": transaction})
            try:
                async with asyncio.timeout(PAGE_S):
                    return (await answer)["data"]
            except TimeoutError:
                continue
            finally:
                del self._answers[transaction]

    def _publish(self, verb: str, body: dict[str, Any]) -> int:
        """Publish a request; returns its packet id."""
        if self._paho is None:  # away: what is not published now is later, or never
            return 0
        topic = f"{BASE}/client/{self.name}/request/{verb}"
        return self._paho.publish(topic, json.dumps(body), 1).mid

    # What comes, in paho's thread.

    def _on_connect(self, client: paho.Client, *_: Any) -> None:
        tree = f"{BASE}/client/{self.name}"
        self._in_loop(self._resume)
        client.subscribe(
            [(f"{tree}/response/#", 1), (f"{tree}/job/+/result", 1), (f"{tree}/set/+/result", 1)]
        )

    def _on_message(self, _client: paho.Client, _data: Any, got: paho.MQTTMessage) -> None:
        self._in_loop(lambda: self._take(got.topic.split("/")[3:], bytes(got.payload)))

    def _on_publish(self, _client: paho.Client, _data: Any, packet: int, *_: Any) -> None:
        self._in_loop(lambda: self._acknowledged(packet))

    def _acknowledged(self, packet: int) -> None:
        tag = self._unacknowledged.pop(packet, None)
        if tag is not None:
            self.sent.add(tag)

    def _resume(self) -> None:
        self._resumes = True
        self.sent_again.update(self._unacknowledged.values())

    def _in_loop(self, call: Callable[[], object]) -> None:
        self._loop.call_soon_threadsafe(call)

    def _take(self, levels: list[str], payload: bytes) -> None:
        self._came.set()
        match levels:
            case ["job", job_id, "result"]:
                self.copies[job_id].append(payload)
                if not self._resumes:
                    self._n = max(self._n, json.loads(payload)["n"])
            case ["set", set_id, "result"]:
                self.set_copies[set_id].append(payload)
            case ["response", verb]:
                answer = json.loads(payload)
                waiting = self._answers.get(str(answer.get("transaction")))
                if waiting is not None and not waiting.done() and answer["status"] == "ok":
                    waiting.set_result(answer)
                elif verb == "run" and answer["status"] == "ok":
                    self.accepted.add(answer["data"]["job_id"])
                elif verb == "submit" and answer["status"] == "ok":
                    self.accepted.update(self.sets[answer["data"]["set_id"]])
                elif verb in ("run", "submit"):
                    self.refused.append(answer["error"])
