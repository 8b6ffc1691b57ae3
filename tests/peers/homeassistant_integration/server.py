"""A whole Home Assistant as its own process, with the integration, and somebody signed in to it.

It runs in its environment, and is asked from outside of that, by HTTP, its WebSocket and a browser.
"""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from playwright.async_api import Page

from tests.peers.homeassistant_integration import environment
from tests.peers.homeassistant_integration.environment import Place
from tests.support.patience import PATIENCE_S

# Its first start compiles much.
START_S = 120.0
LOOK_S = 0.2
DASHBOARD = "comfy-ui"

CONFIGURATION = """\
homeassistant:
  name: Home
  media_dirs: {{local: {folder}/media}}
http: {{server_host: 127.0.0.1, server_port: {port}}}
config:
frontend:
media_source:
automation: !include automations.yaml
lovelace:
  dashboards:
    {dashboard}: {{mode: yaml, title: ComfyUI, filename: card.yaml, show_in_sidebar: true}}
"""


# Libraries for voices have to be compiled; the frontend wants all actions, and so imports them.
VOICES = {"pymicro_vad": "MicroVad", "pyspeex_noise": "AudioProcessor"}


class Server:
    """Home Assistant at an address, which may end and start again, and who is signed in there."""

    def __init__(self, command: Sequence[str], port: int, log: Path) -> None:
        self.address = f"http://127.0.0.1:{port}"
        self._command = command
        self._log = log
        self._process: asyncio.subprocess.Process | None = None
        self._tokens: dict[str, Any] = {}

    # Its life.

    async def start(self) -> None:
        """Start it, and wait until everything in it has started."""
        with self._log.open("ab") as written:
            process = self._process = await asyncio.create_subprocess_exec(
                *self._command,
                env=environment.environment(),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=written,
                stderr=written,
            )
        async with asyncio.timeout(START_S):
            while not await self._has_started():
                assert process.returncode is None, "Home Assistant has ended"
                # No event says that it listens.
                await asyncio.sleep(LOOK_S)

    async def _has_started(self) -> bool:
        try:
            if not self._tokens:
                await self.ask("GET", "/api/onboarding")
                return True
            return bool((await self.ask("GET", "/api/config"))["state"] == "RUNNING")
        except (aiohttp.ClientError, AssertionError):
            return False

    async def stop(self) -> None:
        """End it as its users do."""
        await self._end(signal.SIGTERM)

    async def kill(self) -> None:
        """End it as a power cut would."""
        await self._end(signal.SIGKILL)

    async def _end(self, number: int) -> None:
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            process.send_signal(number)
            await process.wait()

    # Who is signed in, and asks.

    async def body(self, method: str, path: str, *, signed_in: bool = True, **more: Any) -> bytes:
        """Return the body of an answer, also as it is given to who is not `signed_in`."""
        token = self._tokens.get("access_token") if signed_in else None
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, f"{self.address}{path}", headers=headers, **more) as answer,
        ):
            assert answer.ok, (path, answer.status, await answer.text())
            return await answer.read()

    async def ask(self, method: str, path: str, **more: Any) -> Any:
        """Return the JSON of an answer."""
        return json.loads(await self.body(method, path, **more))

    @asynccontextmanager
    async def _socket(self) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"{self.address}/api/websocket", max_msg_size=0) as socket,
        ):
            assert (await socket.receive_json())["type"] == "auth_required"
            await socket.send_json({"type": "auth", "access_token": self._tokens["access_token"]})
            assert (await socket.receive_json())["type"] == "auth_ok"
            yield socket

    async def command(self, kind: str, **fields: Any) -> Any:
        """Return the result of a command of its WebSocket."""
        async with self._socket() as socket:
            await socket.send_json({"id": 1, "type": kind, **fields})
            while (found := await socket.receive_json())["type"] != "result":
                pass
        assert found["success"], found
        return found["result"]

    @asynccontextmanager
    async def events(self, kind: str) -> AsyncIterator[Callable[[], Awaitable[Any]]]:
        """Yield what waits for the data of the next event on its bus."""
        async with self._socket() as socket:
            await socket.send_json({"id": 1, "type": "subscribe_events", "event_type": kind})
            assert (await socket.receive_json())["success"]

            async def following() -> Any:
                return (await socket.receive_json())["event"]["data"]

            yield following

    async def call(self, action: str, **data: Any) -> Any:
        """Call an action; it ends when the action has."""
        return await self.ask("POST", f"/api/services/{action.replace('.', '/')}", json=data)

    async def response(self, action: str, **data: Any) -> Any:
        """Call an action, and return its response."""
        path = f"/api/services/{action.replace('.', '/')}?return_response"
        return (await self.ask("POST", path, json=data))["service_response"]

    async def sign_in(self) -> None:
        """Be its first user, as its own first pages make one."""
        who = {"client_id": f"{self.address}/"}
        person = {"name": "Anna", "username": "anna", "password": "of a test", "language": "en"}
        made = await self.ask("POST", "/api/onboarding/users", json={**who, **person})
        code = {"grant_type": "authorization_code", "code": made["auth_code"]}
        self._tokens = await self.ask("POST", "/auth/token", data={**who, **code})
        for step in ("core_config", "analytics"):
            await self.ask("POST", f"/api/onboarding/{step}", json={})
        done = {**who, "redirect_uri": f"{self.address}/"}
        await self.ask("POST", "/api/onboarding/integration", json=done)

    async def flow(self, handler: str, *answers: Mapping[str, Any]) -> Any:
        """Set an integration up by its forms."""
        return await self._answered("/api/config/config_entries/flow", handler, answers)

    async def _answered(
        self, flows: str, handler: Any, answers: Iterable[Mapping[str, Any]]
    ) -> Any:
        found = await self.ask("POST", flows, json={"handler": handler})
        for answer in answers:
            found = await self.ask("POST", f"{flows}/{found['flow_id']}", json=answer)
        assert found["type"] == "create_entry", found
        return found

    async def entry(self) -> str:
        """Return the id of the one bridge that is set up."""
        (entry,) = await self.ask("GET", "/api/config/config_entries/entry?domain=comfy2mqtt")
        return str(entry["entry_id"])

    async def add_task(self, workflow: str, name: str) -> None:
        """Add a workflow as an AI task, and wait until it is there."""
        flows = "/api/config/config_entries/subentries/flow"
        answers = ({"workflow": workflow}, {"name": name})
        await self._answered(flows, [await self.entry(), "ai_task"], answers)

        async def is_there() -> bool:
            return any(
                each["entity_id"].startswith("ai_task.")
                and each["attributes"]["friendly_name"].endswith(name)
                for each in await self.ask("GET", "/api/states")
            )

        await self.until(is_there)

    async def automate(self, alias: str, **config: Any) -> None:
        """Add an automation, as the editor does, and wait until it is on."""
        path = f"/api/config/automation/config/{alias}"
        await self.ask("POST", path, json={"alias": alias, "mode": "queued", **config})
        await self.until_state(f"automation.{alias}", "on")

    async def state(self, entity: str) -> Any:
        """Return an entity as it is now; None if there is none."""
        found = await self.ask("GET", "/api/states")
        return next((each for each in found if each["entity_id"] == entity), None)

    async def entities(self) -> dict[str, Any]:
        """Return the integration's entities by their unique ids, without the base topic."""
        found = await self.command("config/entity_registry/list")
        return {
            each["unique_id"].removeprefix("comfy2mqtt-"): each
            for each in found
            if each["platform"] == "comfy2mqtt"
        }

    async def until(self, wanted: Any) -> Any:
        """Wait until something that is looked for by HTTP is there."""
        async with asyncio.timeout(PATIENCE_S):
            while not (found := await wanted()):
                await asyncio.sleep(LOOK_S)
        return found

    async def until_state(self, entity: str, state: str) -> Any:
        """Wait until an entity is in a state."""

        async def is_it() -> Any:
            found = await self.state(entity)
            return found if found is not None and found["state"] == state else None

        return await self.until(is_it)

    async def device(self, entity: str) -> str:
        """Return the id of an entity's device."""
        template = {"template": f"{{{{ device_id('{entity}') }}}}"}
        return (await self.body("POST", "/api/template", json=template)).decode()

    async def enter(self, page: Page, path: str) -> None:
        """Open a page of it in a browser that is signed in then; once for a server."""
        kept = {
            **self._tokens,
            "hassUrl": self.address,
            "clientId": f"{self.address}/",
            "expires": int(time.time() + self._tokens["expires_in"]) * 1000,
        }
        text = json.dumps(json.dumps(kept))
        await page.add_init_script(f"localStorage.setItem('hassTokens', {text})")
        await page.goto(f"{self.address}{path}")
        # It asks whether the port that it was given is meant.
        confirm = page.get_by_role("button", name="Confirm")
        await confirm.click()
        await confirm.wait_for(state="hidden")


