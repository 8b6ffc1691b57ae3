"""Names of what a work touches, by which several bridges keep apart (`database.Touched`).

A client stands for all rows that have its name: its numbers, jobs, sets, outputs, uploads and
webhooks. What clients share has names of its own: bytes by their hash, estimates by the workflow,
what adapters keep by its kind, and a member's own row, for its heartbeats.
The other members, the intake and the notes stand under everything, and so does what goes through
the rows of all clients. What another work may do to a row that it does not name, a work must
neither change nor rely on.
"""

from __future__ import annotations

from collections.abc import Iterable

from bridge.jobs.database import Touched
from bridge.jobs.job import Draft, KeptOutput

# Each single statement finds what is committed.
NOTHING: frozenset[str] = frozenset()
# What the ComfyUIs of a group's bridges have.
OFFERS = frozenset(("offers",))


def clients(names: Iterable[str]) -> Touched:
    """Return the rows of clients."""
    return frozenset(f"client {name}" for name in names)


def client(name: str, sha256s: Iterable[str] = ()) -> Touched:
    """Return the rows of one client, and bytes."""
    return frozenset((f"client {name}", *(f"bytes {sha256}" for sha256 in sha256s)))


def draft(wanted: Draft, *more: Draft, sha256s: Iterable[str] = ()) -> Touched:
    """Return what is touched by writing down jobs of one client; `sha256s` are further bytes."""
    blobs = (blob.sha256 for each in (wanted, *more) for blob in each.plan.blobs)
    return client(wanted.key.client, (*blobs, *sha256s))


def outputs(name: str, kept: Iterable[KeptOutput]) -> Touched:
    """Return what is touched by keeping outputs of a client's job or set."""
    return client(name, (output.sha256 for output in kept))


def blobs(sha256s: Iterable[str]) -> Touched:
    """Return bytes, whoever has them."""
    return frozenset(f"bytes {sha256}" for sha256 in sha256s)


def member(life: str) -> Touched:
    """Return a member's own row, but for what is done to it under everything."""
    return frozenset((f"member {life}",))


def workflows(names: Iterable[str]) -> Touched:
    """Return the estimates of workflows."""
    return frozenset(f"workflow {name}" for name in names)


def adapter_store(kind: str) -> Touched:
    """Return what adapters keep of one kind."""
    return frozenset((f"kept {kind}",))
