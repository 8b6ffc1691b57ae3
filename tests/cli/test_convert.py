from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from click.testing import CliRunner, Result

from bridge.cli.convert import convert_file
from bridge.cli.main import main
from bridge.config import Config
from tests.support.answering import answering
from tests.vectors import comparison
from tests.workflows import test_embedded
from tests.workflows.graphs import PLAIN


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COMFY2MQTT_DATA", str(tmp_path / "data"))
    return tmp_path


def convert(*words: str) -> Result:
    return CliRunner().invoke(main, ["convert", *words])


def put(path: Path, document: Any) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))
    return str(path)


def test_a_drawing_is_converted_with_a_saved_object_info(folder: Path) -> None:
    info = put(folder / "info.json", comparison.load("object-info-0.3.75"))
    (name, want), *_ = comparison.load("given-0.3.75").items()
    drawing = put(folder / "drawing.json", comparison.load("templates-0.3.75")[name])
    result = convert(drawing, "--object-info", info)
    assert result.exit_code == 0, result.output
    got = json.loads(result.stdout)
    assert comparison.differences(want, got, comparison.object_info("0.3.75")) == []


@pytest.mark.parametrize(
    ("environment", "kept"),
    [({}, "default"), ({"JOURNAL": "postgresql://127.0.0.1:9/a", "MEMBER": "b"}, "b-default")],
)
def test_without_one_the_kept_object_info_is_used(
    folder: Path, monkeypatch: pytest.MonkeyPatch, environment: Mapping[str, str], kept: str
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(f"COMFY2MQTT_{name}", value)
    (name, _), *_ = comparison.load("given-0.3.75").items()
    drawing = put(folder / "drawing.json", comparison.load("templates-0.3.75")[name])
    refused = convert(drawing)
    assert refused.exit_code == 1
    assert "--object-info FILE" in refused.stderr
    put(folder / "data" / "object_info" / f"{kept}.json", comparison.load("object-info-0.3.75"))
    assert json.loads(convert(drawing).stdout)


def test_the_api_format_and_a_picture_need_no_object_info(folder: Path) -> None:
    assert json.loads(convert(put(folder / "plain.json", PLAIN)).stdout) == PLAIN
    (folder / "picture.png").write_bytes(test_embedded.saved_png())
    assert json.loads(convert("picture.png").stdout) == json.loads(test_embedded.PROMPT)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{\n"1":', "broken.json, line 2: not valid JSON: it ends too early"),
        ("\n", "broken.json: the file is empty"),
        ('{"1": {"class_type": "X"}}', "node 1: `inputs`"),
        ('{"nodes": [{"id": 1, "type": "Unheard"}], "links": []}', "Unheard"),
    ],
)
def test_what_is_wrong_is_reported_in_one_line(folder: Path, content: str, said: str) -> None:
    (folder / "broken.json").write_text(content)
    info = put(folder / "info.json", comparison.load("object-info-0.3.75"))
    result = convert("broken.json", "--object-info", info)
    assert result.exit_code == 1
    assert said in result.stderr
    assert result.stderr.count("\n") == 1
    assert convert("nowhere.json").exit_code == 1


async def test_a_running_comfyui_is_asked_last(folder: Path) -> None:

    body = gzip.compress(json.dumps(comparison.load("object-info-0.3.75")).encode())

    async def answer(_: web.Request) -> web.Response:
        headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
        return web.Response(body=body, headers=headers)

    (name, _), *_ = comparison.load("given-0.3.75").items()
    put(folder / "drawing.json", comparison.load("templates-0.3.75")[name])
    async with answering(answer) as client:
        config = Config(comfyui_url=str(client.base_url), data=folder / "data")
        assert await convert_file(config, folder / "drawing.json", None) == 0
