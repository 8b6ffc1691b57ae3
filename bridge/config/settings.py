"""The settings: one name each, in a TOML file, the environment and flags.

The setting `mqtt_url` is `mqtt_url = "..."` in comfy2mqtt.toml, `COMFY2MQTT_MQTT_URL` in the
environment and `--mqtt-url` as a flag, each weighing more than the one before. A wrong one stops
the start with one line that names the key, the value and what is allowed.
"""

from __future__ import annotations

import ipaddress
import os
import re
import shlex
import socket
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_type_hints
from urllib.parse import unquote, urlsplit

import msgspec
from msgspec import Meta, Struct

from bridge import resources
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
    Trigger,
    Who,
)
from bridge.text import as_utf8, did_you_mean, plain_problem

PREFIX = "COMFY2MQTT_"
FILE = "comfy2mqtt.toml"
# Environment variables under our prefix that are no settings of the bridge.
_NOT_OURS = ("COMFY2MQTT_TEST_", "COMFY2MQTT_SECRET", "COMFY2MQTT_CLIENT", "COMFY2MQTT_CONFIG")
_SECRETS = frozenset(
    {
        *("journal", "mqtt_url", "websocket_mqtt_url", "isolation_probe_url"),
        *("comfyui_secret", "comfyui_url", "comfyui_api_key", "comfyui", "hook", "sink"),
    }
)
# Settings that hold tables; beside the file, as JSON.
_TABLES = frozenset({"clients", "comfyui", "display", "hook", "sink", "sink_folder", "trigger"})
# Lists that variables and flags may give with commas.
_LISTS = frozenset(
    {
        *("allow_nodes", "deny_nodes", "frame_ancestors", "model_hosts", "trusted_proxies"),
        "websocket_origins",
    }
)

# Settings with an address to listen at.
_LISTENS = frozenset({"metrics_listen", "websocket_listen"})

_BUCKET = re.compile(r"s3://([A-Za-z0-9][A-Za-z0-9._-]{1,62})(?:/([A-Za-z0-9._/-]{0,500}))?")
_ORIGIN = re.compile(r"https?://[A-Za-z0-9._*\[\]:-]+/?")
_LONGEST_ID = 64
_HIGHEST_PORT = 65_535

Level = Literal["debug", "info", "warning", "error"]
Bytes = Annotated[int, Meta(ge=1024)]
Seconds = Annotated[float, Meta(gt=0)]
Listen = Annotated[str, Meta(pattern=r"\A(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]*):[0-9]{1,5}\Z")]


class ConfigError(ValueError):
    """A setting is wrong; the text is one line for the user."""


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
            self.journal,
            *(each.url or "" for each in self.comfyuis),
            *(each.url or "" for each in self.hook),
            *(call.url or "" for call in self.calls),
        )
        found = [urlsplit(url).password for url in urls]
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
        """The folder of journal, outputs and logs."""
        if self.data is not None:
            return self.data
        home = os.environ.get("XDG_DATA_HOME") or Path("~/.local/share").expanduser()
        return Path(home) / "comfy2mqtt"

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


TYPES: Mapping[str, Any] = get_type_hints(Config, include_extras=True)


def load(
    flags: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
    file: Path | None = None,
) -> Config:
    """Read the settings from the file, the environment and flags.

    `flags` are by setting name, those not given are None. `file` defaults to comfy2mqtt.toml in
    the working folder, if there is one. Raises ConfigError.
    """
    environment = os.environ if environment is None else environment
    values: dict[str, Any] = {}
    for key, value in _from_file(file).items():
        if key not in TYPES:
            raise ConfigError(
                f"{file or FILE}: {key}: no such setting{did_you_mean(key, TYPES)} "
                "(docs/settings.md and `comfy2mqtt serve --help` list all)"
            )
        values[key] = _read(key, value, f"{file or FILE}: {key}")
    for variable, text in environment.items():
        key = variable.removeprefix(PREFIX).lower()
        if variable.startswith(PREFIX) and key in TYPES:
            values[key] = _read(key, text, variable)
    for key, value in (flags or {}).items():
        if value is not None:
            values[key] = _read(key, value, f"--{key.replace('_', '-')}")
    if "workflows" not in values and not Config().workflows.is_dir():
        values["workflows"] = resources.folder("workflows")
    return Config(**values)


