"""`comfy2mqtt keys`, who may use the web adapter, and the secrets of webhooks."""

from __future__ import annotations

import time
from datetime import datetime

import click

from bridge.adapters.web.keyring import Keyring, KeyringError
from bridge.cli.shared import FAILED, WRONG_USAGE, stop
from bridge.cli.terminal import show_table
from bridge.config import Config, shared_key
from bridge.contract.topics import ID_RULE, is_id
from bridge.sinks import signature

_LONGEST_NAME = 100


def add(settings: Config, client: str, name: str) -> None:
    """Make a key and print it; messages are on standard error."""
    if not is_id(client):
        stop(f"keys add: {client!r}: expected {ID_RULE}", WRONG_USAGE)
    if len(name) > _LONGEST_NAME or not name.isprintable():
        stop(f"--name: expected printable text, up to {_LONGEST_NAME} characters", WRONG_USAGE)
    try:
        key, text = Keyring(settings.keys_file).add(client, name, time.time())
    except KeyringError as error:
        stop(str(error), FAILED)
    click.echo(f"key {key.id} of client {client}, in {settings.keys_file}; keep it now:", err=True)
    click.echo(text)


def show(settings: Config) -> None:
    """Print a table of the keys."""
    rows = []
    for key in sorted(_keyring(settings).keys, key=lambda each: (each.client, each.made_at)):
        made = datetime.fromtimestamp(key.made_at).astimezone()
        rows.append((key.id, key.client, key.name, f"{made:%Y-%m-%d %H:%M}"))
    show_table(("id", "client", "name", "made"), rows)


def revoke(settings: Config, key_id: str) -> None:
    """Take a key out of the file."""
    keyring = _keyring(settings)
    begun = [each.id for each in keyring.keys if each.id.startswith(key_id)]
    if len(begun) > 1:
        stop(f"keys revoke: several keys begin with {key_id!r}: {', '.join(begun)}", FAILED)
    try:
        found = keyring.revoke(begun[0] if begun else key_id)
    except KeyringError as error:
        stop(str(error), FAILED)
    if found is None:
        stop(f"keys revoke: {key_id!r}: no such key; see `comfy2mqtt keys list`", FAILED)
    click.echo(f"key {found.id} of client {found.client} is revoked", err=True)


def show_webhook_secret(settings: Config, client: str) -> None:
    """Print the secret of a client's webhooks."""
    if not is_id(client):
        stop(f"webhook-secret: {client!r}: expected {ID_RULE}", WRONG_USAGE)
    key = shared_key(settings.webhook_key, signature.KEY_BYTES, "webhook_key_file")
    click.echo(signature.secret_of(key, client))


def _keyring(settings: Config) -> Keyring:
    keyring = Keyring(settings.keys_file)
    try:
        keyring.refresh()
    except KeyringError as error:
        stop(str(error), FAILED)
    return keyring
