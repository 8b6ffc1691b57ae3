"""Checks several settings together, and the files and folders that they name."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from urllib.parse import unquote, urlsplit

from bridge.config.settings import (
    HIGHEST_PORT,
    TYPES,
    Config,
    first_line,
    host_and_port,
    is_port,
)
from bridge.config.sources import ConfigError
from bridge.config.tables import ComfyUI
from bridge.text import in_quotes, split_account, without_password

_ORIGIN = re.compile(r"https?://[A-Za-z0-9._*\[\]:-]+/?")
_NO_HOST = re.compile(r"[\s/?#@\\]")
_LONGEST_ID = 64
_HTTP = "expected http://host:port or https://host:port"
_WITHOUT_QUERY = "expected http://host[:port] or https://host[:port]"
_POSTGRESQL = "expected postgresql://user:password@host:port/database"

# Where a field of a ComfyUI is set: in its table, or as a setting.
_Place = Callable[[str], tuple[str, ...]]


def check(config: Config) -> None:
    """Check what a bridge needs of several settings together. Raises ConfigError."""
    for each in CHECKS:
        each(config)


def check_comfyuis(config: Config) -> None:
    """Check how each ComfyUI is to be reached. Raises ConfigError."""
    if config.comfyui and (config.comfyui_url or config.comfyui_path):
        raise ConfigError(
            "give either [[comfyui]] tables, or comfyui_url or comfyui_path", "comfyui"
        )
    for place, each in _comfyuis(config):
        _check_comfyui(place, each)
        _check_api_key(place, each)


def _comfyuis(config: Config) -> Iterator[tuple[_Place, ComfyUI]]:
    for each in config.comfyuis:
        name = each.name if config.comfyui else None
        yield partial(_place, name), each


def _place(name: str | None, field: str) -> tuple[str, ...]:
    return (f"comfyui_{field}",) if name is None else ("comfyui", name, field)


def _check_comfyui(place: _Place, comfyui: ComfyUI) -> None:
    """Check one ComfyUI; with neither URL nor folder it is the managed one."""
    url, path = comfyui.url, comfyui.path
    if url is not None and path is not None:
        other = place("path")[-1]
        raise ConfigError(f"give one of this and {other}, to attach or to supervise", *place("url"))
    if comfyui.python is not None and path is None:
        needed = place("path")[-1]
        raise ConfigError(f"needs {needed}, the folder of that ComfyUI", *place("python"))
    if url is not None:
        check_http(url, *place("url"))
    if path is not None and not is_there((path / "main.py").is_file):
        raise ConfigError(
            f"{in_quotes(str(path))}: expected a folder with ComfyUI's main.py", *place("path")
        )
    if url is not None and comfyui.environment:
        raise ConfigError("only for one that the bridge starts", *place("environment"))
    for name in comfyui.environment:
        if not name or "=" in name:
            raise ConfigError(f"{in_quotes(name)} is no variable's name", *place("environment"))


def _check_api_key(place: _Place, comfyui: ComfyUI) -> None:
    if comfyui.api_key is not None and comfyui.api_key_file is not None:
        other = place("api_key_file")[-1]
        raise ConfigError(f"give one of this and {other}", *place("api_key"))
    where = place("api_key" if comfyui.api_key_file is None else "api_key_file")
    file = comfyui.api_key_file
    try:
        key = comfyui.read_api_key()
    except OSError as error:
        raise ConfigError(f"{in_quotes(str(file))}: {error.strerror}", *where) from None
    except UnicodeError:
        raise ConfigError(f"{in_quotes(str(file))}: expected a file of text", *where) from None
    if key is not None and not (key.isascii() and key.isprintable() and key.strip()):
        raise ConfigError("(not shown): expected a key of Comfy.org, in one line", *where)


def _check_names(config: Config) -> None:
    """Check that no name stands for two things."""
    for table in ("comfyui", "display", "hook", "sink_folder", "trigger"):
        names = [each.name for each in getattr(config, table)]
        for name in names:
            if names.count(name) > 1:
                raise ConfigError("there are two of that name", table, name)


def _check_topic_rights(config: Config) -> None:
    for name, client in config.clients.items():
        for field in ("input_topics", "sink_topics"):
            for topic in getattr(client, field) or ():
                # No client is given what the bridge publishes to another, or says as the bridge.
                if topic.partition("/")[0] in ("#", "+", config.base_topic):
                    raise ConfigError(
                        f"{in_quotes(topic)} takes in the bridge's own topics: begin with "
                        f"another first level than {config.base_topic!r}, written out",
                        *("clients", name, field),
                    )


def _check_member(config: Config) -> None:
    for each in config.comfyuis:
        if any(len(config.on_the_wire(name)) > _LONGEST_ID for name in (each.name, each.gpu or "")):
            raise ConfigError("too long, with the name of a ComfyUI or its gpu after it", "member")


def _check_workflows(config: Config) -> None:
    folder = config.workflows
    if not is_there(folder.is_dir):
        raise ConfigError(f"{in_quotes(str(folder))}: expected an existing folder", "workflows")
    if not os.access(folder, os.R_OK | os.X_OK):
        raise ConfigError(f"{in_quotes(str(folder))}: you may not read this folder", "workflows")


def _check_journal(config: Config) -> None:
    """Check the address as far as libpq would only look at it when it connects."""
    url = config.journal
    if not url:
        return
    _, rest = split_account(url)
    hosts = re.split(r"[/?]", rest, maxsplit=1)[0]
    problem = _POSTGRESQL if not url.startswith(("postgresql://", "postgres://")) else None
    for each in hosts.split(",") if hosts else ():
        _, colon, port = each.rpartition("]")[2].rpartition(":")
        number = unquote(port).strip() if colon else ""
        host = unquote(each.partition(":")[0]) if each[:1] != "[" else ""
        if each.count("[") != each.count("]"):
            problem = problem or f"{_POSTGRESQL}; an IPv6 address in [ ]"
        # A path is the folder of a socket.
        elif not (host.startswith(("/", "@")) or can_be_host(host)):
            problem = problem or "no host can have this name"
        elif number and not is_port(number):
            problem = problem or f"the port must be a number from 1 to {HIGHEST_PORT}"
    if problem is not None:
        raise ConfigError(f"{in_quotes(without_password(url))}: {problem}", "journal")


def _check_blobs(config: Config) -> None:
    given = [name for name in TYPES if name.startswith("s3_") and getattr(config, name) is not None]
    given += ["links"] * (config.links == "store")
    if not config.blobs and given:
        raise ConfigError("needs blobs, a bucket: s3://bucket/prefix", given[0])
    if config.blobs and config.bucket is None:
        raise ConfigError(
            f"{in_quotes(without_password(config.blobs))}: expected s3://bucket or "
            "s3://bucket/prefix, in letters, digits, '.', '_' and '-', the bucket's name with "
            "three at least",
            "blobs",
        )
    for name in ("s3_endpoint", "s3_public_endpoint"):
        _check_http(config, name)
    if (config.s3_access_key is None) != (config.s3_secret_key_file is None):
        name = "s3_access_key" if config.s3_secret_key_file is None else "s3_secret_key_file"
        raise ConfigError("s3_access_key and s3_secret_key_file: give both, or neither", name)
    if config.s3_secret_key_file is not None:
        try:
            first_line(config.s3_secret_key_file)
        except (OSError, UnicodeError):
            file = str(config.s3_secret_key_file)
            raise ConfigError(f"{file!r}: expected a file of text", "s3_secret_key_file") from None


def check_downloads(config: Config) -> None:
    """Check what ComfyUI and models are downloaded from. Raises ConfigError."""
    for host in config.model_hosts:
        if not host or _NO_HOST.search(host) is not None:
            raise ConfigError(
                f"{in_quotes(host)}: expected names of hosts, as in a URL", "model_hosts"
            )
    # As pip takes it, it may also be a folder, or a URL of one.
    index = config.comfyui_torch_index
    remote = index is not None and "://" in index and not index.lower().startswith("file:")
    if index is not None and (index.startswith("-") or (remote and not is_http(index))):
        raise ConfigError(
            f"{in_quotes(without_password(index))}: {_WITHOUT_QUERY}, or a folder",
            "comfyui_torch_index",
        )
    repository = config.comfyui_repository or ""
    if repository.startswith("-"):
        raise ConfigError(
            f"{in_quotes(repository)}: expected the address of a git repository",
            "comfyui_repository",
        )


def check_websocket(config: Config) -> None:
    """Check what the web adapter needs of several settings together. Raises ConfigError."""
    _check_http(config, "public_url")
    for name, words in (("websocket_origins", ("*",)), ("frame_ancestors", ("*", "self"))):
        for each in getattr(config, name):
            # Nothing else either: the latter are written into a header as they are.
            if each not in words and not (_ORIGIN.fullmatch(each) and is_http(each, query=False)):
                choices = ", ".join(("http://host[:port]", "https://host[:port]", *words))
                raise ConfigError(f"{in_quotes(each)}: expected one of {choices}", name)
    for each in config.trusted_proxies:
        _check_network(each)
    for name in ("websocket_cert", "websocket_cert_key"):
        check_file(config, name)
    if config.websocket_cert_key is not None and config.websocket_cert is None:
        raise ConfigError("needs websocket_cert", "websocket_cert_key")


def _check_network(text: str) -> None:
    try:
        ipaddress.ip_network(text)
    except ValueError:
        problem = "expected an address or a network, such as 10.0.0.0/8"
        with suppress(ValueError):
            problem += f"; is it {ipaddress.ip_network(text, strict=False)}?"
        raise ConfigError(f"{in_quotes(text)}: {problem}", "trusted_proxies") from None


def _check_ports(config: Config) -> None:
    """Check that the page and the metrics do not listen at the same port."""
    if config.websocket_listen is None or config.metrics_listen is None:
        return
    (host, port), (other, same) = map(
        host_and_port, (config.websocket_listen, config.metrics_listen)
    )
    both = {host, other}
    # Those of IPv6 alone do not meet those of IPv4.
    everywhere = both & {"", "0.0.0.0", "::"}  # noqa: S104 - names of what may be set, not a choice
    apart = "" not in both and len({":" in each for each in both}) > 1
    if port == same != 0 and (host == other or (everywhere and not apart)):
        raise ConfigError(
            f"{config.metrics_listen!r}: websocket_listen has that port: choose another one",
            "metrics_listen",
        )


def check_file(config: Config, name: str) -> None:
    """Check that a setting names a file, if it is set. Raises ConfigError."""
    path: Path | None = getattr(config, name)
    if path is not None and not is_there(lambda: path.exists() and not path.is_dir()):
        raise ConfigError(f"{in_quotes(str(path))}: expected a file", name)


def _check_http(config: Config, name: str) -> None:
    url: str | None = getattr(config, name)
    if url is not None:
        check_http(url, name, query=False)


def check_http(url: str, *place: str | int, query: bool = True) -> None:
    """Check a URL of http or https; `query` is as in `is_http`. Raises ConfigError."""
    if not is_http(url, query=query):
        allowed = _HTTP if query else _WITHOUT_QUERY
        raise ConfigError(f"{in_quotes(without_password(url))}: {allowed}", *place)


def is_there(exists: Callable[[], bool]) -> bool:
    """Return what `exists` returns of the disk; False where it raises."""
    try:
        return exists()
    except (OSError, ValueError):
        return False


def is_http(url: str, *, query: bool = True) -> bool:
    """Return whether this is an http or https URL with a host and a port that can be one."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    # What else has a space is sent percent-encoded, as in http://lamp/cm?cmnd=Power On.
    host = parts.hostname or ""
    return (
        parts.scheme in ("http", "https")
        and bool(host)
        and host.isprintable()
        and " " not in host
        and can_be_host(host)
        and port != 0
        and (query or not parts.query)
    )


def can_be_host(name: str) -> bool:
    """Return whether a host's name could be looked up."""
    try:
        name.encode("idna")
    except UnicodeError:
        return False
    return True


# Each looks at other settings than those before it.
CHECKS: tuple[Callable[[Config], None], ...] = (
    check_comfyuis,
    _check_names,
    _check_topic_rights,
    _check_journal,
    _check_blobs,
    check_downloads,
    _check_member,
    _check_workflows,
    check_websocket,
    _check_ports,
)
