"""A real ComfyUI with our nodes and the faults on its path, and a plain client of it.

Nothing of the bridge is used here: the nodes have to be right for whoever speaks their protocol.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import signal
import socket
import struct
import subprocess
import threading
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import aiohttp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

ROOT = Path(__file__).parents[2]
SECRET = "not to be guessed"  # noqa: S105 - of a server that lives for one test run
OUTPUT_BYTES = 400_000
MEDIA_BYTES = 200_000

OUTPUT_EVENT = 0x43324D51
PREVIEW_WITH_METADATA_EVENT = 4

_STARTED = "To see the GUI go to"
_START_TIMEOUT_S = 120
_STOP_TIMEOUT_S = 20
_RUN_TIMEOUT_S = 60

Graph = dict[str, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Place:
    """The folder of a ComfyUI, and the interpreter that runs it."""

    path: Path
    python: Path


class Server:
    """A ComfyUI process, with folders of its own below `home`."""

    def __init__(self, place: Place, home: Path) -> None:
        self._place, self._home = place, home
        self.port = _free_port()
        self._started = threading.Event()
        self._log: list[str] = []

    def __enter__(self) -> Self:
        paths = {
            "custom_nodes": f"{ROOT}/custom_nodes\n{ROOT}/tests/support/fault_nodes",
            "checkpoints": str(self._home / "checkpoints"),
        }
        config = self._home / "paths.json"  # JSON is YAML
        config.write_text(json.dumps({"tests": paths}), encoding="utf-8")
        command = [str(self._place.python), "main.py", "--cpu", "--port", str(self.port)]
        command += ["--extra-model-paths-config", str(config)]
        for kind in ("output", "input", "temp", "user"):
            (self._home / kind).mkdir()
            command += [f"--{kind}-directory", str(self._home / kind)]
        environ = {
            **os.environ,
            # Torch's threads spin while they wait: on two busy cores sampling took 13 s, so 2 s.
            "OMP_WAIT_POLICY": "PASSIVE",
            "COMFY2MQTT_SECRET": SECRET,
            "COMFY2MQTT_OUTPUT_BYTES": str(OUTPUT_BYTES),
            "COMFY2MQTT_MEDIA_BYTES": str(MEDIA_BYTES),
        }
        self._process = subprocess.Popen(
            [*command, "--preview-method", "latent2rgb"],
            cwd=self._place.path,
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if not self._started.wait(_START_TIMEOUT_S) or self._process.poll() is not None:
            self._stop()
            raise RuntimeError("ComfyUI did not start:\n" + "".join(self._log))
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stop()

    @property
    def pid(self) -> int:
        """Of the process, which leads its group."""
        return self._process.pid

    @property
    def temporary(self) -> Path:
        """Its folder for what is temporary."""
        return self._home / "temp"

    def log(self) -> str:
        """The text that it has printed so far."""
        return "".join(self._log)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._log.append(line)
            if _STARTED in line:
                self._started.set()
        # Its output ends with it: whoever waits for the start need not wait longer.
        self._started.set()

    def _stop(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGTERM)
        try:
            self._process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._reader.join(_STOP_TIMEOUT_S)
        assert self._process.stdout is not None
        self._process.stdout.close()


@dataclass(frozen=True, slots=True)
class Output:
    """An output frame: its header and the encoded bytes."""

    header: dict[str, Any]
    data: bytes


@dataclass(slots=True)
class Run:
    """Everything that the socket said of one prompt, in order."""

    prompt_id: str
    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    outputs: list[Output] = field(default_factory=list)
    previews: list[tuple[dict[str, Any], bytes]] = field(default_factory=list)
    order: list[str] = field(default_factory=list)

    def of(self, kind: str) -> list[dict[str, Any]]:
        """The data of all events of one type."""
        return [data for name, data in self.events if name == kind]

    @property
    def error(self) -> dict[str, Any]:
        """The one execution error."""
        (error,) = self.of("execution_error")
        return error

    @property
    def succeeded(self) -> bool:
        return bool(self.of("execution_success"))

    def ui(self, node: str) -> dict[str, Any]:
        """An output node's report."""
        (output,) = [data["output"] for data in self.of("executed") if data["node"] == node]
        return dict(output)


