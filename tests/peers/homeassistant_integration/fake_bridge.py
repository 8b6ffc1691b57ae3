"""A bridge behind Home Assistant's MQTT client, for what the real one does not do when asked.

It answers requests as the contract says, and can be made to be silent, to refuse, or to give the
wrong bytes. Everything is by topics and payloads: the integration does not know of it.
"""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any
from unittest.mock import MagicMock

from homeassistant.core import HomeAssistant
from paho.mqtt.client import topic_matches_sub
from pytest_homeassistant_custom_component.common import async_fire_mqtt_message

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)

DEMO: dict[str, Any] = {
    "name": "demo",
    "title": "Demo",
    "description": "Paints what it is asked for.",
    "version": "1",
    "inputs": {
        "type": "object",
        "properties": {
            "prompt": {"x-kind": "text", "type": "string", "title": "Prompt", "default": "a barn"},
            "steps": {"x-kind": "integer", "minimum": 1, "maximum": 50, "default": 20},
            "style": {"x-kind": "choice", "x-choices": "styles"},
            "3.cfg": {"x-kind": "float", "x-place": "KSampler"},
        },
    },
    "outputs": [{"name": "picture", "kind": "image", "node": "9"}],
    "runnable": True,
}
PHOTO: dict[str, Any] = {
    "name": "photo",
    "title": "Photo",
    "version": "1",
    "inputs": {
        "properties": {
            "prompt": {"x-kind": "text"},
            "mask": {"x-kind": "mask", "contentMediaType": "image/*"},
            "image": {"x-kind": "image", "contentMediaType": "image/*"},
        },
        "required": ["image"],
    },
    "outputs": [{"name": "picture", "kind": "image", "node": "9"}],
}
CAPTION: dict[str, Any] = {
    "name": "caption",
    "title": "Caption",
    "version": "1",
    "inputs": {"properties": {"image": {"x-kind": "image"}}},
    "outputs": [{"name": "text", "kind": "text", "node": "9"}],
}
INFO: dict[str, Any] = {
    "name": "The bridge",
    "version": "0.1.0",
    "contract": 1,
    "limits": {"max_inline_input": 1_000_000, "max_upload": 4_000_000, "max_packet": 1_000_000},
    "features": ["run", "submit"],
    "isolation": "none",
}


