"""The pictures of the pages, from real runs: `make pictures`.

It runs `comfy2mqtt demo` on a terminal of its own, uses the page in Chromium and runs the gallery's
prompts, all on that demo's broker, bridge and ComfyUI. What it writes is in docs/images.
"""

from __future__ import annotations

import asyncio
import fcntl
import html
import io
import os
import pty
import re
import signal
import struct
import sys
import tempfile
import termios
from pathlib import Path
from typing import Self

from msgspec import Struct
from PIL import Image
from playwright.async_api import Browser, Page

from bridge.client import Client, Output
from tests.support.browser import JOB_MS, Window, chromium

IMAGES = Path(__file__).parents[2] / "docs" / "images"
SIZE = (900, 540)
COLUMNS, ROWS = 96, 24
# The moving picture may have so many bytes; its quality is lowered until it does.
MOST_BYTES = 1_400_000
QUALITIES = (70, 55, 40, 25)
# Nobody wants to watch a program start: no frame stands longer.
LONGEST_S = 0.6
LAST_S = 2.5
START_S = 240.0

# The gallery's pictures: file, and prompt; the form of each is by its name.
PAPER = Output(format="jpeg", quality=80)
PANEL = Output(dither="spectra-6")
GALLERY = {
    "lighthouse.jpg": "a lighthouse in a storm",
    "barn.jpg": "a red barn in autumn",
    "mountains.jpg": "snowy mountains at dawn, a lake",
    "city.jpg": "a neon city at night",
    "forest.jpg": "a pine forest at sunset",
    "cat.jpg": "a cat in a green meadow, spring",
    "space.jpg": "a purple planet in space",
    "desert.jpg": "desert dunes at sunset",
    "e-ink.png": "a lighthouse in autumn",
}

_CONTROL = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])|(\r)|(\n)|([^\x1b\r\n]+)|\x1b")


class Frame(Struct, frozen=True):
    """One picture of the moving one, and for how many seconds it stands."""

    image: Image.Image
    seconds: float


class Screen:
    """The screen of a terminal after the bytes that a program wrote; colours are left out."""

    def __init__(self) -> None:
        self.lines = [""]
        self._row = 0
        self._column = 0

    def write(self, text: str) -> None:
        for digits, letter, back, down, plain in _CONTROL.findall(text):
            if plain:
                line = self.lines[self._row].ljust(self._column)
                end = self._column + len(plain)
                self.lines[self._row] = line[: self._column] + plain + line[end:]
                self._column = end
            elif back:
                self._column = 0
            elif down:
                self._row += 1
                if self._row == len(self.lines):
                    self.lines.append("")
            elif letter == "A":
                self._row = max(0, self._row - int(digits or 1))
            elif letter == "K":
                keep = 0 if digits == "2" else self._column
                self.lines[self._row] = self.lines[self._row][:keep]


