"""Asks ComfyUI's official page what it makes of the templates: `page-0.1.123.json.gz`.

    python -m tests.vectors.official_page STATIC TEMPLATES [NAME ...]

STATIC is the folder `static` of the front end's package, TEMPLATES that of the templates' package.
A real ComfyUI serves the page to a headless Chromium; its list of nodes is that of the vectors of
0.33.0, and values that a file has by name are restored by name, as the page does with its setting
NamedValuesRestore. Without names all templates whose classes the server has, and which the file
does not have yet. The results are written now and then, so that a run may be cut off.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
from playwright.async_api import Error as PageError
from playwright.async_api import Page, Route

from bridge.workflows import page_pictures
from bridge.workflows.objectinfo import ObjectInfo
from tests.support.browser import chromium
from tests.support.comfyui import running_server, supervised
from tests.vectors import comparison, templates_page

START_MS = 120_000
_KEPT_EVERY = 20
# Loads a file, and returns its prompt once two in a row are the same: some values come late. Of
# choices in prompts the first is taken.
_CONVERT = """async (file) => {
    const app = window.app;
    window.LiteGraph.namedValuesRestore = true;
    await app.loadGraphData(JSON.parse(file), true, false, null);
    const random = Math.random;
    let last = "";
    for (let turn = 0; turn < 40; turn++) {
        await new Promise((done) => setTimeout(done, 50));
        Math.random = () => 0;
        try {
            const text = JSON.stringify((await app.graphToPrompt()).output);
            if (text === last) return text;
            last = text;
        } finally {
            Math.random = random;
        }
    }
    return last;
}"""


@asynccontextmanager
async def official_page(static: Path, info: ObjectInfo | None) -> AsyncIterator[Page]:
    """Open the page; `info` is what its server seems to have, None: what it has."""
    config = supervised()
    config = msgspec.structs.replace(config, args=(*config.args, "--front-end-root", str(static)))

    async def answer(route: Route) -> None:
        assert info is not None
        await route.fulfill(json=info.raw)

    with (
        tempfile.TemporaryDirectory() as folder,
        running_server(config, Path(folder)) as server,
    ):
        async with chromium() as browser:
            page = await browser.new_page()
            page.set_default_timeout(START_MS)
            if info is not None:
                await page.route("**/object_info", answer)
            await page.goto(server.url)
            await page.wait_for_function("() => window.app?.vueAppReady && window.app.graph")
            yield page


async def converted(page: Page, document: Any) -> dict[str, Any]:
    """Return what the page makes of a file: class types and inputs."""
    text = await asyncio.wait_for(page.evaluate(_CONVERT, json.dumps(document)), 60)
    # What the server does not know, and nothing is linked to, has no class there.
    return {
        node: {
            "class_type": entry["class_type"],
            "inputs": {name: without_pictures(value) for name, value in entry["inputs"].items()},
        }
        for node, entry in json.loads(text).items()
        if "class_type" in entry
    }


def without_pictures(value: Any) -> Any:
    """Return the value of a 3D view without the pictures of it, whose names are new each time."""
    if not isinstance(value, dict) or "camera_info" not in value:
        return value
    return {**value, **page_pictures.SCENE}


def _wanted(names: list[str], known: dict[str, Any]) -> Iterator[str]:
    if names:
        yield from names
        return
    for row in templates_page.rows():
        lacking = None if row.workflow is None else row.workflow.missing
        if lacking is not None and not lacking.nodes and row.name not in known:
            yield row.name


def _keep(known: dict[str, Any]) -> None:
    file = comparison.FOLDER / f"{templates_page.PAGES}.json.gz"
    text = json.dumps(dict(sorted(known.items())), separators=(",", ":"), ensure_ascii=False)
    file.write_bytes(gzip.compress(text.encode(), mtime=0))


async def main(static: Path, templates: Path, names: list[str]) -> None:
    """Make what is wanted."""
    known: dict[str, Any] = dict(comparison.load(templates_page.PAGES))
    wanted = list(_wanted(names, known))
    async with official_page(static, comparison.live_object_info()) as page:
        for number, name in enumerate(wanted, 1):
            document = json.loads((templates / f"{name}.json").read_text(encoding="utf-8"))
            try:
                known[name] = await converted(page, document)
                sys.stderr.write(f"{number} of {len(wanted)}: {name}\n")
            except (TimeoutError, PageError) as error:
                sys.stderr.write(f"{number} of {len(wanted)}: {name}: {error}\n")
            if number % _KEPT_EVERY == 0:
                _keep(known)
    _keep(known)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]))
