"""The command line: `comfy2mqtt COMMAND`.

Exit status: 0 done; 1 it failed, or was refused; 2 wrong usage or settings; 3 no broker;
130 interrupted. What a command found is on standard output, its progress on standard error.

Only the command that is run is loaded, and it imports what it needs when it runs, so that each
starts fast.
"""

from __future__ import annotations

import click

from bridge import __version__
from bridge.cli.options import Commands


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="comfy2mqtt")
def main() -> None:
    """Run ComfyUI workflows over MQTT: requests in, progress and pictures out."""


# The sections of the help: each command, and where it is below `bridge.cli.commands`.
main.sections = {
    "Run jobs": {
        "run": "run:run",
        "get": "run:get",
        "show": "jobs:show_one",
        "jobs": "jobs:jobs",
        "cancel": "jobs:cancel",
        "replay": "run:replay",
        "workflows": "jobs:workflows",
        "mcp": "serve:mcp",
    },
    "Operate a bridge": {
        "serve": "serve:serve",
        "doctor": "operate:doctor",
        "queue": "operate:queue",
        "comfyui": "comfyui:comfyui",
        "watch": "operate:watch",
        "logs": "operate:show_logs",
        "keys": "keys:keys",
        "backup": "operate:backup",
        "restore": "operate:restore",
        "websocket": "serve:websocket",
        "webhook-secret": "keys:webhook_secret",
    },
    "Set up": {
        "init": "setup:init",
        "demo": "setup:demo",
        "models": "setup:models",
        "mosquitto": "brokers:mosquitto",
        "broker-files": "brokers:broker_files",
        "completion": "setup:completion",
        "convert": "setup:convert",
        "asyncapi": "setup:asyncapi",
    },
}
