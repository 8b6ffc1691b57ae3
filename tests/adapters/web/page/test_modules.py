"""The page's pure modules, each called in a real browser."""

from __future__ import annotations

from typing import Any

import pytest

from tests.adapters.web.page.conftest import Visit

pytestmark = [pytest.mark.comfyui, pytest.mark.slow, pytest.mark.asyncio(loop_scope="package")]

NAMES: list[tuple[dict[str, Any], str]] = [
    # What ComfyUI called its file; with an extension that is its type's.
    ({"filename": "ComfyUI_00001_.png", "content_type": "image/png"}, "ComfyUI_00001_.png"),
    ({"filename": "x_00001_.png", "content_type": "image/webp"}, "x_00001_.webp"),
    ({"filename": "photo.JPEG", "content_type": "image/jpeg"}, "photo.JPEG"),
    ({"filename": "../../etc/pass:wd", "content_type": "image/jpeg"}, "pass_wd.jpg"),
    ({"filename": "notes.md", "content_type": "text/plain; charset=utf-8"}, "notes.md"),
    # Without a name: workflow, caption and id.
    ({"content_type": "image/png"}, "demo-a-red-barn-at-night-0123abcd.png"),
    ({"content_type": "audio/mpeg", "index": 2}, "demo-a-red-barn-at-night-0123abcd-3.mp3"),
    ({"content_type": "text/plain; charset=utf-8"}, "demo-a-red-barn-at-night-0123abcd.txt"),
    ({"content_type": "application/octet-stream"}, "demo-a-red-barn-at-night-0123abcd.bin"),
]
FILES = [
    ("image", b"\x89PNG\r\n\x1a\n", None),
    ("mask", b"RIFF1234WEBPVP8 ", None),
    ("image", b"\0\0\0\x1cftypheic", None),
    ("image", b"%PDF-1.7", "media.notPicture"),
    ("image", b"RIFF1234WAVEfmt ", "media.notPicture"),
    ("image", b"\0\0\0\x1cftypisom", "media.notPicture"),
    ("image", b"", "media.notPicture"),
    ("audio", b"\xff\xd8\xff\xe0", "media.notAudio"),
    ("video", b"GIF89a", "media.notVideo"),
    # Of films and sounds the bridge knows more than the page.
    ("audio", b"anything", None),
    ("file", b"GIF89a", None),
]


