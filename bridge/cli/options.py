"""Options of commands: values that they take, the flags that name a broker, and their help.

`--help` shows settings in groups, each with its default and variable.
"""

from __future__ import annotations

import io
import math
import os
import sys
import types
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin
from urllib.parse import quote, urlsplit

import click
from click.shell_completion import CompletionItem
from msgspec import Struct

from bridge import config
from bridge.config import Config
from bridge.config.about import BROKER, GROUPS, group_of, meaning

_DEFAULTS = Config()
_WORDS: dict[Any, str] = {bool: "true|false", int: "NUMBER", float: "NUMBER", Path: "PATH"}
_NAMED = {
    **dict.fromkeys(config.TABLES, "JSON"),
    "comfyui_args": "ARGUMENTS",
    "journal": "URL",
}
# A number with so many digits is not shown by its powers of ten.
_LARGE = 1e6
# The exit status after Ctrl-C.
INTERRUPTED = 130
# A command's first sentence is shown whole.
_SHORT = 200
_TLS_PORT = 8883


class _Seconds(click.ParamType[float]):
    """A number of seconds above 0."""

    name = "seconds"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the number; what is none ends the command."""
        try:
            seconds = float(value)
        except ValueError:
            seconds = math.nan
        if not 0 < seconds < math.inf:
            self.fail(f"{value!r}: expected a number of seconds above 0", param, ctx)
        return seconds


class _Port(click.ParamType[int]):
    """A port."""

    name = "port"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number; what is none ends the command."""
        if not config.is_port(str(value)):
            self.fail(f"{value!r}: expected a port, 1 to {config.HIGHEST_PORT}", param, ctx)
        return int(value)


SECONDS = _Seconds()
PORT = _Port()

# Name of the parameter, its flags, and its attributes.
BROKER_FLAGS: tuple[tuple[str, tuple[str, ...], dict[str, Any]], ...] = (
    ("host", ("-H", "--host"), {"help": "The broker's host, in place of --mqtt-url."}),
    (
        "port",
        ("-p", "--port"),
        {
            "help": "The broker's port; 8883 is TLS.",
            "type": PORT,
            "metavar": "NUMBER",
        },
    ),
    ("username", ("-u", "--username"), {"help": "The user at the broker."}),
    (
        "password",
        ("-P", "--pw"),
        {"help": "The password there; other users of this machine can see it."},
    ),
)

FLAG_NAMES = tuple(name for name, _, _ in BROKER_FLAGS)


class BrokerFlags(Struct, frozen=True):
    """The values of the broker's flags; None is a flag that was not given."""

    host: str | None = None
    port: int | None = None
    username: str | None = None
    password: str | None = None

    @property
    def given(self) -> bool:
        """True if any of them is given."""
        return self != BrokerFlags()

    @property
    def flags(self) -> str:
        """The flags that are given."""
        given = (flags for name, flags, _ in BROKER_FLAGS if getattr(self, name) is not None)
        return ", ".join(each[-1] for each in given)


def broker_url(url: str, flags: BrokerFlags) -> str:
    """Return the URL of the broker that the flags name, the rest being as in `url`.

    Another host gets neither the user nor the password nor the port of `url`. Raises ValueError
    where `url` is none.
    """
    if not flags.given:
        return url
    parts = urlsplit(url if "://" in url else f"mqtt://{url}")
    if flags.host is None:
        host, port, user, secret = parts.hostname or "", parts.port, parts.username, parts.password
    else:
        host, port, user, secret = flags.host.strip("[]"), None, None, None
    if flags.username is not None:
        user, secret = quote(flags.username, safe=""), None
    if flags.password is not None:
        secret = quote(flags.password, safe="")
    scheme = "mqtts" if flags.port == _TLS_PORT and parts.scheme == "mqtt" else parts.scheme
    port = flags.port or port
    account = (user or "") + ("" if secret is None else f":{secret}")
    where = (f"[{host}]" if ":" in host else host) + ("" if port is None else f":{port}")
    if flags.host is None:  # a WebSocket's path is that host's
        where += parts.path + (f"?{parts.query}" if parts.query else "")
    return f"{scheme}://{account}@{where}" if account else f"{scheme}://{where}"


class SettingOption(click.Option):
    """A flag that is a setting, with the group that it is shown in."""

    def __init__(self, declarations: Iterable[str], *, group: str, **attributes: Any) -> None:
        super().__init__(tuple(declarations), **attributes)
        self.group = group


class GroupedCommand(click.Command):
    """A command whose settings are shown by group, below its own options."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the command's own options, then each group of settings."""
        own: list[tuple[str, str]] = []
        grouped: dict[str, list[tuple[str, str]]] = {name: [] for name in GROUPS}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is None or isinstance(parameter, click.Argument):
                continue
            group = parameter.group if isinstance(parameter, SettingOption) else None
            (own if group is None else grouped[group]).append(record)
        for title, records in (("Options", own), *grouped.items()):
            if records:
                with formatter.section(title):
                    formatter.write_dl(records, col_max=26)


