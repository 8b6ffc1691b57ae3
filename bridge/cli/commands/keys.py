"""`keys` and `webhook-secret`: the secrets of clients."""

from __future__ import annotations

import click

from bridge.cli.options import Commands, GroupedCommand
from bridge.cli.shared import (
    KEY_SETTINGS,
    settings,
)
from bridge.config import Config


@click.group(cls=Commands)
def keys() -> None:
    """Manage the keys of the web adapter: each identifies a client."""


@keys.command("add")
@click.argument("client")
@click.option("--name", default="", help="A name for the key, such as that of the device.")
@settings(*KEY_SETTINGS)
def add_key(client: str, name: str, settings: Config) -> None:
    """Create a key for CLIENT, and print it: it cannot be shown again."""
    from bridge.cli.keys import add

    add(settings, client, name)


@keys.command("list")
@settings(*KEY_SETTINGS)
def list_keys(settings: Config) -> None:
    """List the keys: the id and the client of each, not the key itself."""
    from bridge.cli.keys import show

    show(settings)


@keys.command("revoke")
@click.argument("key_id", metavar="ID")
@settings(*KEY_SETTINGS)
def revoke_key(key_id: str, settings: Config) -> None:
    """Revoke a key; its connections are closed within seconds."""
    from bridge.cli.keys import revoke

    revoke(settings, key_id)


@click.command("webhook-secret", cls=GroupedCommand)
@click.argument("of", metavar="CLIENT")
@settings("data", "webhook_key_file")
def webhook_secret(*, of: str, settings: Config) -> None:
    """Print the secret by which a receiver checks the webhooks of a CLIENT.

    On the bridge's machine: it is made of a key in the data folder.
    """
    from bridge.cli.keys import show_webhook_secret

    show_webhook_secret(settings, of)