class Terminal:
    """`comfy2mqtt demo` on a terminal; `seen` is what it showed, with the time of each change."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._screen = Screen()
        self.seen: list[tuple[float, tuple[str, ...]]] = []

    async def __aenter__(self) -> Self:
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        self._ours = ours
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "bridge", "demo", "-o", "."),
            *("--workflows", str(IMAGES.parents[1] / "workflows")),
            cwd=self.folder,
            env={**os.environ, "TERM": "xterm-256color", "PYTHONPATH": str(IMAGES.parents[1])},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        asyncio.get_running_loop().add_reader(ours, self._read)
        return self

    async def __aexit__(self, *_: object) -> None:
        asyncio.get_running_loop().remove_reader(self._ours)
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGINT)
        await self._process.wait()
        os.close(self._ours)

    def _read(self) -> None:
        try:
            data = os.read(self._ours, 65536)
        except OSError:  # it has ended
            asyncio.get_running_loop().remove_reader(self._ours)
            return
        self._screen.write(data.decode(errors="replace"))
        shown = tuple(line.rstrip() for line in self._screen.lines)
        self.seen.append((asyncio.get_running_loop().time(), shown))

    async def wait_for(self, pattern: str) -> re.Match[str]:
        async with asyncio.timeout(START_S):
            while True:
                found = re.search(pattern, "\n".join(self._screen.lines))
                if found is not None:
                    return found
                await asyncio.sleep(0.1)


def thinned(seen: list[tuple[float, tuple[str, ...]]]) -> list[tuple[tuple[str, ...], float]]:
    """Return what a terminal showed, four times a second at most, and for how long each stood."""
    kept: list[tuple[float, tuple[str, ...]]] = []
    for at, lines in seen:
        if kept and (lines == kept[-1][1] or at - kept[-1][0] < LONGEST_S / 2):
            kept[-1] = (kept[-1][0], lines)
        else:
            kept.append((at, lines))
    ends = [at for at, _ in kept[1:]] + [kept[-1][0] + LAST_S if kept else 0.0]
    return [
        (lines, min(end - at, LONGEST_S) if number < len(kept) - 1 else LAST_S)
        for number, ((at, lines), end) in enumerate(zip(kept, ends, strict=True))
    ]


async def picture_of(page: Page) -> Image.Image:
    return Image.open(io.BytesIO(await page.screenshot(type="png"))).convert("RGB")


async def terminal_frames(browser: Browser, terminal: Terminal) -> list[Frame]:
    """Draw the terminal; the command is typed first."""
    page = await browser.new_page(viewport={"width": SIZE[0], "height": SIZE[1]})
    states: list[tuple[tuple[str, ...], float]] = [(("$ make",), 0.3), (("$ make demo",), 0.6)]
    states += [(("$ make demo", *lines), seconds) for lines, seconds in thinned(terminal.seen)]
    frames = []
    for lines, seconds in states:
        shown = "\n".join(lines[-ROWS:])
        for folder in (f"{IMAGES.parents[1]}/", f"{terminal.folder}/"):  # as from the checkout
            shown = shown.replace(folder, "")
        text = html.escape(shown)
        await page.set_content(
            "<style>body{margin:0;background:#15131f;color:#e8e4f0;padding:22px 26px}"
            "pre{font:14.5px/20px 'DejaVu Sans Mono',monospace;white-space:pre-wrap}</style>"
            f"<pre>{text}</pre>"
        )
        frames.append(Frame(image=await picture_of(page), seconds=seconds))
    await page.close()
    return frames


async def page_frames(browser: Browser, address: str, key: str) -> list[Frame]:
    """Log in, run a job with its preview, and open its picture; then make a grid."""
    page = await browser.new_page(viewport={"width": SIZE[0], "height": SIZE[1]})
    window = Window(page, address)
    await window.log_in(key, "demo")
    frames = [Frame(image=await picture_of(page), seconds=0.8)]
    prompt = "a lighthouse in a storm"
    for end in range(6, len(prompt) + 6, 6):
        await window.field("prompt").fill(prompt[:end])
        frames.append(Frame(image=await picture_of(page), seconds=0.2))
    tile = await window.run(prompt=prompt, steps=60)
    ending = asyncio.create_task(window.ended(tile))
    while not ending.done():
        frames.append(Frame(image=await picture_of(page), seconds=0.35))
        await asyncio.sleep(0.3)
    await ending
    await tile.click()
    await window.at("dialog.viewer img").wait_for()
    frames.append(Frame(image=await picture_of(page), seconds=LAST_S))
    await page.keyboard.press("Escape")
    await page.set_viewport_size({"width": 1280, "height": 900})
    await grid(window)
    whole = await picture_of(page)
    whole.save(IMAGES / "page.jpg", quality=82, optimize=True)
    await page.close()
    return frames


async def grid(window: Window) -> None:
    """Make a grid of two inputs, and wait for its pictures."""
    await window.at("#set summary").click()
    for at, (name, values) in enumerate((("steps", "4..12 step 4"), ("seed", "3"))):
        axis = window.at(".axis").nth(at)
        await axis.locator("select").select_option(name)
        await axis.locator("input").fill(values)
    await window.press("Run 9 jobs")
    await window.at('.set[data-state="succeeded"]').wait_for(timeout=JOB_MS)
    await window.at(".set").evaluate("each => each.scrollIntoView()")
    await window.until("document.querySelectorAll('.set td img:not([hidden])').length === 9")


def save_moving(frames: list[Frame], path: Path) -> int:
    """Write an animated WebP of at most `MOST_BYTES`; returns how many it has."""
    for quality in QUALITIES:
        first, *others = frames
        first.image.save(
            path,
            save_all=True,
            append_images=[each.image for each in others],
            duration=[round(each.seconds * 1000) for each in frames],
            loop=0,
            quality=quality,
            method=4,
        )
        if path.stat().st_size <= MOST_BYTES:
            return path.stat().st_size
    raise SystemExit(f"{path}: more than {MOST_BYTES} bytes: show less")


async def gallery(url: str) -> None:
    """Paint the gallery's pictures."""
    folder = IMAGES / "gallery"
    folder.mkdir(exist_ok=True)
    async with Client(url, "pictures") as client:
        for name, prompt in GALLERY.items():
            wanted = PAPER if name.endswith(".jpg") else PANEL
            size = {"width": 480, "height": 288}
            job = await client.submit("demo", {"prompt": prompt, "seed": 7, **size}, output=wanted)
            (made,) = await job.outputs()
            (folder / name).write_bytes(made.data)
            sys.stdout.write(f"{folder / name}: {len(made.data)} bytes\n")


async def main() -> None:
    """Make all pictures again, on one demo."""
    with tempfile.TemporaryDirectory(prefix="comfy2mqtt-pictures-") as folder:
        async with Terminal(Path(folder)) as terminal:
            port = (await terminal.wait_for(r"mqtt://127\.0\.0\.1:(\d+)"))[1]
            browsers = await terminal.wait_for(r"(http://127\.0\.0\.1:\d+/) with the key\s+(\S+)")
            painted = list(terminal.seen)
            await gallery(f"mqtt://127.0.0.1:{port}")
            async with chromium() as browser:
                terminal.seen = painted
                frames = await terminal_frames(browser, terminal)
                frames += await page_frames(browser, browsers[1], browsers[2])
    size = save_moving(frames, IMAGES / "tour.webp")
    sys.stdout.write(f"{IMAGES / 'tour.webp'}: {len(frames)} frames, {size} bytes\n")


if __name__ == "__main__":
    asyncio.run(main())
