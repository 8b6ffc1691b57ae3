"""A whole Home Assistant as its own process, with the integration, and somebody signed in to it.

It runs in its environment, and is asked from outside of that, by HTTP and by a browser.
"""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Mapping
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
automation:
lovelace:
  dashboards:
    {dashboard}: {{mode: yaml, title: ComfyUI, filename: card.yaml, show_in_sidebar: true}}
"""


# Libraries for voices have to be compiled; the frontend wants all actions, and so imports them.
VOICES = {"pymicro_vad": "MicroVad", "pyspeex_noise": "AudioProcessor"}


class Server:
    """Home Assistant at an address, and who is signed in there."""

    def __init__(self, address: str, session: aiohttp.ClientSession) -> None:
        self.address = address
        self._session = session
        self._tokens: dict[str, Any] = {}

    async def ask(self, method: str, path: str, **more: Any) -> Any:
        """Return the JSON of an answer."""
        return json.loads(await self.text(method, path, **more))

    async def text(self, method: str, path: str, **more: Any) -> str:
        """Return the text of an answer."""
        token = self._tokens.get("access_token")
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        url = f"{self.address}{path}"
        async with self._session.request(method, url, headers=headers, **more) as answer:
            assert answer.ok, (path, answer.status, await answer.text())
            return await answer.text()

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
        flows = "/api/config/config_entries/flow"
        found = await self.ask("POST", flows, json={"handler": handler})
        for answer in answers:
            found = await self.ask("POST", f"{flows}/{found['flow_id']}", json=answer)
        assert found["type"] == "create_entry", found
        return found

    async def state(self, entity: str) -> Any:
        """Return an entity as it is now; None if there is none."""
        found = await self.ask("GET", "/api/states")
        return next((each for each in found if each["entity_id"] == entity), None)

    async def until(self, wanted: Any) -> Any:
        """Wait until something that is looked for by HTTP is there."""
        async with asyncio.timeout(PATIENCE_S):
            while not (found := await wanted()):
                await asyncio.sleep(LOOK_S)
        return found

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
async def serving(place: Place, folder: Path, log: Path, card: str) -> AsyncIterator[Server]:
    """Run Home Assistant on a copy of our sources; its dashboard is `card`, YAML."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    inside = place.inside(folder)
    text = CONFIGURATION.format(port=port, folder=inside, dashboard=DASHBOARD)
    (folder / "configuration.yaml").write_text(text)
    (folder / "card.yaml").write_text(card)
    (folder / "media").mkdir()
    for module, name in VOICES.items():
        (folder / f"{module}.py").write_text(f"{name} = object\n")
    with log.open("wb") as written:
        process = await asyncio.create_subprocess_exec(
            *place.command(folder, place.python, "-m", "homeassistant", "-c", ".", "--skip-pip"),
            env=environment.environment(),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=written,
            stderr=written,
        )
    try:
        async with aiohttp.ClientSession() as session:
            server = Server(f"http://127.0.0.1:{port}", session)
            await _answers(process, server)
            await server.sign_in()
            yield server
    except BaseException as error:
        error.add_note((await asyncio.to_thread(log.read_text, errors="replace"))[-6000:])
        raise
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _answers(process: asyncio.subprocess.Process, server: Server) -> None:
    async with asyncio.timeout(START_S):
        while True:
            assert process.returncode is None, "Home Assistant has ended"
            try:
                await server.ask("GET", "/api/onboarding")
            except (aiohttp.ClientError, AssertionError):
                # No event says that it listens.
                await asyncio.sleep(LOOK_S)
            else:
                return
