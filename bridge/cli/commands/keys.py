"""`keys` and `webhook-secret`: who may use the web adapter, and the secrets of webhooks."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING

import click

from bridge.cli.options import Commands, GroupedCommand
from bridge.cli.shared import FAILED, KEY_SETTINGS, WRONG_USAGE, settings, stop
from bridge.config import Config, shared_key
from bridge.contract.topics import ID_RULE, is_id

if TYPE_CHECKING:
    from bridge.adapters.web.keyring import Keyring

_LONGEST_NAME = 100


@click.group(cls=Commands)
def keys() -> None:
    """Manage the keys of the web adapter: each identifies a client."""


@keys.command("add")
@click.argument("client")
@click.option("--name", default="", help="A name for the key, such as that of the device.")
@settings(*KEY_SETTINGS)
def add_key(client: str, name: str, settings: Config) -> None:
    """Create a key for CLIENT, and print it: it cannot be shown again."""
    if not is_id(client):
        stop(f"keys add: {client!r}: expected {ID_RULE}", WRONG_USAGE)
    if len(name) > _LONGEST_NAME or not name.isprintable():
        stop(f"--name: expected printable text, up to {_LONGEST_NAME} characters", WRONG_USAGE)
    with _keyring(settings) as keyring:
        key, text = keyring.add(client, name, time.time())
    # The key alone is on standard output.
    click.echo(f"key {key.id} of client {client}, in {settings.keys_file}; keep it now:", err=True)
    click.echo(text)


@keys.command("list")
@settings(*KEY_SETTINGS)
def list_keys(settings: Config) -> None:
    """List the keys: the id and the client of each, not the key itself."""
    from bridge.cli.terminal import show_table

    with _keyring(settings) as keyring:
        keyring.refresh()
    rows = []
    for key in sorted(keyring.keys, key=lambda each: (each.client, each.made_at)):
        made = datetime.fromtimestamp(key.made_at).astimezone()
        rows.append((key.id, key.client, key.name, f"{made:%Y-%m-%d %H:%M}"))
    show_table(("id", "client", "name", "made"), rows)


@keys.command("revoke")
@click.argument("key_id", metavar="ID")
@settings(*KEY_SETTINGS)
def revoke_key(key_id: str, settings: Config) -> None:
    """Revoke a key; its connections are closed within seconds."""
    with _keyring(settings) as keyring:
        keyring.refresh()
        begun = [each.id for each in keyring.keys if each.id.startswith(key_id)]
        if len(begun) > 1:
            stop(f"keys revoke: several keys begin with {key_id!r}: {', '.join(begun)}", FAILED)
        found = keyring.revoke(begun[0] if begun else key_id)
    if found is None:
        stop(f"keys revoke: {key_id!r}: no such key; see `comfy2mqtt keys list`", FAILED)
    click.echo(f"key {found.id} of client {found.client} is revoked", err=True)


@click.command("webhook-secret", cls=GroupedCommand)
@click.argument("of", metavar="CLIENT")
@settings("data", "webhook_key_file")
def webhook_secret(*, of: str, settings: Config) -> None:
    """Print the secret by which a receiver checks the webhooks of a CLIENT.

    On the bridge's machine: it is made of a key in the data folder.
    """
    from bridge.sinks import signature

    if not is_id(of):
        stop(f"webhook-secret: {of!r}: expected {ID_RULE}", WRONG_USAGE)
    key = shared_key(settings.webhook_key, signature.KEY_BYTES, "webhook_key_file")
    click.echo(signature.secret_of(key, of))


@contextmanager
def _keyring(settings: Config) -> Iterator[Keyring]:
    """Give the keys' file; end the command where it cannot be read or written."""
    from bridge.adapters.web.keyring import Keyring, KeyringError

    try:
        yield Keyring(settings.keys_file)
    except KeyringError as error:
        stop(str(error), FAILED)
