"""The settings: one name each, in a TOML file, the environment and flags.

The setting `mqtt_url` is `mqtt_url = "..."` in comfy2mqtt.toml, `COMFY2MQTT_MQTT_URL` in the
environment and `--mqtt-url` as a flag, each weighing more than the one before. A wrong one stops
the start with one line that names the key, where it was given, the value and what is allowed.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_type_hints
from urllib.parse import unquote, urlsplit

from msgspec import Meta, Struct

from bridge.config.sources import ConfigError, SettingSources
from bridge.config.tables import (
    Call,
    ClientRights,
    ComfyUI,
    Display,
    Hook,
    Name,
    Number,
    Program,
    Sink,
    SinkFolder,
    Table,
    Trigger,
    Who,
)
from bridge.text import split_account

PREFIX = "COMFY2MQTT_"
FILE = "comfy2mqtt.toml"
# What the bridge makes in its folder, by patterns of names; of files also what is left of them by a
# process that was killed.
IN_DATA = (
    *("blobs", "collecting", "comfyui", "displays", "homeassistant", "managed", "object_info"),
    *("uploads", "journal.db*", "journal.lock*", "restoring-*", ".doctor-*"),
    *("hooks.json*", "keys.json*", "link.key*", "webhook.key*"),
)

_BUCKET = re.compile(r"s3://([A-Za-z0-9][A-Za-z0-9._-]{1,62})(?:/([A-Za-z0-9._/-]{0,500}))?")

Level = Literal["debug", "info", "warning", "error"]
Bytes = Annotated[int, Meta(ge=1024)]
Seconds = Annotated[float, Meta(gt=0)]
Listen = Annotated[str, Meta(pattern=r"\A(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]*):[0-9]{1,5}\Z")]


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All settings. Sizes are bytes, times are seconds.

    With neither `comfyui_url` (attach) nor `comfyui_path` (supervise) the bridge installs and
    supervises a ComfyUI of its own.
    """

    mqtt_url: str = "mqtt://127.0.0.1:1883"
    mqtt_ca: Path | None = None
    mqtt_cert: Path | None = None
    mqtt_key: Path | None = None
    mqtt_password_file: Path | None = None
    # With a client's name and password, to try whether the broker keeps clients apart.
    isolation_probe_url: str | None = None
    # Fixed: the broker keeps the requests that come while the bridge is away under this name.
    mqtt_client_id: Annotated[str, Meta(min_length=1, max_length=64)] = "comfy2mqtt"
    base_topic: Name = "comfy2mqtt"
    name: Annotated[str, Meta(min_length=1, max_length=100)] = "comfy2mqtt"
    comfyui_url: str | None = None
    comfyui_path: Path | None = None
    comfyui_python: Program | None = None
    comfyui_args: tuple[str, ...] = ()
    comfyui_secret: str | None = None
    # Of an account at Comfy.org, which pays for what partner nodes do; or a file with it.
    comfyui_api_key: str | None = None
    comfyui_api_key_file: Path | None = None
    comfyui_warm: str | None = None
    # The name of its graphics card, for other programs that ask for it.
    comfyui_gpu: Name | None = None
    # Of `comfy2mqtt comfyui install`: a git repository in place of the official one, an index of
    # torch's own builds for cards that PyPI has none for.
    comfyui_repository: str | None = None
    comfyui_torch_index: str | None = None
    # Look there once a day for newer releases, and let operators install them.
    comfyui_updates: bool = False
    # Where `comfy2mqtt models get` may fetch from, and their subdomains.
    model_hosts: tuple[str, ...] = ("huggingface.co", "civitai.com", "github.com")
    # Several of them, in place of the settings above.
    comfyui: tuple[ComfyUI, ...] = ()
    # What others do before a ComfyUI is busy, and after it was idle.
    hook: tuple[Hook, ...] = ()
    workflows: Path = Path("workflows")
    data: Path | None = None
    # Empty: SQLite in the data folder. In PostgreSQL it is the journal of a group of bridges, in
    # which each has a name, and a lease that it has to renew.
    journal: str = ""
    member: Name | None = None
    lease_s: Annotated[float, Meta(ge=1)] = 10.0
    # Empty: large blobs are where the journal is. Else a bucket, s3://bucket/prefix. Without
    # credentials here they are those of the environment, as AWS' own tools find them.
    blobs: str = ""
    s3_endpoint: str | None = None
    # Where clients reach it, if elsewhere.
    s3_public_endpoint: str | None = None
    s3_region: str | None = None
    s3_access_key: str | None = None
    s3_secret_key_file: Path | None = None
    log_level: Level = "info"
    log_format: Literal["text", "json"] = "text"
    # Off unless an address to listen on is set.
    metrics_listen: Listen | None = None
    # Whether commands are read from `bridge/request/`; the broker's ACL says who may send them.
    operator_verbs: bool = True
    max_packet: Bytes | None = None
    cloudevents: bool = False
    # A flood may have a new name in each message, where the broker lets clients choose.
    new_clients_per_s: Annotated[float, Meta(gt=0)] = 200.0
    # Without it the rate is learnt from what the broker refuses.
    max_publishes_per_s: Annotated[float, Meta(gt=0)] | None = None
    max_inline_input: Bytes = 16 * 1024 * 1024
    max_upload: Bytes = 256 * 1024 * 1024
    # Media inputs once unpacked: pixels of a picture, pictures of an animation or film, the length
    # of a film or sound; and bytes as ComfyUI holds them, of a request's inputs together.
    max_input_pixels: Number = 8192 * 8192
    max_input_frames: Number = 10_000
    max_input_seconds: Seconds = 3600.0
    max_input_unpacked: Bytes = 4 * 1024**3
    keep_uploads_s: Seconds = 86_400.0
    # Who may do what, by the client's name; `*` is everybody who is not listed.
    clients: dict[Who, ClientRights] = {}
    # Classes of nodes that graphs may be made of, with `*` and `?`; without any: all.
    allow_nodes: tuple[str, ...] = ()
    deny_nodes: tuple[str, ...] = ()
    url_timeout_s: Seconds = 30.0
    # Where outputs are delivered whoever asked for them, and folders that they may be delivered to.
    sink: tuple[Sink, ...] = ()
    sink_folder: tuple[SinkFolder, ...] = ()
    sink_timeout_s: Seconds = 300.0
    webhook_key_file: Path | None = None
    homeassistant: bool = False
    homeassistant_prefix: Annotated[str, Meta(pattern=r"\A[^+#\x00]{1,200}\Z")] = "homeassistant"
    display: tuple[Display, ...] = ()
    trigger: tuple[Trigger, ...] = ()
    max_queue: Number = 10_000
    max_attempts: Number = 3
    timeout_s: Seconds = 3600.0
    # A job hangs if it sends nothing for this many seconds. Models on slow disks take minutes.
    silence_s: Seconds = 600.0
    # Of supervised ComfyUIs; 0 is never. As long as Ollama keeps a model, which shares many a GPU.
    idle_unload_s: Annotated[float, Meta(ge=0)] = 300.0
    # How long a job whose model is loaded may go before earlier ones of its client.
    reorder_s: Annotated[float, Meta(ge=0)] = 60.0
    keep_results_s: Seconds = 7 * 86_400.0
    keep_outputs_s: Seconds = 86_400.0
    # All outputs together; over it acked ones go first, then the oldest.
    max_outputs: Bytes = 20 * 1024**3
    remember_ids_s: Seconds = 30 * 86_400.0
    # How long a prompt that ended its ComfyUI twice is refused.
    quarantine_s: Seconds = 86_400.0
    stop_s: Annotated[float, Meta(ge=0)] = 10.0
    # The web adapter: off unless an address to listen on is set.
    websocket_listen: Listen | None = None
    websocket_mqtt_url: str | None = None
    websocket_keys: Path | None = None
    websocket_origins: tuple[str, ...] = ()
    frame_ancestors: tuple[str, ...] = ()
    websocket_cert: Path | None = None
    websocket_cert_key: Path | None = None
    websocket_max_message: Bytes = 16 * 1024 * 1024
    websocket_max_connections: Number = 2_000
    websocket_max_per_key: Number = 100
    websocket_rate: Annotated[float, Meta(gt=0)] = 50.0
    websocket_buffer: Bytes = 32 * 1024 * 1024
    websocket_idle_s: Seconds = 3600.0
    # Whose word on where a request came from is taken: addresses and networks.
    trusted_proxies: tuple[str, ...] = ()
    # Where clients reach the web adapter; with it results carry links.
    public_url: str | None = None
    public_mqtt_url: str | None = None
    link_key_file: Path | None = None
    link_s: Seconds = 86_400.0
    # Whose links results carry for large outputs.
    links: Literal["bridge", "store"] = "bridge"
    # Where each was given, for errors: no setting.
    sources: SettingSources = SettingSources()

    @property
    def comfyuis(self) -> tuple[ComfyUI, ...]:
        """All ComfyUIs, the one of the plain settings under the name `default`."""
        return self.comfyui or (
            ComfyUI(
                name="default",
                url=self.comfyui_url,
                secret=self.comfyui_secret,
                path=self.comfyui_path,
                python=self.comfyui_python,
                args=self.comfyui_args,
                api_key=self.comfyui_api_key,
                api_key_file=self.comfyui_api_key_file,
                warm=self.comfyui_warm,
                gpu=self.comfyui_gpu,
            ),
        )

    @property
    def secrets(self) -> tuple[str, ...]:
        """The passwords and secrets that the settings hold, which nothing may show."""
        urls = (
            self.mqtt_url,
            self.websocket_mqtt_url or "",
            self.isolation_probe_url or "",
            *(each.url or "" for each in self.comfyuis),
            *(each.url or "" for each in self.hook),
            *(call.url or "" for call in self.calls),
        )
        found = [_password_of(url) for url in urls]
        found.append(split_account(self.journal)[0].partition(":")[2])
        found += [unquote(each) for each in found if each]
        found += [each.secret for each in self.comfyuis]
        found += [value for call in self.calls for value in call.headers.values()]
        for each in self.comfyuis:
            with suppress(OSError, UnicodeError):
                found.append(each.read_api_key())
        for file in (self.mqtt_password_file, self.s3_secret_key_file):
            with suppress(OSError, UnicodeError):
                found += [] if file is None else [first_line(file)]
        return tuple({each for each in found if each})

    @property
    def calls(self) -> Iterator[Call]:
        """Everything that hooks do by settings of their own."""
        for each in self.hook:
            yield from (call for call in (each.before_busy, each.after_idle) if call is not None)

    @property
    def member_name(self) -> str:
        """This bridge's name among several: an id."""
        host = re.sub(r"[^A-Za-z0-9_-]", "-", socket.gethostname())
        return self.member or host[:32] or "bridge"

    def instance_name(self, comfyui: ComfyUI) -> str:
        """A ComfyUI's name on the wire; among several bridges each has its own."""
        return self.on_the_wire(comfyui.name)

    def on_the_wire(self, name: str) -> str:
        """The name of a ComfyUI or GPU in topics; among several bridges each has its own."""
        return f"{self.member_name}-{name}" if self.journal else name

    @property
    def folder(self) -> Path:
        """The folder of journal, outputs and logs. Raises ConfigError for a user without a home."""
        if self.data is not None:
            return self.data
        home = os.environ.get("XDG_DATA_HOME")
        try:
            return Path(home or Path("~/.local/share").expanduser()) / "comfy2mqtt"
        except RuntimeError as error:  # a user without a home folder
            raise ConfigError(f"not set, and there is no default: {error}", "data") from None

    @property
    def bucket(self) -> tuple[str, str] | None:
        """The bucket of large blobs, and the prefix of all names in it; None without one."""
        found = _BUCKET.fullmatch(self.blobs)
        return None if found is None else (found[1], (found[2] or "").strip("/"))

    @property
    def managed(self) -> Path:
        """The folder of the ComfyUI that `comfy2mqtt comfyui install` made."""
        return self.folder / "managed"

    @property
    def keys_file(self) -> Path:
        """The file of the web adapter's keys."""
        return self.websocket_keys or self.folder / "keys.json"

    @property
    def webhook_key(self) -> Path:
        """The file of the key that the secrets of webhooks are made of."""
        return self.webhook_key_file or self.folder / "webhook.key"

    @property
    def link_key(self) -> Path:
        """The file of the key that links are signed with."""
        return self.link_key_file or self.folder / "link.key"


