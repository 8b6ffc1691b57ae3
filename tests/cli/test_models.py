"""`comfy2mqtt models get`: what a workflow lacks, from where its file says."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from contextlib import chdir
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from bridge.cli.main import main
from tests.media.test_model_files import DATA, SHA, Host, content, host

__all__ = ["host"]

LOADER = {
    "input": {"required": {"ckpt_name": [["old.safetensors"], {}]}},
    "output": ["IMAGE"],
    "output_node": False,
}
SAVE = {
    "input": {"required": {"images": ["IMAGE"], "filename_prefix": ["STRING", {}]}},
    "output": [],
    "output_node": True,
}


def drawing(*models: dict[str, Any]) -> dict[str, Any]:
    """A workflow in the page's format: a loader of `new.safetensors`, and what saves."""
    return {
        "version": 0.4,
        "nodes": [
            {
                "id": 1,
                "type": "Loader",
                "inputs": [],
                "outputs": [{"name": "IMAGE", "type": "IMAGE", "links": [1]}],
                "widgets_values": ["new.safetensors"],
                "properties": {"models": [*models]},
            },
            {
                "id": 2,
                "type": "SaveImage",
                "inputs": [{"name": "images", "type": "IMAGE", "link": 1}],
                "outputs": [],
                "widgets_values": ["x"],
                "properties": {},
            },
        ],
        "links": [[1, 1, 0, 2, 0, "IMAGE"]],
    }


class Command:
    """The command line in a folder that has a workflow with a missing model."""

    def __init__(self, folder: Path, host: Host, *models: dict[str, Any]) -> None:
        self.folder, self.host = folder, host
        for name in ("workflows", "data/object_info", "models"):
            (folder / name).mkdir(parents=True)
        (folder / "workflows" / "flux.json").write_text(json.dumps(drawing(*models)))
        info = {"Loader": LOADER, "SaveImage": SAVE}
        (folder / "data" / "object_info" / "default.json").write_text(json.dumps(info))

    async def here(self, *words: str, hosts: str = "localhost") -> tuple[int, str, str]:
        """Run it in this process, which trusts no server of a test."""
        run = partial(CliRunner().invoke, main, [*words, "--data", "data"])
        with chdir(self.folder):
            ran = await asyncio.to_thread(run, env={"COMFY2MQTT_MODEL_HOSTS": hosts})
        return ran.exit_code, ran.stdout, ran.stderr

    async def __call__(self, *words: str) -> tuple[int, str, str]:
        """Run it in a process of its own, which trusts the test's server."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "bridge", *words, "--data", "data"),
            cwd=self.folder,
            env={
                **os.environ,
                "PYTHONPATH": str(Path(__file__).parents[2]),
                "SSL_CERT_FILE": str(self.host.cert),
                "COMFY2MQTT_MODEL_HOSTS": "localhost",
            },
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()


def entry(host: Host, **changes: Any) -> dict[str, Any]:
    return {"name": "new.safetensors", "directory": "checkpoints", "url": host.url, **changes}


@pytest.mark.slow
async def test_a_missing_model_is_fetched_into_its_folder(host: Host, tmp_path: Path) -> None:
    made = entry(host, hash=SHA, hash_type="SHA256")
    command = Command(tmp_path / "home", host, made, entry(host, name="unused.safetensors"))
    get = ("models", "get", "flux", "--to", "models")
    status, out, err = await command(*get)
    target = command.folder / "models" / "checkpoints" / "new.safetensors"
    assert (status, out) == (0, "models/checkpoints/new.safetensors\n"), err
    assert content(target) == DATA
    assert "checkpoints/new.safetensors: 3 of 3 MB" in err
    # What is there is not asked for again.
    status, out, err = await command.here(*get)
    assert (status, out) == (0, "")
    assert "nothing to fetch" in err
    assert len(host.ranges) == 1


async def test_doctor_names_the_file_its_folder_its_url_and_the_command(
    host: Host, tmp_path: Path
) -> None:
    command = Command(tmp_path / "home", host, entry(host))
    _, out, _ = await command.here("doctor", "--json")
    findings = map(json.loads, out.splitlines())
    (found,) = (each for each in findings if "flux" in each["what"])
    assert f"models/checkpoints/new.safetensors ({host.url})" in found["what"]
    assert "comfy2mqtt models get flux" in found["advice"]


@pytest.mark.parametrize(
    ("changes", "hosts", "said"),
    [
        ({}, "huggingface.co", "localhost is not among the hosts"),
        pytest.param(
            *({"hash": "0" * 64, "hash_type": "SHA256"}, "localhost", "is not the right one"),
            marks=pytest.mark.slow,
        ),
        ({"url": "http://localhost/a"}, "localhost", "names no URL"),
        ({"directory": "../custom_nodes"}, "localhost", "names no URL"),
    ],
)
async def test_what_cannot_be_fetched_is_reported_and_nothing_is_left(
    host: Host, tmp_path: Path, changes: dict[str, Any], hosts: str, said: str
) -> None:
    command = Command(tmp_path / "home", host, entry(host, **changes))
    get = ("models", "get", "flux", "--to", "models")
    fetches = hosts == "localhost" and "hash" in changes
    status, out, err = await (command(*get) if fetches else command.here(*get, hosts=hosts))
    assert out == ""
    assert said in err
    assert status == (0 if "names no URL" in said else 1)
    assert not list((command.folder / "models").rglob("*.safetensors*"))


async def test_without_a_folder_it_says_how_to_name_one(host: Host, tmp_path: Path) -> None:
    command = Command(tmp_path / "home", host, entry(host))
    get = ("models", "get", "flux", "--comfyui-url", "http://127.0.0.1:8188")
    status, _, err = await command.here(*get)
    assert status == 2
    assert "--to FOLDER" in err
    status, _, err = await command.here("models", "get", "other", "--to", "models")
    assert status == 1
    assert "there is no such workflow" in err
