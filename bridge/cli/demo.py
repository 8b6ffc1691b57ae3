"""`comfy2mqtt demo`: a broker, a bridge, a ComfyUI and one picture, if there are none yet."""

from __future__ import annotations

import asyncio
import shlex
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import click
import msgspec
from msgspec import UNSET

from bridge.adapters.web.adapter import WebAdapter
from bridge.adapters.web.keyring import Keyring
from bridge.aio import first
from bridge.cli.destination import destination_of
from bridge.cli.shared import FAILED, stop
from bridge.client import Client
from bridge.comfyui import install
from bridge.comfyui.settings import SuperviseConfig
from bridge.config import Config
from bridge.contract.errors import UnknownWorkflow
from bridge.mosquitto import HOST, Mosquitto, MosquittoError
from bridge.mqtt import Address
from bridge.service import Bridge
from bridge.service.instances import ON_LINUX

WORKFLOW = "demo"
# The client of the lines to paste too: what they make is in the gallery of the page.
CLIENT = "me"
NO_MODEL = (
    "(A procedure paints the demo's pictures, not an AI model; it knows about a hundred words.)"
)
PROMPT = "sunset over a calm sea, a sailing boat"
# On a busy machine with a cold disk, importing torch alone takes its time.
START_TIMEOUT_S = 300.0
_ASK_EVERY_S = 0.5


def command_name() -> str:
    """Return how this program is called as it can be typed here."""
    program = Path(sys.executable).with_name("comfy2mqtt")
    found = shutil.which("comfy2mqtt")
    if found is not None and Path(found).samefile(program):
        return "comfy2mqtt"
    if not program.exists():
        return f"{shlex.quote(sys.executable)} -m bridge"
    try:
        here = program.relative_to(Path.cwd())
        return shlex.quote(str(here) if len(here.parts) > 1 else f"./{here}")
    except ValueError:
        return shlex.quote(str(program))


async def demo(workflows: Path, folder: Path, *, once: bool) -> int:
    """Run the demo; returns the exit status. Without `once` it runs until Ctrl-C."""
    if not (workflows / f"{WORKFLOW}.json").is_file():
        stop(f"{workflows}: expected the folder with {WORKFLOW}.json (--workflows)", FAILED)
    # Before anything is installed, which takes minutes; the command below looks again.
    destination_of(str(folder)).check()
    if not ON_LINUX:
        stop(install.ELSEWHERE, FAILED)
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    showing = asyncio.create_task(_show(workflows, folder, stopping, once=once))
    interrupt = asyncio.create_task(stopping.wait())
    await asyncio.wait((showing, interrupt), return_when=asyncio.FIRST_COMPLETED)
    interrupt.cancel()
    if not showing.done():
        click.echo("Stopping.")
        showing.cancel()
        await asyncio.wait((showing,))
    try:
        return 0 if showing.cancelled() else showing.result()
    except MosquittoError as error:
        stop(str(error), FAILED)


async def _show(workflows: Path, folder: Path, stopping: asyncio.Event, *, once: bool) -> int:
    found = await install.ensure(click.echo)
    # Each demo begins with nothing: no job of an earlier one is taken up again.
    with tempfile.TemporaryDirectory(prefix="comfy2mqtt-demo-") as temporary:
        home = Path(temporary)
        async with Mosquitto(home / "mosquitto") as broker:
            click.echo(f"The broker listens at {broker.url}.")
            config = Config(
                mqtt_url=broker.url,
                workflows=workflows,
                data=home / "data",
                websocket_listen="127.0.0.1:0",
            )
            comfyui = SuperviseConfig(found.path, found.python, ("--cpu",))
            # The web adapter runs beside the bridge, so that its port is known here.
            alone = msgspec.structs.replace(config, websocket_listen=None)
            bridge = Bridge(alone, Address.parse(broker.url), {"default": comfyui})
            ending = asyncio.Event()
            serving = asyncio.create_task(bridge.run(ending))
            try:
                async with _browsers(config) as page:
                    use = _use(broker.url, folder, page, stopping, once=once)
                    # Raises why the bridge ended, should it end first.
                    return await first(use, asyncio.shield(serving)) or 0
            finally:
                ending.set()
                await asyncio.wait((serving,))


@asynccontextmanager
async def _browsers(config: Config) -> AsyncIterator[str]:
    """Serve the page while the block lasts; gives what a user needs to see it."""
    _, key = Keyring(config.keys_file).add(CLIENT, "demo", time.time())
    listening: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(WebAdapter.of(config).run(listening.set_result))
    try:
        await asyncio.wait((serving, listening), return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            serving.result()
        yield f"In a browser: http://127.0.0.1:{await listening}/ with the key\n  {key}"
    finally:
        serving.cancel()
        await asyncio.wait((serving,))


async def _use(url: str, folder: Path, page: str, stopping: asyncio.Event, *, once: bool) -> int:
    click.echo("Starting ComfyUI (some ten seconds) ...")
    await _runnable(url)
    port = Address.parse(url).port
    words = (
        *("run", WORKFLOW, "-i", f"prompt={PROMPT}", "-o", str(folder)),
        *("-H", HOST, "-p", str(port), "--client", CLIENT),
    )
    click.echo(f"{NO_MODEL}\n$ {command_name()} {shlex.join(words)}")
    # The project's own command line, as a user would use it, also from another folder.
    command = await asyncio.create_subprocess_exec(*(sys.executable, "-m", "bridge", *words))
    try:
        status = await command.wait()
    finally:
        if command.returncode is None:
            command.terminate()
            await command.wait()
    if status or once:
        return status
    click.echo(
        f"\nEverything runs until Ctrl-C. {page}\nFrom another terminal:\n"
        f"  mosquitto_sub -p {port} -t 'comfy2mqtt/client/{CLIENT}/+/#' -F '%t %l bytes' &\n"
        f"  mosquitto_pub -p {port} -q 1 -t comfy2mqtt/client/{CLIENT}/request/run/{WORKFLOW} "
        "-m 'a lighthouse in a storm'\n"
        f"  {command_name()} run {WORKFLOW} -H {HOST} -p {port} --client {CLIENT} "
        "-i 'prompt=a red barn'"
    )
    await stopping.wait()
    return 0


async def _runnable(url: str) -> None:
    """Wait until a ComfyUI has said that it can run the demo's workflow."""
    async with asyncio.timeout(START_TIMEOUT_S), Client(url, CLIENT) as client:
        while True:
            try:
                definition = await client.workflow(WORKFLOW)
            except UnknownWorkflow:
                definition = None
            if definition is not None and definition.runnable is not UNSET:
                return
            await asyncio.sleep(_ASK_EVERY_S)
