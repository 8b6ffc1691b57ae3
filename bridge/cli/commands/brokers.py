"""`mosquitto` and `broker-files`: the settings and the access rules of a broker."""

from __future__ import annotations

from pathlib import Path

import click

from bridge.cli.options import PORT, Commands, GroupedCommand
from bridge.cli.shared import run_async, settings
from bridge.config import Config
from bridge.contract.access import ROLES, Role
from bridge.contract.broker_files import BROKERS, Broker


@click.group(cls=Commands)
def mosquitto() -> None:
    """Write files for a mosquitto that keeps each user to its own topics."""


_FOLDER = click.option(
    "--folder",
    default="/etc/mosquitto/conf.d",
    show_default=True,
    type=click.Path(path_type=Path),
    help="The folder of the broker's settings.",
)


@mosquitto.command("setup")
@_FOLDER
@click.option(
    *("--port",), default=1883, type=PORT, show_default=True, help="Listen on this machine only."
)
@click.option(*("--tls-port",), default=8883, type=PORT, show_default=True, help="On the network.")
@click.option(
    "--certificate",
    type=click.Path(path_type=Path),
    help="A certificate, PEM; with --key the broker uses TLS.",
)
@click.option("--key", type=click.Path(path_type=Path), help="The certificate's, PEM.")
@settings("base_topic")
def mosquitto_setup(
    *,
    folder: Path,
    port: int,
    tls_port: int,
    certificate: Path | None,
    key: Path | None,
    settings: Config,
) -> None:
    """Write the broker's settings, ACL and users; existing files stay unchanged."""
    from bridge.cli.mosquitto import BrokerListeners, set_up

    listeners = BrokerListeners(port, tls_port, certificate, key)
    run_async(set_up(settings, folder, listeners))


@mosquitto.command("add-user")
@click.argument("name")
@_FOLDER
@click.option("--role", type=click.Choice(ROLES), help="Without a role the user is only a client.")
@click.option(
    "--password-stdin", is_flag=True, help="Read the password instead of choosing a random one."
)
@settings("base_topic")
def mosquitto_add_user(
    *, name: str, folder: Path, role: Role | None, password_stdin: bool, settings: Config
) -> None:
    """Add a user: the client NAME, with the rights of a role. Run again, it sets a new password."""
    from bridge.cli.mosquitto import add_user

    run_async(add_user(settings, folder, name, role, given=password_stdin))


@click.command("broker-files", cls=GroupedCommand)
@click.argument("broker", type=click.Choice(tuple(BROKERS)))
@click.option("--toml", is_flag=True, help="Print the bridge's settings for BROKER instead.")
@settings("base_topic")
def broker_files(*, broker: Broker, toml: bool, settings: Config) -> None:
    """Print who may use which topic as a file for BROKER; for mosquitto: `mosquitto setup`."""
    from bridge.cli.mosquitto import print_file

    print_file(settings, broker, toml=toml)
