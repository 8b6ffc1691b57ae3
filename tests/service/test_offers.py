"""The nodes of other bridges' ComfyUIs, with a journal in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from bridge.contract.retained import ComfyUIState
from bridge.jobs.database import DatabaseError
from bridge.jobs.journal.offers import Offer, Packed
from bridge.service.offers import OfferExchange
from bridge.workflows.library import Library
from bridge.workflows.objectinfo import ObjectInfo
from tests.support.patience import PATIENCE_S
from tests.workflows.graphs import INFO, PLAIN

JSON = b'{"Other": {}}'


class Journal:
    """The offers of a group, in memory."""

    def __init__(self) -> None:
        self.offers = self
        self.found: dict[str, Packed] = {}
        self.members: dict[str, str] = {}
        self.swept = self.asked = 0
        self.away = False

    async def offer(self, member: str, comfyui: str, packed: Packed) -> None:
        self.members[comfyui], self.found[comfyui] = member, packed

    async def withdraw(self, member: str, kept: Collection[str]) -> None:
        for name in [each for each, of in self.members.items() if of == member]:
            if name not in kept:
                del self.found[name], self.members[name]

    async def digests(self) -> dict[str, str]:
        if self.away:
            raise DatabaseError("away")
        return {name: each.digest for name, each in self.found.items()}

    async def get(self, comfyui: str, digest: str) -> Packed | None:
        found = self.found.get(comfyui)
        return found if found is not None and found.digest == digest else None

    async def sweep(self) -> None:
        self.swept += 1

    async def ask_nodes(self) -> None:
        self.asked += 1


class Setup:
    def __init__(self, folder: Path) -> None:
        workflows = folder / "workflows"
        workflows.mkdir()
        self.journal = Journal()
        self.library = Library(workflows, folder / "cache", ["a-main"])
        self.others: list[tuple[Mapping[str, ObjectInfo], Collection[str]]] = []
        self.named: list[Sequence[str]] = []
        self.refreshed = 0
        self.leads = True
        self.states: dict[str, ComfyUIState] = {}
        self.offers = OfferExchange(
            "a",
            journal=cast("Any", self.journal),
            library=self.library,
            comfyuis=["a-main"],
            keyed=["a-main"],
            read_s=60.0,
            leads=lambda: self.leads,
            set_others=self.set_others,
            refresh=self.refresh,
            named=self.named.append,
            states=lambda: self.states,
        )

    async def set_others(self, infos: Mapping[str, ObjectInfo], keyed: Collection[str]) -> None:
        self.others.append((infos, keyed))
        await self.library.set_others(infos, keyed)

    async def refresh(self) -> bool:
        self.refreshed += 1
        return True

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():  # noqa: ASYNC110 - a condition on plain fields
                await asyncio.sleep(0.001)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        running = asyncio.create_task(self.offers.run())
        yield
        running.cancel()
        await asyncio.wait((running,))


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    return Setup(tmp_path)


async def test_ours_are_offered_and_others_are_taken(setup: Setup) -> None:
    journal = setup.journal
    await journal.offer("a", "a-old", Packed.of(Offer(JSON)))
    for name in ("b-main", "c-main"):
        await journal.offer(name[0], name, Packed.of(Offer(JSON, keyed=True)))
    await journal.offer("d", "d-main", Packed.of(Offer(b"no JSON")))
    await journal.offer("e", "e-main", Packed("a digest", b"damaged"))
    await setup.offers.open()
    assert "a-old" not in journal.found
    ((infos, keyed),) = setup.others
    assert list(infos) == list(keyed) == ["b-main", "c-main"]
    assert infos["b-main"] is infos["c-main"]  # equal ones are read once
    assert setup.named == [["a-main", "b-main", "c-main", "d-main", "e-main"]]
    assert setup.offers.has("b-main")
    assert not setup.offers.has("a-main")

    async with setup.running():
        await setup.library.update("a-main", JSON)
        setup.offers.wake()
        await setup.until(lambda: "a-main" in journal.found)
        assert journal.found["a-main"] == Packed.of(Offer(JSON, keyed=True))
        await setup.until(lambda: journal.swept == 1)
        assert len(setup.others) == 1  # nothing new of the others
        journal.away = True
        del journal.found["b-main"]
        setup.offers.wake()
        await asyncio.sleep(0.01)
        journal.away = False
        setup.offers.wake()
        await setup.until(lambda: len(setup.others) == 2)
        assert list(setup.others[-1][0]) == ["c-main"]


async def test_the_others_are_asked_and_asked_ones_look(setup: Setup) -> None:
    async with setup.running():
        setup.offers.ask()
        setup.offers.ask()
        await setup.until(lambda: setup.journal.asked)
        setup.offers.asked()
        await setup.until(lambda: setup.refreshed == 1)
        assert setup.journal.asked == 1


async def test_who_can_run_a_prompt_elsewhere_and_how_they_are(setup: Setup) -> None:
    journal = setup.journal
    await setup.library.open()
    await setup.library.update("a-main", b"{}")
    capable = Packed.of(Offer(msgspec.json.encode(dict(INFO.raw))))
    for name in ("b-main", "c-main"):
        await journal.offer(name[0], name, capable)
    await journal.offer("d", "d-main", Packed.of(Offer(JSON)))
    await setup.offers.open()
    needs = setup.library.catalogue.needs(PLAIN)
    assert setup.library.catalogue.capable(needs) == ["b-main", "c-main"]
    assert setup.offers.capable(needs) == {"b-main": None, "c-main": None}
    for name, state in (("c-main", "yielded"), ("d-main", "ready")):
        setup.states[name] = ComfyUIState(state=cast("Any", state), since=1.0, restarts=0)
    assert setup.offers.capable(needs) == {"b-main": None, "c-main": setup.states["c-main"]}
    busy = setup.states["c-main"] = ComfyUIState(state="busy", since=1.0, restarts=0)
    assert setup.offers.capable(needs) == {"c-main": busy}
    held = setup.states["c-main"] = msgspec.structs.replace(busy, held="waits for GPU 'card'")
    assert setup.offers.capable(needs) == {"b-main": None, "c-main": held}
    setup.leads = False
    assert setup.offers.capable(needs) == {}
