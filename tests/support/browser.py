"""A real Chromium, and somebody who uses the page in it.

Driven by playwright: it waits for what it is to click, gives each window a profile of its
own, and brings its driver along; the browser is the distribution's.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from playwright.async_api import Browser, Locator, Page, Request

_FIND = Path(__file__).with_name("chromium")
_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
TIMEOUT_MS = 15_000
JOB_MS = 90_000


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """Run a headless Chromium, installed first if there is none, with a fresh profile."""
    # Takes a quarter of a second, which tests without a browser are to do without.
    from playwright.async_api import async_playwright  # noqa: PLC0415

    finding = await asyncio.create_subprocess_exec(str(_FIND), stdout=asyncio.subprocess.PIPE)
    found, _ = await finding.communicate()
    assert finding.returncode == 0, "there is no Chromium"
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=found.decode().strip(), args=list(_FLAGS), headless=True
        )
        try:
            yield browser
        finally:
            await browser.close()


class Window:
    """One browser window on the page; `complaints` is what should not have happened there."""

    def __init__(self, page: Page, address: str) -> None:
        self.page = page
        self.address = address
        self.complaints: list[str] = []
        page.set_default_timeout(TIMEOUT_MS)
        page.on("request", self._asked)
        page.on("websocket", lambda socket: self._went_to(socket.url))
        page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        page.on("console", lambda said: self._on_console(said.type, said.text))

    def _asked(self, request: Request) -> None:
        if not request.url.startswith("blob:"):
            self._went_to(request.url)

    def _went_to(self, url: str) -> None:
        if urlsplit(url).netloc != urlsplit(self.address).netloc:
            self.complaints.append(f"request to {url}")

    def _on_console(self, kind: str, text: str) -> None:
        # A violation of the Content-Security-Policy is one of them.
        if kind in ("error", "warning"):
            self.complaints.append(f"{kind}: {text}")

    async def log_in(self, key: str, workflow: str | None = None) -> None:
        await self.page.goto(self.address + (f"#{workflow}" if workflow else ""))
        await self.page.get_by_label("Access key", exact=True).fill(key)
        await self.press("Log in")
        await self.at("#workspace").wait_for()

    def at(self, selector: str, text: str | None = None) -> Locator:
        return self.page.locator(selector, has_text=text)

    async def press(self, name: str) -> None:
        await self.page.get_by_role("button", name=name, exact=True).click()

    def field(self, name: str) -> Locator:
        """The control of an input, by the input's name."""
        return self.at(f'[data-input="{name}"]').locator("textarea, input, select").last

    async def run(self, **inputs: Any) -> Locator:
        """Fill in values, press Run, and return the new job's tile once it is accepted."""
        for name, value in inputs.items():
            await self.field(name).fill(str(value))
        before = await self.at("#tiles li").count()
        await self.press("Run")
        tile = self.at("#tiles li").first
        await self.until("document.querySelectorAll('#tiles li').length > before", before=before)
        job = await tile.get_attribute("data-job")
        return self.at(f'[data-job="{job}"] button')

    async def ended(self, tile: Locator, state: str = "succeeded") -> None:
        """Wait for a job's end; on a busy machine a ComfyUI that was killed takes its time."""
        job = await tile.evaluate("tile => tile.closest('li').dataset.job")
        ended = self.at(f'[data-job="{job}"] [data-state="{state}"]')
        await ended.wait_for(timeout=JOB_MS)

    async def until(self, condition: str, **names: Any) -> None:
        """Wait until an expression of JavaScript holds."""
        arguments = ", ".join(names)
        await self.page.wait_for_function(f"({{{arguments}}}) => {condition}", arg=names)