class Refused(Exception):
    """ComfyUI did not take the prompt."""

    def __init__(self, answer: dict[str, Any]) -> None:
        super().__init__(json.dumps(answer))
        self.answer = answer

    def messages(self, node: str, name: str) -> list[str]:
        """ComfyUI's complaint about one input of a node."""
        errors = self.answer["node_errors"][node]["errors"]
        return [e["details"] for e in errors if e["extra_info"]["input_name"] == name]


class ComfyUI:
    """A client with one socket. `http` sends the secret with every request."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.client_id = uuid.uuid4().hex
        base = f"http://127.0.0.1:{server.port}"
        self.http = aiohttp.ClientSession(base, headers={"X-Comfy2MQTT-Secret": SECRET})
        self._base = base

    async def __aenter__(self) -> Self:
        self._socket = await self.http.ws_connect(f"/ws?clientId={self.client_id}", max_msg_size=0)
        features = {"type": "feature_flags", "data": {"supports_preview_metadata": True}}
        await self._socket.send_json(features)
        return self

    async def __aexit__(self, *_exception: object) -> None:
        await self._socket.close()
        await self.http.close()

    def stranger(self, headers: Mapping[str, str] | None = None) -> aiohttp.ClientSession:
        """A session without the secret."""
        return aiohttp.ClientSession(self._base, headers=headers)

    async def submit(self, graph: Graph, **extra: object) -> str:
        """Queue a prompt for this client's socket; its id. Raises Refused."""
        body = {"prompt": graph, "client_id": self.client_id, **extra}
        async with self.http.post("/prompt", json=body) as response:
            answer = await response.json()
        if response.status != 200 or answer["node_errors"]:
            raise Refused(answer)
        return str(answer["prompt_id"])

    async def run(self, graph: Graph, **extra: object) -> Run:
        """Run a prompt to its end."""
        return await self.follow(await self.submit(graph, **extra))

    async def follow(self, prompt_id: str, until: str | None = None) -> Run:
        """Collect what comes until the prompt ends, or the first event of the type `until`."""
        run = Run(prompt_id)
        async with asyncio.timeout(_RUN_TIMEOUT_S):
            async for name, data in self.messages():
                _collect(run, name, data)
                if name == until or _ends(name, data, prompt_id):
                    return run
        raise ConnectionError("ComfyUI closed the socket")

    async def messages(self) -> AsyncIterator[tuple[str, Any]]:
        """The socket's messages: (type, data), or (type in hex, payload) of binary ones."""
        async for message in self._socket:
            if message.type is aiohttp.WSMsgType.BINARY:
                (kind,) = struct.unpack_from(">I", message.data)
                yield f"{kind:x}", message.data[4:]
            else:
                event = json.loads(message.data)
                yield event["type"], event["data"]

    async def put_media(self, data: bytes, content_type: str = "image/png") -> str:
        """Hand media over; its hash."""
        name = hashlib.sha256(data).hexdigest()
        url, headers = f"/comfy2mqtt/media/{name}", {"Content-Type": content_type}
        async with self.http.put(url, data=data, headers=headers) as response:
            assert response.status in {200, 201}, await response.text()
        return name

    async def held(self, run: Run) -> list[dict[str, Any]]:
        """The headers that are held of a prompt."""
        async with self.http.get(f"/comfy2mqtt/outputs/{run.prompt_id}") as response:
            assert response.status == 200
            return list(await response.json())

    async def confirm(self, prompt_id: str) -> None:
        async with self.http.delete(f"/comfy2mqtt/outputs/{prompt_id}") as response:
            assert response.status == 204


def split_header(payload: bytes) -> tuple[dict[str, Any], bytes]:
    """A length, JSON of that length, and the rest: output frames and previews alike."""
    (size,) = struct.unpack_from(">I", payload)
    return json.loads(payload[4 : 4 + size]), payload[4 + size :]


def _collect(run: Run, name: str, data: Any) -> None:
    run.order.append(name)
    if name == f"{OUTPUT_EVENT:x}":
        run.outputs.append(Output(*split_header(data)))
    elif name == f"{PREVIEW_WITH_METADATA_EVENT:x}":
        run.previews.append(split_header(data))
    elif isinstance(data, dict):
        run.events.append((name, data))


def _ends(name: str, data: Any, prompt_id: str) -> bool:
    # Not on execution_success: history is written after it, and before this.
    return name == "executing" and data["node"] is None and data.get("prompt_id") == prompt_id


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
