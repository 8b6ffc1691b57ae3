"""The package below a ComfyUI that has less than this one, and its types."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.custom_nodes.comfyui import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.custom_nodes.comfyui import Place

pytestmark = pytest.mark.comfyui

# Imports the package as ComfyUI does, with stand-ins for ComfyUI's own modules and without those
# named on the command line.
PROGRAM = """
import importlib.util, json, logging, sys
from types import ModuleType, SimpleNamespace
from aiohttp import web

folder, *absent = sys.argv[1:]
logging.disable()

class Absent:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in absent:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent)
for name in ("server", "comfy", "comfy.model_management", "comfy.utils", "folder_paths", "nodes"):
    sys.modules[name] = ModuleType(name)
sys.modules["folder_paths"].get_input_directory = lambda: folder
sys.modules["nodes"].NODE_CLASS_MAPPINGS = {}
sys.modules["server"].PromptServer = SimpleNamespace(
    instance=SimpleNamespace(routes=web.RouteTableDef())
)
name = folder.replace(".", "_x_")
spec = importlib.util.spec_from_file_location(
    name, folder + "/__init__.py", submodule_search_locations=[folder]
)
package = importlib.util.module_from_spec(spec)
sys.modules[name] = package
spec.loader.exec_module(package)
table = sys.modules[name + ".table"]
told = [package.NODE_CLASS_MAPPINGS, package.NODE_DISPLAY_NAME_MAPPINGS, table.load().missing]
print(json.dumps([list(told[0]), list(told[1]), told[2], [row.name for row in table.NODES]]))
"""


def loaded(place: Place, *absent: str) -> tuple[list[str], list[str], dict[str, str], list[str]]:
    """Names with a class, names with a title, the missing and why, and the whole table."""
    folder = str(ROOT / "custom_nodes" / "comfy2mqtt")
    command = [str(place.python), "-c", PROGRAM, folder, *absent]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=place.path)
    assert ended.returncode == 0, ended.stderr
    told: Any = json.loads(ended.stdout)
    return tuple(told)


@pytest.mark.parametrize(
    ("absent", "kinds"),
    [
        ((), []),
        (("comfy_api",), ["VideoInput"]),
        (("av", "comfy_api"), ["AudioInput", "VideoInput", "AudioOutput", "VideoOutput"]),
        (("safetensors",), ["LatentOutput"]),
    ],
)
def test_what_an_older_comfyui_lacks_costs_its_own_nodes_only(
    place: Place, absent: tuple[str, ...], kinds: list[str]
) -> None:
    classes, titles, missing, table = loaded(place, *absent)
    assert list(missing) == [f"Comfy2MQTT{kind}" for kind in kinds]
    assert classes == titles == [name for name in table if name not in missing]
    assert all(reason.startswith("No module named") for reason in missing.values())


@pytest.mark.slow
def test_the_types_hold(place: Place, tmp_path: Path) -> None:
    """Checked where PyAV, torch and numpy are; ComfyUI's own modules have no types."""
    settings = tmp_path / "mypy.ini"
    settings.write_text(
        "[mypy]\nstrict = true\nwarn_unreachable = true\n"
        "[mypy-server,nodes,folder_paths,comfy.*,comfy_api.*,comfy_execution.*]\n"
        "ignore_missing_imports = true\n",
        encoding="utf-8",
    )
    command: list[Path | str] = [sys.executable, "-m", "mypy", "--config-file", settings]
    command += ["--python-executable", place.python, "--package", "comfy2mqtt"]
    command += ["--cache-dir", ROOT / ".mypy_cache" / "custom_nodes"]
    ended = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=ROOT / "custom_nodes"
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
