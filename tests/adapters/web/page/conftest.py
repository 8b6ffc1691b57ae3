"""The page's tests share one stack: broker, bridge, ComfyUI, web adapter and a Chromium.

It is started once for all files of this folder. What each test does to it, it puts right.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
from msgspec import Struct
from PIL import Image

from bridge.adapters.mqtt.broker_address import web_address
from bridge.adapters.web.adapter import WebAdapter
from bridge.adapters.web.keyring import Keyring
from bridge.adapters.web.settings import settings_of
from bridge.config import Config
from bridge.contract.links import KEY_BYTES
from bridge.contract.topics import Topics
from bridge.mosquitto import Mosquitto
from tests.support.bridge import ROOT, BridgeProcess
from tests.support.browser import Window, chromium
from tests.support.comfyui import supervised

if TYPE_CHECKING:
    from playwright.async_api import Browser

DEMO = json.loads((ROOT / "workflows/demo.json").read_text())
# A picture and a mask in, both of them out.
MASKED = {
    "1": {"class_type": "Comfy2MQTTImageInput", "inputs": {"name": "picture", "image": ""}},
    "2": {"class_type": "Comfy2MQTTMaskInput", "inputs": {"name": "mask", "image": ""}},
    "3": {
        "class_type": "Comfy2MQTTImageOutput",
        "inputs": {"images": ["1", 0], "name": "picture", "format": "PNG", "quality": 90},
    },
    "4": {"class_type": "Comfy2MQTTMaskOutput", "inputs": {"masks": ["2", 0], "name": "mask"}},
}
# A picture alone: its transparency is the mask.
HOLED = {
    "1": MASKED["1"],
    "3": MASKED["3"],
    "4": {"class_type": "Comfy2MQTTMaskOutput", "inputs": {"masks": ["1", 1], "name": "mask"}},
}
# Inputs of every kind that needs no file; what they are given shows in the result.
KINDS = {
    "1": {"class_type": "Comfy2MQTTTextInput", "inputs": {"name": "words", "value": "a barn"}},
    "2": {"class_type": "Comfy2MQTTBooleanInput", "inputs": {"name": "tiling", "value": False}},
    "3": {
        "class_type": "Comfy2MQTTChoiceInput",
        "inputs": {"name": "style", "value": "oil", "choices": "oil\nink"},
    },
    "4": {
        "class_type": "Comfy2MQTTChoiceInput",
        "inputs": {
            "name": "paper",
            "value": "p0",
            "choices": "\n".join(f"p{n}" for n in range(60)),
        },
    },
    "5": {
        "class_type": "Comfy2MQTTFloatInput",
        "inputs": {"name": "weight", "value": 0.5, "minimum": 0.0, "maximum": 1.0, "step": 0.1},
    },
    "6": {"class_type": "Comfy2MQTTSeedInput", "inputs": {"name": "seed", "value": 0}},
    "7": {
        "class_type": "EmptyImage",
        "inputs": {"width": 16, "height": 16, "batch_size": 1, "color": 255},
    },
    "8": {
        "class_type": "Comfy2MQTTImageOutput",
        "inputs": {"images": ["7", 0], "name": "picture", "format": "PNG", "quality": 90},
    },
}
# No input nodes: its values are named by their places.
PLAIN = {
    "1": {
        "class_type": "EmptyImage",
        "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 255},
    },
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "plain"}},
}

SMALL = {"width": 256, "height": 256, "steps": 8}
LONG = {"width": 512, "height": 512, "steps": 100}
WORKFLOWS = {"demo": DEMO, "masked": MASKED, "holed": HOLED, "kinds": KINDS, "plain": PLAIN}


class Stack(Struct):
    """Everything that the tests share; `address` is the page's."""

    broker: Mosquitto
    bridge: BridgeProcess
    browser: Browser
    address: str
    keys: Keyring

    def key(self, client: str) -> str:
        return self.keys.add(client, "test", time.time())[1]


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    folder = tmp_path_factory.mktemp("page")
    comfyui = supervised()
    async with AsyncExitStack() as running:
        broker = await running.enter_async_context(Mosquitto(folder / "mosquitto"))
        bridge = BridgeProcess(
            folder / "bridge",
            mqtt_url=broker.url,
            comfyui_path=comfyui.path,
            comfyui_python=comfyui.python,
            comfyui_args="--cpu",
        )
        for name, graph in WORKFLOWS.items():
            bridge.add_workflow(name, graph)
        browser = await running.enter_async_context(chromium())
        await running.enter_async_context(bridge)
        config = Config(
            mqtt_url=broker.url,
            data=folder / "web",
            workflows=bridge.workflows,
            websocket_listen="127.0.0.1:0",
        )
        keys = Keyring(config.keys_file)
        port = await running.enter_async_context(web_adapter(config, keys))
        yield Stack(broker, bridge, browser, f"http://127.0.0.1:{port}/", keys)


