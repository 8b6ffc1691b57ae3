"""Programs that stand in for a ComfyUI gone wrong."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from bridge.comfyui.settings import SuperviseConfig

# Answers our nodes' greeting as they would, with a process id of its own or another.
GREETER = """
import http.server, json, os, sys, signal
port = int(sys.argv[sys.argv.index("--port") + 1])
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        right = self.headers["X-Comfy2MQTT-Secret"] == os.environ["COMFY2MQTT_SECRET"]
        right = right or self.path == "/queue" and os.environ.get("COMFY2MQTT_GUARD") != "1"
        hello = {"protocol": 1, "version": "0", "pid": PID}
        self.send_response(STATUS if right else 403)
        self.end_headers()
        self.wfile.write(json.dumps(hello).encode())
    def log_message(self, *_): pass
http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


def stand_in(folder: Path, code: str, **settings: object) -> SuperviseConfig:
    """Settings for a folder whose main.py is this program."""
    place = folder / "ComfyUI"
    place.mkdir(exist_ok=True)
    (place / "main.py").write_text(code, encoding="utf-8")
    config = SuperviseConfig(path=place, python=Path(sys.executable), stop_grace_s=1)
    return msgspec.structs.replace(config, **settings)


def greeter(*, pid: str = "os.getpid()", status: int = 200) -> str:
    return GREETER.replace("PID", pid).replace("STATUS", str(status))