def check(config: Config) -> None:
    """Check what a bridge needs of several settings together. Raises ConfigError."""
    _check_comfyui("comfyui_", config.comfyui_url, config.comfyui_path, config.comfyui_python)
    for each in config.comfyuis:
        _check_api_key(f"comfyui {each.name!r}: " if config.comfyui else "comfyui_", each)
    if config.comfyui and (config.comfyui_url or config.comfyui_path):
        raise ConfigError("comfyui: give either [[comfyui]] tables, or comfyui_url or comfyui_path")
    _check_names(config)
    for each in config.comfyui:
        where = f"comfyui {each.name!r}: "
        _check_comfyui(where, each.url, each.path, each.python)
        if each.url is not None and each.environment:
            raise ConfigError(f"{where}environment: only for one that the bridge starts")
    _check_topic_rights(config)
    _check_journal(config)
    _check_blobs(config)
    for each in config.comfyuis:
        if any(len(config.on_the_wire(name)) > _LONGEST_ID for name in (each.name, each.gpu or "")):
            raise ConfigError("member: too long, with the name of a ComfyUI or its gpu after it")
    if not config.workflows.is_dir():
        raise ConfigError(f"workflows: {str(config.workflows)!r}: expected an existing folder")
    check_websocket(config)


def _check_journal(config: Config) -> None:
    if config.journal and not config.journal.startswith(("postgresql://", "postgres://")):
        raise ConfigError("journal: expected postgresql://user:password@host:port/database")


def _check_blobs(config: Config) -> None:
    given = [name for name in TYPES if name.startswith("s3_") and getattr(config, name) is not None]
    given += ["links"] * (config.links == "store")
    if not config.blobs and given:
        raise ConfigError(f"{given[0]}: needs blobs, a bucket: s3://bucket/prefix")
    if config.blobs and config.bucket is None:
        raise ConfigError(
            f"blobs: {config.blobs!r}: expected s3://bucket or s3://bucket/prefix, in letters,"
            " digits, '.', '_' and '-', the bucket's name with three at least"
        )
    for name in ("s3_endpoint", "s3_public_endpoint"):
        url = getattr(config, name)
        if url is not None and not _is_http(url, query=False):
            raise ConfigError(
                f"{name}: {url!r}: expected http://host[:port] or https://host[:port]"
            )
    if (config.s3_access_key is None) != (config.s3_secret_key_file is None):
        raise ConfigError("s3_access_key and s3_secret_key_file: give both, or neither")
    if config.s3_secret_key_file is not None:
        try:
            first_line(config.s3_secret_key_file)
        except (OSError, UnicodeError):
            file = str(config.s3_secret_key_file)
            raise ConfigError(f"s3_secret_key_file: {file!r}: expected a file of text") from None


def check_websocket(config: Config) -> None:
    """Check what the web adapter needs of several settings together. Raises ConfigError."""
    if config.public_url is not None and not _is_http(config.public_url, query=False):
        raise ConfigError("public_url: expected http://host[:port] or https://host[:port]")
    for name, words in (("websocket_origins", ("*",)), ("frame_ancestors", ("*", "self"))):
        for each in getattr(config, name):
            # Nothing else either: the latter are written into a header as they are.
            if each not in words and not (_ORIGIN.fullmatch(each) and _is_http(each, query=False)):
                allowed = ", ".join(("http://host[:port]", "https://host[:port]", *words))
                raise ConfigError(f"{name}: {each!r}: expected one of {allowed}")
    for each in config.trusted_proxies:
        try:
            ipaddress.ip_network(each)
        except ValueError as error:
            raise ConfigError(f"trusted_proxies: {error}") from None
    for name in ("websocket_cert", "websocket_cert_key"):
        path: Path | None = getattr(config, name)
        if path is not None and not path.is_file():
            raise ConfigError(f"{name}: {str(path)!r}: expected a file")
    if config.websocket_cert_key is not None and config.websocket_cert is None:
        raise ConfigError("websocket_cert_key: needs websocket_cert")


def _check_names(config: Config) -> None:
    """Check that no name stands for two things."""
    for table in ("comfyui", "display", "hook", "sink_folder", "trigger"):
        names = [each.name for each in getattr(config, table)]
        for name in names:
            if names.count(name) > 1:
                raise ConfigError(f"{table} {name!r}: there are two of that name")


def _check_topic_rights(config: Config) -> None:
    for name, client in config.clients.items():
        for field in ("input_topics", "sink_topics"):
            for topic in getattr(client, field) or ():
                _check_topic_right(f"clients.{name}.{field}", topic, config.base_topic)


def _check_topic_right(where: str, topic: str, base: str) -> None:
    """Check that no client is given what the bridge publishes to another, or says as the bridge."""
    if topic.partition("/")[0] in ("#", "+", base):
        raise ConfigError(
            f"{where}: {topic!r} takes in the bridge's own topics: begin with another first level "
            f"than {base!r}, written out"
        )


def _check_comfyui(where: str, url: str | None, path: Path | None, python: str | None) -> None:
    """Check how one ComfyUI is to be reached; with neither URL nor folder it is the managed one."""
    if url is not None and path is not None:
        raise ConfigError(f"{where}url and {where}path: give one, to attach or to supervise")
    if python is not None and path is None:
        raise ConfigError(f"{where}python: needs {where}path, the folder of that ComfyUI")
    if url is not None and not _is_http(url):
        raise ConfigError(f"{where}url: expected http://host:port or https://host:port")
    if path is not None and not (path / "main.py").is_file():
        raise ConfigError(f"{where}path: {str(path)!r}: expected a folder with ComfyUI's main.py")