class Commands(click.Group):
    """A group of commands, shown in sections where it has any.

    `sections` maps the title of each to its commands, and those to their places, as "module:name"
    below `bridge.cli.commands`: a module is imported when one of its commands is asked for.
    """

    command_class = GroupedCommand
    sections: Mapping[str, Mapping[str, str]] = {}

    def main(self, *args: Any, **options: Any) -> Any:
        """Run the program. What it writes to a stream that is closed (`>&-`) goes nowhere."""
        for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
            if getattr(sys, name) is None:
                stream = open(os.devnull, mode)  # noqa: PTH123, SIM115 - it stays open
                # Its number is the closed one's: no file or socket gets that, and children have it.
                os.set_inheritable(stream.fileno(), True)  # noqa: FBT003 - it takes no name
                setattr(sys, name, stream)
        return super().main(*args, **options)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click passes it
        """Return the names of all commands, in order."""
        return sorted({*self.commands, *chain.from_iterable(self.sections.values())})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command, None if there is none of that name."""
        for places in self.sections.values():
            if cmd_name in places and cmd_name not in self.commands:
                module, _, name = places[cmd_name].partition(":")
                found = import_module(f"bridge.cli.commands.{module}")
                self.add_command(getattr(found, name), cmd_name)
        return super().get_command(ctx, cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that is named; click looks at all for one that may have been meant."""
        names = self.list_commands(ctx)
        if args[0] not in names:
            for name in names:
                self.get_command(ctx, name)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; what the machine refuses it is a line, not a traceback.

        Ctrl-C ends it with a status of its own, also while it is loaded or asks a question.
        So is what standard output has no letters for, such as a path that is not UTF-8: it is
        escaped, as on standard error.
        """
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise SystemExit(INTERRUPTED) from None
        except click.Abort as error:  # of a prompt, for two reasons
            if isinstance(error.__context__, KeyboardInterrupt):
                raise SystemExit(INTERRUPTED) from None
            text = "standard input ended before all questions were answered"
            raise click.ClickException(text) from None
        except BrokenPipeError:
            raise  # the reader is gone: click ends quietly
        except OSError as error:
            raise click.ClickException(_refused(error)) from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands with the first sentence of each, not cut."""
        sections: Mapping[str, Iterable[str]] = self.sections
        for title, names in (sections or {"Commands": self.list_commands(ctx)}).items():
            found = [(name, self.get_command(ctx, name)) for name in names]
            rows = [(name, each.get_short_help_str(_SHORT)) for name, each in found if each]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)


def _refused(error: OSError) -> str:
    """Return what the machine refused, and where."""
    names = [str(each) for each in (error.filename, error.filename2) if each is not None]
    return f"{' -> '.join(names)}: {error.strerror}" if names else str(error)


def setting_option(
    name: str, *, hidden: bool = False
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return the decorator that adds the flag of a setting; `--help` leaves out a hidden one."""
    facts = [config.variable(name)]
    default = getattr(_DEFAULTS, name)
    if default not in (None, "", (), {}):
        facts.append(f"default {_shown(default)}")
    return click.option(
        f"--{name.replace('_', '-')}",
        name,
        cls=SettingOption,
        group=group_of(name),
        metavar=_metavar(name),
        hidden=hidden,
        help=f"{meaning(name)}  [{'; '.join(facts)}]",
    )


def broker_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the flags that name a broker as mosquitto_pub takes them."""
    for name, flags, attributes in reversed(BROKER_FLAGS):
        function = click.option(*flags, name, cls=SettingOption, group=BROKER, **attributes)(
            function
        )
    return function


def _shown(default: object) -> str:
    """Return a default as the flag takes it."""
    match default:
        case bool():
            return str(default).lower()
        case tuple():
            return ",".join(map(str, default))
        case float():
            return f"{default:g}" if default < _LARGE else f"{default:.0f}"
        case _:
            return str(default)


def _metavar(name: str) -> str:
    """Return what stands for a setting's value in its help."""
    kind = _plain(config.TYPES[name])
    if get_origin(kind) is Literal:
        return "|".join(get_args(kind))
    if name in _NAMED:
        return _NAMED[name]
    by_name = (("_per_s", "NUMBER"), ("_s", "SECONDS"), ("_url", "URL"), ("_listen", "HOST:PORT"))
    found = next((word for ending, word in by_name if name.endswith(ending)), None)
    return found or _WORDS.get(kind, "A,B,..." if get_origin(kind) is tuple else "TEXT")


def _plain(kind: Any) -> Any:
    """Return a setting's type without its bounds, and without the None that it may be."""
    if get_origin(kind) is Annotated:
        return _plain(get_args(kind)[0])
    if get_origin(kind) in (Union, types.UnionType):
        return _plain(next(each for each in get_args(kind) if each is not types.NoneType))
    return kind


def complete(
    what: str,
) -> Callable[[click.Context, click.Parameter, str], list[CompletionItem]]:
    """Return a completer that asks the broker, a function of `bridge.cli.completion`."""

    def offer(
        context: click.Context, parameter: click.Parameter, begun: str
    ) -> list[CompletionItem]:
        function = getattr(import_module("bridge.cli.completion"), what)
        found: list[CompletionItem] = function(context, parameter, begun)
        return found

    return offer