@asynccontextmanager
async def web_adapter(config: Config, keys: Keyring) -> AsyncIterator[int]:
    """Run a web adapter on this loop, with keys that it knows at once; gives its port."""
    made = WebAdapter(
        settings_of(config),
        web_address(config),
        Topics(config.base_topic),
        keyring=keys,
        link_key=bytes(KEY_BYTES),
        link_s=config.link_s,
    )
    listening: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(made.run(listening.set_result))
    try:
        yield await listening
    finally:
        serving.cancel()
        await asyncio.wait((serving,))


Visit = Callable[..., Awaitable[Window]]


@pytest_asyncio.fixture(loop_scope="package")
async def visit(stack: Stack) -> AsyncIterator[Visit]:
    """Opens windows of their own; in none of them may anything have gone wrong unseen.

    That is: an error or a warning on the console, which includes what the Content-Security-Policy
    forbids, an exception, or a request to any other server.
    """
    windows: list[Window] = []

    async def visit(
        client: str | None = None,
        workflow: str = "demo",
        *,
        address: str = stack.address,
        **options: Any,
    ) -> Window:
        context = await stack.browser.new_context(**{"reduced_motion": "reduce", **options})
        window = Window(await context.new_page(), address)
        windows.append(window)
        if client is not None:
            await window.log_in(stack.key(client), workflow)
        return window

    yield visit
    for window in windows:
        await window.page.context.close()
    assert [each for window in windows for each in window.complaints] == []


@pytest.fixture
def client(request: pytest.FixtureRequest) -> str:
    """A client of the test's own: its gallery is empty."""
    return f"c{hashlib.sha256(request.node.name.encode()).hexdigest()[:12]}"


def picture(size: tuple[int, int] = (96, 64)) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise(size, 90).convert("RGB").save(buffer, "PNG")
    return buffer.getvalue()


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


async def choose(window: Window, name: str, data: bytes) -> None:
    given: Any = {"name": "mine.png", "mimeType": "image/png", "buffer": data}
    await window.at(f'[data-input="{name}"] input[type=file]').set_input_files(given)
    # The page looks at a file's first bytes before it takes it.
    field = f'[data-input="{name}"]'
    await window.at(f"{field} .filename:not(:empty), {field} .problem:not(:empty)").first.wait_for()


async def download(window: Window) -> bytes:
    """The output of the chosen job that is shown."""
    async with window.page.expect_download() as coming:
        await window.press("Download")
    return await asyncio.to_thread((await (await coming.value).path()).read_bytes)


async def paint(window: Window) -> None:
    """A stroke over the middle of the picture, a quarter of it wide, from left to right."""
    canvas = window.at("canvas.strokes")
    box = await canvas.bounding_box()
    assert box is not None
    middle = box["y"] + box["height"] / 2
    mouse = window.page.mouse
    await mouse.move(box["x"] + 0.25 * box["width"], middle)
    await mouse.down()
    await mouse.move(box["x"] + 0.75 * box["width"], middle, steps=5)
    await mouse.up()
    await window.press("Use this mask")


async def painted(window: Window, *pixels: tuple[int, int]) -> list[bool]:
    """Return which of these pixels of the open painter's mask are painted."""
    opacities = await window.at("canvas.strokes").evaluate(
        """(canvas, pixels) => pixels.map(
            ([x, y]) => canvas.getContext("2d").getImageData(x, y, 1, 1).data[3]
        )""",
        pixels,
    )
    return [opacity >= 128 for opacity in opacities]