class FakeBridge:
    """The bridge: its retained messages, its answers, and the jobs that it was given."""

    def __init__(self, hass: HomeAssistant, paho: MagicMock, base: str = "comfy2mqtt") -> None:
        self.hass = hass
        self.base = base
        self.client = "homeassistant"
        self.requests: list[tuple[str, Any]] = []
        self.workflows: dict[str, dict[str, Any]] = {
            each["name"]: each for each in (DEMO, PHOTO, CAPTION)
        }
        self.info = dict(INFO)
        self.outcome: dict[str, Any] = {"state": "succeeded"}
        self.outputs: list[tuple[str, str, bytes]] = [("image", "image/png", PNG)]
        self.jobs: list[dict[str, Any]] = []
        # Jobs whose results the broker did not take.
        self.not_taken: set[str] = set()
        self.errors: dict[str, dict[str, Any]] = {}
        # Verbs that are not answered, and how often.
        self.silent: dict[str, int] = {}
        # Whether a job ends once it is accepted.
        self.ends = True
        self.damages = False
        # What it answers instead, where that is something: of a job, a list, and an output.
        self.status: Any = None
        self.page: Any = None
        self.part: Any = None
        self.uploads: dict[str, bytearray] = {}
        self._paho = paho
        self._retained: dict[str, str | bytes] = {}
        self._inner = paho.publish.side_effect
        paho.publish.side_effect = self._published
        paho.subscribe.side_effect = self._subscribed(paho.subscribe.side_effect)

    # What it publishes.

    def fire(self, topic: str, payload: Any, *, retain: bool = False) -> None:
        if not isinstance(payload, bytes | str):
            payload = json.dumps(payload)
        topic = f"{self.base}/{topic}"
        if retain:
            self._retained[topic] = payload
        # To who has subscribed already it comes without the flag.
        async_fire_mqtt_message(self.hass, topic, payload, 1)

    def come(self) -> None:
        """Publish what the broker has retained of a bridge that is online."""
        for name, definition in self.workflows.items():
            self.fire(f"workflow/{name}", definition, retain=True)
        styles = {"name": "styles", "choices": ["oil", "ink"]}
        self.fire("bridge/choices/styles", styles, retain=True)
        state = {"state": "ready", "since": 1, "restarts": 0}
        self.fire("bridge/comfyui/default", state, retain=True)
        self.fire("bridge/info", self.info, retain=True)
        self.fire("bridge/state", "online", retain=True)

    def announce(self, workflow: str) -> None:
        """Announce a workflow by discovery, as with `homeassistant = true`."""
        device = f"{self.base}-workflow-{workflow}"
        button = {
            "platform": "button",
            "name": "Run",
            "unique_id": f"{device}-run",
            "command_topic": f"{self.base}/homeassistant/{workflow}/run",
        }
        announcement = {
            "device": {
                "identifiers": [device],
                "name": self.workflows[workflow]["title"],
                "via_device": f"{self.base}-bridge",
            },
            "origin": {"name": "comfy2mqtt"},
            "components": {"run": button},
        }
        topic = f"homeassistant/device/{device}/config"
        async_fire_mqtt_message(self.hass, topic, json.dumps(announcement), 1, True)

    def withdraw(self, workflow: str) -> None:
        """Clear what `announce` has announced, as with `homeassistant = false`."""
        topic = f"homeassistant/device/{self.base}-workflow-{workflow}/config"
        # To who has subscribed already it comes without the flag of what is retained.
        async_fire_mqtt_message(self.hass, topic, "", 1)

    def leave(self) -> None:
        self.fire("bridge/state", "offline", retain=True)

    def end(self, job_id: str, **fields: Any) -> dict[str, Any]:
        """Publish the result of a job."""
        result = self.result(job_id, **fields)
        self.fire(f"client/{self.client}/job/{job_id}/result", result)
        return result

    def result(self, job_id: str, workflow: str = "demo", **fields: Any) -> dict[str, Any]:
        """Make the result of a job, and list it from now on."""
        n = int(fields.get("n", 2 * len(self.jobs) + 1))
        outputs = [
            {
                "index": index,
                "name": f"output{index}",
                "kind": kind,
                "content_type": content_type,
                "size": len(data),
                "sha256": hashlib.sha256(data).hexdigest(),
            }
            for index, (kind, content_type, data) in enumerate(self.outputs)
        ]
        found = {"job_id": job_id, "workflow": workflow, "n": n, "inputs": {"prompt": "a barn"}}
        found |= {"outputs": outputs, **self.outcome, **fields}
        if found["state"] != "succeeded":
            found["outputs"] = []
        job = {"job_id": job_id, "workflow": workflow, "n": n, "state": found["state"]}
        self.jobs.append({**job, "accepted_at": 1.0, "attempt": 1, "acked": False, "result": found})
        return found

    def renumber(self, job_id: str) -> None:
        """List a result under a new number: it came late, or the broker did not take it."""
        (job,) = self._known({"job_id": job_id})
        job["n"] = max(each["n"] for each in self.jobs) + 1
        self.jobs.sort(key=lambda each: int(each["n"]))

    # What it is asked.

    def asked(self, verb: str) -> list[Any]:
        """Return the payloads of the requests with a verb."""
        return [payload for found, payload in self.requests if found.split("/")[0] == verb]

    def _subscribed(self, inner: Any) -> Any:
        def subscribe(topics: Any, *args: Any, **kwargs: Any) -> Any:
            for each, *_ in topics if isinstance(topics, list) else [(topics,)]:
                for topic, payload in self._retained.items():
                    if payload and topic_matches_sub(each, topic):
                        self.hass.loop.call_soon(
                            async_fire_mqtt_message, self.hass, topic, payload, 1, True
                        )
            return inner(topics, *args, **kwargs)

        return subscribe

    def _published(self, topic: str, payload: Any, *args: Any, **kwargs: Any) -> Any:
        order = f"{self.base}/bridge/request/"
        if topic.startswith(order):
            self.hass.loop.call_soon(self._obey, topic.removeprefix(order), json.loads(payload))
            return self._inner(f"{topic}/seen", b"", *args, **kwargs)
        prefix = f"{self.base}/client/{self.client}/request/"
        if not topic.startswith(prefix):
            return self._inner(topic, payload, *args, **kwargs)
        verb = topic.removeprefix(prefix)
        data = payload if isinstance(payload, bytes) else json.loads(payload)
        self.requests.append((verb, data))
        self.hass.loop.call_soon(self._answer, verb, data)
        return self._inner(f"{topic}/seen", b"", *args, **kwargs)

    def _obey(self, verb: str, data: Any) -> None:
        """Answer an operator's command, unless this bridge takes none of Home Assistant's."""
        self.requests.append((verb, data))
        if verb in self.silent:
            return
        answer: dict[str, Any] = {"status": "ok", "data": {"instances": {}}}
        if verb in self.errors:
            answer = {"status": "error", "error": self.errors[verb]}
        self.fire(f"bridge/response/{verb}", {**answer, "transaction": data["transaction"]})

    def _answer(self, whole: str, data: Any) -> None:
        verb = whole.split("/", maxsplit=1)[0]
        transaction = data.get("transaction") if isinstance(data, dict) else None
        if self.silent.get(verb, 0) > 0:
            self.silent[verb] -= 1
            return
        if verb in self.errors:
            answer: dict[str, Any] = {"status": "error", "error": self.errors[verb]}
        elif verb == "status" and self.status is None and not self._known(data):
            error = {"code": "unknown_job", "message": f"no job {data['job_id']}"}
            answer = {"status": "error", "error": error}
        else:
            answer = {"status": "ok", "data": getattr(self, f"_{verb}")(whole, data)}
        if transaction is not None:
            answer["transaction"] = transaction
        self.fire(f"client/{self.client}/response/{verb}", answer)
        if verb == "submit" and self.ends and verb not in self.errors:
            self.hass.loop.call_soon(lambda: self.end(data["job_id"], workflow=data["workflow"]))

    def _submit(self, _: str, data: Any) -> Any:
        return {"job_id": data["job_id"], "workflow": data["workflow"], "state": "queued"}

    def _cancel(self, _: str, data: Any) -> Any:
        return {"job_id": data["job_id"], "state": "running", "cancelling": True}

    def _ack(self, _: str, data: Any) -> Any:
        up_to = data["up_to"]
        for job in self.jobs:
            is_taken = job["job_id"] not in self.not_taken
            job["acked"] |= job["n"] == up_to or (is_taken and job["n"] < up_to)
        return {"acked": 1}

    def _list(self, _: str, data: Any) -> Any:
        if self.page is not None:
            return self.page
        after = data.get("after", 0)
        if after and not data.get("peek"):
            self._ack("", {"up_to": after})
            left = [each for each in self.jobs if each["n"] <= after and not each["acked"]]
            for each in left:
                self.renumber(each["job_id"])
        found = [
            job
            for job in self.jobs
            if job["n"] > data.get("after", 0)
            and job["state"] in data.get("states", [job["state"]])
            and job["workflow"] == data.get("workflow", job["workflow"])
        ]
        # Small pages, so that paging is seen.
        page = found[: min(2, data.get("limit", 2))]
        return {"jobs": page, "more": len(found) > len(page)}

    def _status(self, _: str, data: Any) -> Any:
        return self._known(data)[0] if self.status is None else self.status

    def _known(self, data: Any) -> list[dict[str, Any]]:
        return [job for job in self.jobs if job["job_id"] == data["job_id"]]

    def _fetch(self, _: str, data: Any) -> Any:
        if self.part is not None:
            return self.part
        content_type, whole = self.outputs[data["output"]][1:]
        if "width" in data:
            content_type, whole = "image/webp", b"RIFF"
        half = max(1, len(whole) // 2)
        offset = data["offset"]
        part = whole[offset : offset + half]
        if self.damages:
            part = b"x" * len(part)
        answer = {
            "job_id": data["job_id"],
            "output": data["output"],
            "offset": offset,
            "count": len(part),
            "size": len(whole),
            "content_type": content_type,
            "base64": base64.b64encode(part).decode(),
        }
        return {**answer, "next": offset + half} if offset + half < len(whole) else answer

    def _upload(self, whole: str, data: Any) -> Any:
        _, name, *rest = whole.split("/")
        held = self.uploads.setdefault(name, bytearray())
        if rest and rest[0] != "fin" and int(rest[0]) == len(held):
            held += data
        return {"upload": name, "held": len(held), "complete": rest == ["fin"]}
