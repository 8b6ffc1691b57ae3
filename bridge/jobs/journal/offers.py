"""The offers of a group's bridges: the nodes and choices of its ComfyUIs (PostgreSQL alone).

So the bridge that takes requests knows what the others can run. What a bridge offers stays for
`KEPT_S` after it has gone: it may be back soon, and its jobs wait for it.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Collection

import msgspec
from msgspec import Struct

from bridge.jobs.database import Database, Transaction
from bridge.jobs.journal import queries, touched

KEPT_S = 24 * 3600.0


class Offer(Struct, frozen=True, array_like=True):
    """A ComfyUI's own reports, as it sent them; `keyed`: it has an API key of Comfy.org."""

    info: bytes
    replacements: bytes = b""
    no_outputs: tuple[str, ...] = ()
    keyed: bool = False


class Packed(Struct, frozen=True):
    """An offer as it lies in the journal. Equal offers have the same digest."""

    digest: str
    data: bytes

    @classmethod
    def of(cls, offer: Offer) -> Packed:
        """Pack an offer: a thread's work for large ones."""
        plain = msgspec.msgpack.encode(offer)
        return cls(hashlib.sha256(plain).hexdigest(), zlib.compress(plain))

    def unpacked(self) -> Offer:
        """Return the offer."""
        return msgspec.msgpack.decode(zlib.decompress(self.data), type=Offer)


class Offers:
    """The offers in a journal; all raise DatabaseError, and LeaseLost as the journal does."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def offer(self, member: str, comfyui: str, packed: Packed) -> None:
        """Write down what a ComfyUI of a member has."""
        values = (comfyui, member, packed.digest, packed.data)
        await self._database.change(queries.OFFER, values, touched.OFFERS)

    async def withdraw(self, member: str, kept: Collection[str]) -> None:
        """Delete what a member offered by ComfyUIs that it has no longer: all but `kept`."""

        def work(db: Transaction) -> None:
            for (comfyui,) in list(db.execute(queries.OFFERS_OF, (member,))):
                if comfyui not in kept:
                    db.execute(queries.DROP_OFFER, (comfyui,))

        await self._database.run(work, touched.OFFERS)

    async def digests(self) -> dict[str, str]:
        """Return the digest of what each ComfyUI of the group has."""
        return dict(await self._database.rows(queries.OFFERS))

    async def get(self, comfyui: str, digest: str) -> Packed | None:
        """Return an offer of a ComfyUI; None if it has been replaced or withdrawn."""
        found = await self._database.row(queries.OFFERED, (comfyui, digest))
        return Packed(digest, bytes(found[0])) if found else None

    async def sweep(self) -> None:
        """Delete the offers of bridges that were gone for `KEPT_S`."""

        def work(db: Transaction) -> None:
            db.execute(queries.SEE_OFFERS)
            db.execute(queries.DROP_OLD_OFFERS, (KEPT_S,))

        await self._database.run(work, touched.OFFERS)
