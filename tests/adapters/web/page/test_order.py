"""Page and client.js at a broker that does not keep the order of messages."""

from __future__ import annotations

import hashlib
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from bridge.config import Config
from tests.adapters.web.page.conftest import SMALL, Stack, Visit, download, opened, web_adapter
from tests.support.strict_proxy import PROFILES, StrictProxy

pytestmark = [pytest.mark.comfyui, pytest.mark.slow, pytest.mark.asyncio(loop_scope="package")]

JOBS = 4

# A socket that says what the test lets it say, and notes what is asked.
SCRIPTED = """async () => {
    const sockets = [];
    class Scripted extends EventTarget {
        constructor() { super(); sockets.push(this); setTimeout(() => this.onopen()); }
        send(text) { this.asked ??= []; this.asked.push(JSON.parse(text)); }
        close() {}
    }
    const real = window.WebSocket;
    window.WebSocket = Scripted;
    const { Client } = await import("/client.js?scripted");
    const client = new Client({ url: "ws://scripted", key: "k" });
    const connecting = client.connect();
    const say = (message) => sockets.at(-1).onmessage({ data: JSON.stringify(message) });
    const binary = (header, text) => {
        const head = new TextEncoder().encode(JSON.stringify(header));
        const frame = new Uint8Array(4 + head.length + text.length);
        new DataView(frame.buffer).setUint32(0, head.length);
        frame.set(head, 4);
        frame.set(new TextEncoder().encode(text), 4 + head.length);
        sockets.at(-1).onmessage({ data: frame.buffer });
    };
    const registered = { type: "registered", client: "c", bridge: "online", limits: {} };
    await new Promise((done) => setTimeout(done));  // it is open, and has registered
    say(registered);
    say({ type: "ready" });
    await connecting;
    try {
        return await (async () => { SCRIPT })();
    } finally {
        client.close();
        window.WebSocket = real;
    }
}"""


async def test_the_newest_status_counts_and_an_output_may_come_after_the_result(
    visit: Visit,
) -> None:
    window = await visit()
    await window.page.goto(window.address)
    script = """
        const job = client.job("j");
        const states = [];
        job.addEventListener("status", () => states.push(job.state));
        const status = (n, state) => say({ type: "status", job_id: "j", n, state });
        status(2, "running");
        status(1, "queued");
        for (const percent of [40, 30]) say({ type: "progress", job_id: "j", percent });
        const { percent } = job.progress;
        const info = { index: 0, sha256: "x", content_type: "text/plain" };
        say({ type: "result", job_id: "j", n: 4, state: "succeeded", outputs: [info] });
        status(3, "running");
        binary({ type: "output", job_id: "j", ...info }, "late");
        const [{ blob }] = await job.outputs();
        return [states, percent, job.state, await blob.text(), sockets.at(-1).asked.length];
    """
    # One request: to register. Nothing was fetched that had come.
    assert await window.page.evaluate(SCRIPTED.replace("SCRIPT", script)) == [
        ["running"],
        40,
        "succeeded",
        "late",
        1,
    ]


async def test_a_result_that_the_connection_was_lost_before_is_asked_for(visit: Visit) -> None:
    window = await visit()
    await window.page.goto(window.address)
    script = """
        const status = (job_id, n) => say({ type: "status", job_id, n, state: "running" });
        status("one", 1);
        status("other", 9);  // the result of the first, with a lower n, is on its way
        sockets.at(-1).onclose({ code: 1006, reason: "" });
        client.retry();
        await new Promise((done) => setTimeout(done));
        say(registered);
        say({ type: "ready" });
        say({ type: "resumed", n: 9 });
        const [{ after }, ...asked] = sockets.at(-1).asked;
        return [after, ...asked.map((each) => `${each.type} ${each.job_id}`)];
    """
    assert await window.page.evaluate(SCRIPTED.replace("SCRIPT", script)) == [
        9,
        "status one",
        "status other",
    ]


@pytest.mark.timeout(300)
async def test_jobs_run_and_pictures_are_shown_though_messages_come_in_any_order(
    stack: Stack, visit: Visit, client: str, tmp_path: Path
) -> None:
    async with AsyncExitStack() as running:
        proxy = StrictProxy(stack.broker.url, **PROFILES["nanomq"])
        await running.enter_async_context(proxy)
        config = Config(mqtt_url=proxy.url, data=tmp_path, websocket_listen="127.0.0.1:0")
        port = await running.enter_async_context(web_adapter(config, stack.keys))
        window = await visit(client, address=f"http://127.0.0.1:{port}/")
        tile = await window.run(prompt="a red barn", **SMALL)
        await window.ended(tile)
        assert opened(await download(window)).size == (256, 256)
        # After a reload the pictures are fetched: an answer overtakes the bytes that it tells of.
        await window.page.reload()
        await window.until("document.querySelector('.tile img')?.naturalWidth > 0")
        await window.until("document.querySelector('#job-detail .frame img')?.naturalWidth > 0")

        told: list[Any] = await window.page.evaluate(
            """async ([key, inputs, count]) => {
                const { Client } = await import("/client.js");
                const bridge = new Client({ key });
                await bridge.connect();
                const jobs = await Promise.all(Array.from({ length: count }, (_, seed) =>
                    bridge.submit("demo", { ...inputs, seed }, { preview: true })));
                const hex = async (blob) => {
                    const digest = await crypto.subtle.digest("SHA-256", await blob.arrayBuffer());
                    return [...new Uint8Array(digest)]
                        .map((byte) => byte.toString(16).padStart(2, "0")).join("");
                };
                return Promise.all(jobs.map(async (job) => {
                    const events = [];
                    const following = (async () => {
                        for await (const { type } of job) events.push(type);
                    })();
                    const [{ info, blob }] = await job.outputs();
                    await following;
                    const fetched = await bridge.fetch(job.id);
                    return [info.sha256, await hex(blob), await hex(fetched), events.at(-1)];
                }));
            }""",
            [stack.key(client), SMALL, JOBS],
        )
        assert proxy.shuffled
    assert len(told) == JOBS
    for sha256, received, fetched, last in told:
        assert received == fetched == sha256
        assert last == "result"
        assert len(sha256) == len(hashlib.sha256().hexdigest())
