"""Settings of a ComfyUI: one that the bridge supervises, or one that it attaches to."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from bridge import resources

OUR_NODES = resources.folder("custom_nodes")


class AttachConfig(msgspec.Struct, frozen=True):
    """A ComfyUI that others run, and also use.

    `url` is http or https, with user, password and path where a proxy wants them; `secret` is what
    its process has as COMFY2MQTT_SECRET. `api_key` is that of an account at Comfy.org, sent with
    prompts that have partner nodes.
    """

    url: str
    secret: str | None = None
    api_key: str | None = None


class SuperviseConfig(msgspec.Struct, frozen=True):
    """A ComfyUI that the bridge starts, restarts and stops; Linux only.

    `path` is the folder with main.py, `python` the path of the interpreter with its requirements
    (never searched for by name), `args` more arguments for it (where they contradict the bridge's
    own, the bridge's win), `environment` more variables (a COMFY2MQTT_SECRET among them is used;
    else each start draws a new one), and `custom_nodes` folders of custom nodes put on its path
    besides its own. `api_key` is as that of `AttachConfig`.
    """

    path: Path
    python: Path
    args: tuple[str, ...] = ()
    environment: Mapping[str, str] = {}
    custom_nodes: tuple[Path, ...] = (OUR_NODES,)
    api_key: str | None = None
    start_timeout_s: float = 300.0
    # Between the request to stop and the kill.
    stop_grace_s: float = 10.0
    # This many deaths in a row are a crash loop; then it is left alone for `crash_pause_s`. A
    # prompt that succeeds, or a life of `stable_after_s`, begins another row.
    crash_limit: int = 5
    stable_after_s: float = 60.0
    crash_pause_s: float = 300.0