async def test_names_kinds_filters_and_views_are_as_they_should_be(visit: Visit) -> None:
    window = await visit()
    await window.page.goto(window.address)
    infos = [{"index": 0, **info} for info, _ in NAMES]
    told: dict[str, Any] = await window.page.evaluate(
        """async ([infos, files]) => {
            const all = await Promise.all(
                ["file_names", "file_kinds", "gallery_filter", "zoom", "undo_history", "brush",
                 "form_check", "code_writers", "marks"].map((each) => import(`/${each}.js`)),
            );
            const page = Object.assign({}, ...all);
            const job = { workflow: "demo", caption: 'a "red" barn\\nat night', id: "0123abcdef" };
            const history = new page.UndoHistory(3, () => 1);
            [1, 2, 3, 4].forEach((state) => history.save(state));
            const undone = [history.undo(5), history.undo(4), history.undo(3), history.undo(2)];
            const redone = [history.redo(2), history.redo(3)];
            history.save(6);
            const box = { width: 100, height: 50, frameWidth: 100, frameHeight: 100 };
            const corner = page.zoomed(page.WHOLE, 2, { x: 50, y: 25 }, box);
            const full = { getItem: () => "[1]", setItem: () => { throw new Error("full"); } };
            const described = { workflow: "demo", state: "failed", texts: ["A Barn"] };
            const passes = (filter) =>
                page.passes(described, { text: "", workflow: "", show: "all", ...filter });
            const schema = (kind, more) => ({ "x-kind": kind, ...more });
            const definition = { inputs: {
                required: ["prompt", "picture"],
                properties: {
                    prompt: schema("text", { maxLength: 3 }),
                    steps: schema("integer", { minimum: 1 }),
                    weight: schema("float", { maximum: 1 }), seed: schema("seed"),
                    picture: schema("image"),
                },
            } };
            const problems = (values, media) =>
                Object.fromEntries(page.problemsOf(definition, values, media));
            return {
                names: infos.map((info) => page.downloadName({ info, ...job })),
                kinds: files.map(([kind, head]) => page.mismatch(kind, new Uint8Array(head))),
                undone, redone, canRedo: history.canRedo,
                corner, out: page.zoomed(corner, 0.01, { x: 0, y: 0 }, box),
                far: page.moved(corner, 1000, 1000, box),
                swipes: [[100, 10], [-100, 10], [100, 90], [30, 0]].map(
                    (each) => page.swipe(...each)),
                widths: [page.strokeWidth(10, { pointerType: "mouse", pressure: 0.5 }),
                    page.strokeWidth(10, { pointerType: "pen", pressure: 0.5 }),
                    page.strokeWidth(10, { pointerType: "pen", pressure: 0 })],
                passed: [passes({}), passes({ text: "barn demo" }), passes({ text: "boat" }),
                    passes({ workflow: "x" }), passes({ show: "failed" }),
                    passes({ show: "kept" })],
                fine: problems({ prompt: "abc", seed: "99999999999999999999" }, { picture: {} }),
                wrong: problems(
                    { prompt: "abcd", steps: 0, weight: Infinity, seed: "x" }, {},
                ),
                broken: [page.readObject(full, "x"), page.writeObject(full, "x", {})],
                brokers: [
                    page.brokerOf({ mqtt_port: 1884 }, "pictures.local"),
                    page.brokerOf({ mqtt: { port: 1883 } }, "localhost"),
                    page.brokerOf({ mqtt: { port: 8883, host: "b.example", tls: true } }, "p"),
                ],
            };
        }""",
        [infos, [[kind, list(head)] for kind, head, _ in FILES]],
    )
    assert told["names"] == [name for _, name in NAMES]
    assert told["kinds"] == [why for _, _, why in FILES]
    assert told["undone"] == [4, 3, 2, None]
    assert told["redone"] == [3, 4]
    assert told["canRedo"] is False
    # The corner stays below the pointer; the height fits into the frame and stays in the middle.
    assert told["corner"] == {"scale": 2, "x": -50, "y": 0}
    assert told["out"] == {"scale": 1, "x": 0, "y": 0}
    assert told["far"] == {"scale": 2, "x": 50, "y": 0}
    assert told["swipes"] == [-1, 1, 0, 0]
    assert told["widths"] == [10, 5, 2]
    assert told["passed"] == [True, True, False, False, True, False]
    assert told["fine"] == {}
    assert told["wrong"] == {
        "prompt": "Use at most 3 characters.",
        "steps": "Enter 1 or more.",
        "weight": "Enter a number.",
        "seed": "Enter digits only, or leave empty for a random seed.",
        "picture": "Required.",
    }
    assert told["broken"] == [{}, False]
    assert told["brokers"] == [
        {"broker": {"port": 1884, "host": "pictures.local"}, "isGuess": True},
        {"broker": {"port": 1883, "host": "localhost"}, "isGuess": False},
        {"broker": {"port": 8883, "host": "b.example", "tls": True}, "isGuess": False},
    ]


async def test_code_for_a_broker_with_tls_and_users_names_both(visit: Visit) -> None:
    window = await visit()
    await window.page.goto(window.address)
    written = await window.page.evaluate(
        """async () => {
            const { mosquitto, python, nodeRed } = await import("/code_writers.js");
            const request = {
                base: "comfy2mqtt", client: "me", socket: "", workflow: "demo", media: {},
                values: { prompt: "a barn" }, main: "prompt",
                broker: { host: "b.example", port: 8883, tls: true, login: true },
            };
            const six = { ...request, broker: { host: "::1", port: 1883 } };
            return [
                mosquitto(request), python(request), nodeRed(request), mosquitto(six), python(six),
            ];
        }"""
    )
    assert '-h b.example -p 8883 --tls-use-os-certs -u me -P "$MQTT_PASSWORD" -q 1' in written[0]
    assert 'Client("mqtts://me:PASSWORD@b.example", client="me")' in written[1]
    assert '"usetls": true' in written[2]
    assert "mosquitto_pub -h ::1 -q 1" in written[3]
    assert 'Client("mqtt://[::1]", client="me")' in written[4]
