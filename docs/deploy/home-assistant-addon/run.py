"""Start the bridge with what Home Assistant's supervisor knows: the broker, and the options."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

SUPERVISOR = "http://supervisor/services/mqtt"
OPTIONS = Path("/data/options.json")
CONFIG = Path("/config")
# The page in Home Assistant's sidebar: the port of config.yaml, and the supervisor's address, which
# alone asks for it (both are part of how ingress works).
INGRESS = "0.0.0.0:8099"
SUPERVISOR_ADDRESS = "172.30.32.2"
PAGE_KEY = "page-key.txt"


def environment(options: Mapping[str, Any], broker: Mapping[str, Any]) -> dict[str, str]:
    """Return the bridge's settings. The broker's packets are 2 MB at most there (mosquitto 2.1)."""
    scheme = "mqtts" if broker.get("ssl") else "mqtt"
    user, password = (
        quote(str(broker.get(name) or ""), safe="") for name in ("username", "password")
    )
    found = {
        "COMFY2MQTT_MQTT_URL": f"{scheme}://{user}:{password}@{broker['host']}:{broker['port']}",
        "COMFY2MQTT_COMFYUI_URL": str(options["comfyui_url"]),
        "COMFY2MQTT_LOG_LEVEL": str(options.get("log_level", "info")),
        "COMFY2MQTT_HOMEASSISTANT": "true",
        "COMFY2MQTT_DATA": "/data/bridge",
        "COMFY2MQTT_WORKFLOWS": str(CONFIG / "workflows"),
        "COMFY2MQTT_WEBSOCKET_LISTEN": INGRESS,
        "COMFY2MQTT_TRUSTED_PROXIES": SUPERVISOR_ADDRESS,
        "COMFY2MQTT_FRAME_ANCESTORS": "self",
    }
    if options.get("comfyui_secret"):
        found["COMFY2MQTT_COMFYUI_SECRET"] = str(options["comfyui_secret"])
    return found


def keep_page_key(program: str, folder: Path) -> None:
    """Make the access key that the page asks for, once, where the user can read it."""
    path = folder / PAGE_KEY
    if path.exists():
        return
    made = subprocess.run(
        [program, "keys", "add", "page", "--name", "sidebar"],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    half = path.with_suffix(".part")
    half.touch(mode=0o600)
    half.write_text(made.stdout)
    half.replace(path)
    sys.stderr.write(
        f"the page's access key is in {PAGE_KEY} of the add-on's configuration folder\n"
    )


def main() -> None:
    """Ask the supervisor, then become the bridge."""
    request = urllib.request.Request(
        SUPERVISOR, headers={"Authorization": f"Bearer {os.environ['SUPERVISOR_TOKEN']}"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        broker = json.load(answer)["data"]
    os.environ.update(environment(json.loads(OPTIONS.read_text()), broker))
    (CONFIG / "workflows").mkdir(exist_ok=True)
    program = str(Path(sys.executable).with_name("comfy2mqtt"))
    keep_page_key(program, CONFIG)
    os.execv(program, [program, "serve"])


if __name__ == "__main__":
    main()