def _check_api_key(where: str, comfyui: ComfyUI) -> None:
    if comfyui.api_key is not None and comfyui.api_key_file is not None:
        raise ConfigError(f"{where}api_key and {where}api_key_file: give one")
    name = "api_key" if comfyui.api_key_file is None else "api_key_file"
    try:
        key = comfyui.read_api_key()
    except OSError as error:
        file = comfyui.api_key_file
        raise ConfigError(f"{where}{name}: {str(file)!r}: {error.strerror}") from None
    except UnicodeError:
        raise ConfigError(f"{where}{name}: expected a file of text") from None
    if key is not None and not (key.isascii() and key.isprintable() and key.strip()):
        raise ConfigError(f"{where}{name}: (not shown): expected a key of Comfy.org, in one line")


def _is_http(url: str, *, query: bool = True) -> bool:
    """Return whether this is an http or https URL with a host and a port that can be one."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    return (
        parts.scheme in ("http", "https")
        and bool(parts.hostname)
        and port != 0
        and (query or not parts.query)
    )


def first_line(file: Path) -> str:
    """Return a file's first line, such as a secret. Raises OSError and UnicodeError."""
    return file.read_text().partition("\n")[0].strip()


def host_and_port(listen: str) -> tuple[str, int]:
    """Split `host:port` or `[IPv6]:port`; an empty host means all interfaces. Raises ValueError."""
    host, colon, port = listen.rpartition(":")
    if not colon:
        raise ValueError(f"{listen!r}: expected host:port")
    return host.strip("[]"), int(port)


def unknown(environment: Mapping[str, str]) -> list[str]:
    """Environment variables under our prefix that mean nothing: most likely misspelt."""
    return sorted(
        variable
        for variable in environment
        if variable.startswith(PREFIX)
        and not variable.startswith(_NOT_OURS)
        and variable.removeprefix(PREFIX).lower() not in TYPES
    )


def variable(setting: str) -> str:
    """Return the name of a setting's environment variable."""
    return f"{PREFIX}{setting.upper()}"


def meant(misspelt: str) -> str:
    """Return `; did you mean 'COMFY2MQTT_X'?` for a misspelt variable, if a setting is like it."""
    return did_you_mean(misspelt, map(variable, TYPES))


def _from_file(file: Path | None) -> dict[str, Any]:
    path = file or Path(FILE)
    try:
        return tomllib.loads(as_utf8(path.read_bytes()).decode())
    except FileNotFoundError:
        if file is None:
            return {}
        raise ConfigError(f"{path}: no such file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None


def _read(key: str, value: Any, where: str) -> Any:
    if key in _LISTS and isinstance(value, str):
        value = [each.strip() for each in value.split(",") if each.strip()]
    if key == "comfyui_args" and isinstance(value, str):
        try:
            return tuple(shlex.split(value))
        except ValueError as error:
            raise ConfigError(f"{where}: {value!r}: {error}") from None
    if key in _TABLES and isinstance(value, str):
        try:
            value = msgspec.json.decode(value)
        except (msgspec.DecodeError, RecursionError) as error:
            raise ConfigError(f"{where}: expected JSON: {error}") from None
    try:
        # Strings stand for numbers in the environment and in flags.
        found = msgspec.convert(value, TYPES[key], strict=False, dec_hook=_path)
    except msgspec.ValidationError as error:
        shown = "(not shown)" if key in _SECRETS else repr(value)
        raise ConfigError(f"{where}: {shown}: {_allowed(key, str(error))}") from None
    if key in _LISTENS and host_and_port(found)[1] > _HIGHEST_PORT:
        raise ConfigError(f"{where}: {value!r}: expected a port up to {_HIGHEST_PORT}")
    return found


def _path(kind: type, value: Any) -> Any:
    if kind is Path and isinstance(value, str) and value:
        try:
            return Path(value).expanduser()
        except RuntimeError as error:  # nobody of that name
            raise msgspec.ValidationError(str(error)) from None
    raise msgspec.ValidationError("Expected a path")


def _allowed(key: str, problem: str) -> str:
    """Return what was wrong with a value, and what is allowed, from msgspec's sentence."""
    if ":[0-9]" in problem:
        return "expected host:port, such as 127.0.0.1:8090"
    if "matching regex" in problem:
        return "expected 1 to 64 of the characters A-Z a-z 0-9 _ -"
    choices = get_args(TYPES[key])
    if "Invalid enum value" in problem and choices:
        return f"expected one of {', '.join(map(str, choices))}"
    sentence = plain_problem(problem).replace("an object", "a table")  # as TOML calls it
    unit = (
        "bytes" if TYPES[key] in (Bytes, Bytes | None) else "seconds" if key.endswith("_s") else ""
    )
    return f"{sentence} ({unit})" if unit and "number" in sentence else sentence