async def set_up(server: Server, broker: int, *, discovery: bool = True) -> None:
    """Set up MQTT at a broker's port, and a bridge; `discovery`: it announces devices."""
    # What the form has folded, as it is there.
    others = {"set_client_cert": False, "set_ca_cert": "off"}
    await server.flow("mqtt", {"broker": "127.0.0.1", "port": broker, "other_settings": others})
    # Discovery's devices are there before the integration is added to them.
    if discovery:
        await server.until(lambda: server.state("button.comfy2mqtt_demo_run"))
    await server.flow("comfy2mqtt", {"base": "comfy2mqtt", "client": "homeassistant"})


@asynccontextmanager
async def serving(
    place: Place, folder: Path, log: Path, card: str = "views: []\n", configuration: str = ""
) -> AsyncIterator[Server]:
    """Run Home Assistant on a copy of our sources; its dashboard is `card`, YAML."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    inside = place.inside(folder)
    text = CONFIGURATION.format(port=port, folder=inside, dashboard=DASHBOARD)
    (folder / "configuration.yaml").write_text(text + configuration)
    (folder / "automations.yaml").write_text("[]\n")
    (folder / "card.yaml").write_text(card)
    (folder / "media").mkdir()
    for module, name in VOICES.items():
        (folder / f"{module}.py").write_text(f"{name} = object\n")
    command = place.command(folder, place.python, "-m", "homeassistant", "-c", ".", "--skip-pip")
    server = Server(command, port, log)
    try:
        await server.start()
        await server.sign_in()
        yield server
    except BaseException as error:
        error.add_note((await asyncio.to_thread(log.read_text, errors="replace"))[-6000:])
        raise
    finally:
        await server.stop()
