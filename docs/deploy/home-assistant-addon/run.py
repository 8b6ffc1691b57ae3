"""Run the bridge with what Home Assistant's supervisor knows: the broker, and the options.

Files of a journal in use cannot be copied one after another. So while the bridge runs its data is
in a folder that backups of Home Assistant leave out (`backup_exclude` in config.yaml), and the
supervisor calls `run.py backup` before a backup, which writes all of it into one file beside it.
While the bridge is stopped the folder has another name, and is copied as it is.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote

SUPERVISOR = "http://supervisor/services/mqtt"
OPTIONS = Path("/data/options.json")
CONFIG = Path("/config")
STOPPED = Path("/data/bridge")
RUNNING = Path("/data/bridge.running")
RESTORING = Path("/data/bridge.restoring")
BACKUP = Path("/data/backup.tar")
JOURNAL = "journal.db"
# The page in Home Assistant's sidebar: the port of config.yaml, and the supervisor's address, which
# alone asks for it (both are part of how ingress works).
INGRESS = "0.0.0.0:8099"
SUPERVISOR_ADDRESS = "172.30.32.2"
PAGE_KEY = "page-key.txt"


class CannotStart(Exception):
    """The bridge cannot be started; the text, one line, is for the add-on's log."""


def read_options() -> Mapping[str, Any]:
    """Return the add-on's options. Raises CannotStart."""
    try:
        options = json.loads(OPTIONS.read_text())
        if options["comfyui_url"]:
            return dict(options)
    except (OSError, ValueError) as error:
        raise CannotStart(f"{OPTIONS} cannot be read: {error}") from error
    except (KeyError, TypeError):
        pass
    raise CannotStart("set the option comfyui_url to ComfyUI's address")


def find_broker() -> Mapping[str, Any]:
    """Return the broker as the supervisor knows it: host, port, ssl, username, password.

    Raises CannotStart.
    """
    token = os.environ.get("SUPERVISOR_TOKEN")
    if not token:
        raise CannotStart("there is no SUPERVISOR_TOKEN: this runs as an add-on of Home Assistant")
    request = urllib.request.Request(SUPERVISOR, headers={"Authorization": f"Bearer {token}"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            broker = json.load(answer)["data"]
        return {**broker, "host": broker["host"], "port": broker["port"]}
    except urllib.error.HTTPError as error:
        raise CannotStart(
            f"Home Assistant has no MQTT broker ({error}): install and start the Mosquitto add-on"
        ) from error
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise CannotStart(
            f"the supervisor did not answer with an MQTT broker: {error!r}"
        ) from error


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
        "COMFY2MQTT_DATA": str(RUNNING),
        "COMFY2MQTT_WORKFLOWS": str(CONFIG / "workflows"),
        "COMFY2MQTT_WEBSOCKET_LISTEN": INGRESS,
        "COMFY2MQTT_TRUSTED_PROXIES": SUPERVISOR_ADDRESS,
        "COMFY2MQTT_FRAME_ANCESTORS": "self",
    }
    if options.get("comfyui_secret"):
        found["COMFY2MQTT_COMFYUI_SECRET"] = str(options["comfyui_secret"])
    return found


def keep_page_key(program: str, folder: Path) -> None:
    """Make the access key that the page asks for, once, where the user can read it.

    Raises CannotStart.
    """
    path = folder / PAGE_KEY
    if path.exists():
        return
    made = subprocess.run(
        [program, "keys", "add", "page", "--name", "sidebar"],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if made.returncode != 0:
        raise CannotStart("the page's access key cannot be made: the reason is above")
    half = path.with_suffix(".part")
    half.touch(mode=0o600)
    half.write_text(made.stdout)
    half.replace(path)
    sys.stderr.write(
        f"the page's access key is in {PAGE_KEY} of the add-on's configuration folder\n"
    )


def take_data(program: str) -> None:
    """Move the data to where the bridge works, or restore it from a backup. Raises CannotStart.

    A folder that is there already is of a bridge that was killed: it continues with that.
    """
    if not RUNNING.exists():
        if STOPPED.exists():
            STOPPED.rename(RUNNING)
        elif BACKUP.exists():
            shutil.rmtree(RESTORING, ignore_errors=True)
            restore = [program, "restore", str(BACKUP), "--data", str(RESTORING)]
            if subprocess.run(restore, check=False).returncode != 0:
                raise CannotStart(f"{BACKUP} cannot be restored: the reason is above")
            RESTORING.rename(RUNNING)
    BACKUP.unlink(missing_ok=True)


def back_up(program: str) -> int:
    """Write all data of a bridge that runs into one file; returns the exit status."""
    BACKUP.unlink(missing_ok=True)
    if not (RUNNING / JOURNAL).exists():  # it has not begun
        return 0
    command = [program, "backup", str(BACKUP), "--data", str(RUNNING)]
    return subprocess.run(command, check=False).returncode


def serve(program: str) -> int:
    """Run the bridge until it ends; SIGTERM and SIGINT end it. Returns the exit status."""
    bridge = subprocess.Popen([program, "serve"])
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: bridge.send_signal(number))
    status = bridge.wait()
    if RUNNING.exists():
        RUNNING.rename(STOPPED)
    return status if status >= 0 else 128 - status  # as a shell says that a signal ended it


def main() -> NoReturn:
    """Prepare and run the bridge, or write the backup; ends the process."""
    program = str(Path(sys.executable).with_name("comfy2mqtt"))
    if sys.argv[1:] == ["backup"]:
        sys.exit(back_up(program))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        os.environ.update(environment(read_options(), find_broker()))
        (CONFIG / "workflows").mkdir(exist_ok=True)
        take_data(program)
        keep_page_key(program, CONFIG)
    except (CannotStart, OSError) as error:
        sys.exit(f"the bridge cannot be started: {error}")
    sys.exit(serve(program))


if __name__ == "__main__":
    main()
