"""The values that adapters keep in the journal, and what the bridges of a group offer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from bridge.jobs.journal import Journal
from bridge.jobs.journal.offers import KEPT_S, Offer, Packed
from tests.jobs.members import Member
from tests.support.postgresql import PostgreSQL


async def test_what_is_kept_is_there_by_kind_and_name(journal: Journal, where: Path | str) -> None:
    await journal.adapter_store.keep("a", {"one": b"1", "two": b"2"})
    await journal.adapter_store.keep("b", {"one": b"3"})
    await journal.adapter_store.keep("a", {"one": b"4"})
    await journal.adapter_store.keep("a", {"two": b"5", "three": b"6"}, new=True)
    await journal.adapter_store.drop("a", "none")
    await journal.close()
    again = Journal(where)
    await again.open()
    assert await again.adapter_store.all("a") == {"one": b"4", "two": b"2", "three": b"6"}
    assert await again.adapter_store.names("a") == ["one", "three", "two"]
    await again.adapter_store.drop("a", "one")
    assert await again.adapter_store.get("a", "one") is None
    assert await again.adapter_store.get("b", "one") == b"3"
    await again.close()


@pytest.fixture
def address(postgresql: PostgreSQL) -> Iterator[str]:
    with postgresql.database() as address:
        yield address


@pytest.mark.postgresql
async def test_offers_are_those_of_members_and_of_whoever_left_lately(address: str) -> None:
    a, b = Member(address, "a"), Member(address, "b")
    for each in (a, b):
        await each.journal.open()
        await each.join()
    offers = a.journal.offers
    offer = Offer(b"{}", b"[]", ("PreviewAny",), keyed=True)
    packed = Packed.of(offer)
    assert Packed.of(Offer(b"{ }")).digest != packed.digest
    for comfyui in ("b-main", "b-old"):
        await b.journal.offers.offer("b", comfyui, packed)
    await offers.offer("a", "a-main", packed)
    await b.journal.offers.withdraw("b", ["b-main"])
    assert await offers.digests() == dict.fromkeys(("a-main", "b-main"), packed.digest)
    found = await offers.get("b-main", packed.digest)
    assert found is not None
    assert found.unpacked() == offer
    assert await offers.get("b-main", "another") is None

    async def seen_last(before_s: float) -> None:
        async with await psycopg.AsyncConnection.connect(address, autocommit=True) as connection:
            await connection.execute("UPDATE offers SET seen = seen - %s", (before_s,))

    await seen_last(2 * KEPT_S)
    await offers.sweep()  # both are members
    await b.journal.leave()
    await seen_last(KEPT_S / 2)
    await offers.sweep()
    assert set(await offers.digests()) == {"a-main", "b-main"}
    await seen_last(KEPT_S)
    await offers.sweep()
    assert set(await offers.digests()) == {"a-main"}
    for each in (a, b):
        await each.journal.close()