TYPES: Mapping[str, Any] = {
    name: kind
    for name, kind in get_type_hints(Config, include_extras=True).items()
    if name != "sources"
}
# Settings that hold tables, and of which kind; beside the file they are JSON.
TABLES: Mapping[str, type[Table]] = {
    name: kind
    for name, found in TYPES.items()
    for kind in get_args(found)
    if isinstance(kind, type) and issubclass(kind, Table)
}
HIGHEST_PORT = 65_535


def first_line(file: Path) -> str:
    """Return a file's first line, such as a secret. Raises OSError and UnicodeError."""
    return file.read_text().partition("\n")[0].strip()


def host_and_port(listen: str) -> tuple[str, int]:
    """Split `host:port` or `[IPv6]:port`; an empty host means all interfaces. Raises ValueError."""
    host, colon, port = listen.rpartition(":")
    if not colon:
        raise ValueError(f"{listen!r}: expected host:port")
    return host.strip("[]"), int(port)


def is_port(text: str) -> bool:
    """Return whether a text is the number of a port."""
    digits = text.lstrip("0")[:6]
    return text.isascii() and digits.isdecimal() and int(digits) <= HIGHEST_PORT


def _password_of(url: str) -> str | None:
    """Return the password in a URL, also in one that is none."""
    try:
        return urlsplit(url).password
    except ValueError:
        return url.partition("://")[2].rpartition("@")[0].partition(":")[2]
