"""The nodes and choices of all ComfyUIs of a group: each bridge stores those of its own (an offer).

The bridge that takes requests describes workflows and admits jobs by all offers. Every bridge reads
them, as any may be the next to take requests.
"""

from __future__ import annotations

import asyncio
import logging
import time
import zlib
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

from bridge.aio import wait_set
from bridge.contract.reading import UNREADABLE
from bridge.contract.retained import ComfyUIState
from bridge.jobs.database import DatabaseError
from bridge.jobs.journal import Journal
from bridge.jobs.journal.offers import Offer, Packed
from bridge.service.descriptions import REFRESH_INTERVAL_S
from bridge.workflows.catalogue import Needs
from bridge.workflows.library import Library
from bridge.workflows.objectinfo import ObjectInfo, ObjectInfoError

log = logging.getLogger(__name__)

# How often offers of bridges that are gone are removed, in seconds.
_SWEEP_S = 60.0

# Takes the reports of other bridges' ComfyUIs, and which have a key.
SetOthers = Callable[[Mapping[str, ObjectInfo], Collection[str]], Awaitable[None]]


class OfferExchange:
    """Offers the nodes of this bridge's ComfyUIs to the group, and reads the others' offers.

    Use `open` once this bridge is a member, then `run` as a task; call `wake` when nodes changed.
    """

    def __init__(
        self,
        member: str,
        *,
        journal: Journal,
        library: Library,
        comfyuis: Sequence[str],
        keyed: Collection[str],
        read_s: float,
        leads: Callable[[], bool],
        set_others: SetOthers,
        refresh: Callable[[], Awaitable[bool]],
        named: Callable[[Sequence[str]], None],
        states: Callable[[], Mapping[str, ComfyUIState]],
    ) -> None:
        """`comfyuis` are ours, `keyed` those with a key; other offers are read every `read_s`.

        `refresh` asks our ComfyUIs for their nodes, unless that was done just now.
        `named` is called with the names of all ComfyUIs of the group, when they change; `states`
        returns those of other bridges that live, where this one takes the requests.
        """
        self._member = member
        self._journal = journal
        self._library = library
        self._comfyuis = comfyuis
        self._keyed = keyed
        self._read_s = read_s
        self._leads = leads
        self._set_others = set_others
        self._refresh = refresh
        self._named = named
        self._states = states
        # What is in the journal of ours, and of the others: reports, and digests.
        self._offered: dict[str, tuple[bytes, bytes, tuple[str, ...]]] = {}
        self._known: dict[str, str] = {}
        # By digest; None for what cannot be read.
        self._read: dict[str, tuple[ObjectInfo, bool] | None] = {}
        self._due = asyncio.Event()
        self._asking = self._asked = False
        self._ask_at = 0.0
        self._sweep_at = 0.0

    def has(self, comfyui: str) -> bool:
        """True if another bridge has a ComfyUI of that name."""
        return comfyui in self._known

    def capable(self, needs: Needs) -> dict[str, ComfyUIState | None]:
        """Return the ComfyUIs of other bridges that have what is needed, and their states.

        A single one that takes jobs is enough; None stands for one whose bridge is gone. Only the
        bridge that takes requests knows the states: for the others there are none.
        """
        if not self._leads():
            return {}
        states = self._states()
        found: dict[str, ComfyUIState | None] = {}
        for name in self._known:
            state = states.get(name)
            if self._library.can_run(name, needs):
                found[name] = state
                if state is not None and state.takes_jobs:
                    return {name: state}
        return found

    def wake(self) -> None:
        """Offer at once: a ComfyUI of ours has other nodes or choices."""
        self._due.set()

    def ask(self) -> None:
        """Ask the others to look which nodes their ComfyUIs have; not more often than they do."""
        if time.monotonic() >= self._ask_at:
            self._ask_at = time.monotonic() + REFRESH_INTERVAL_S
            self._asking = True
            self._due.set()

    def asked(self) -> None:
        """Look which nodes our ComfyUIs have, for another bridge."""
        self._asked = True
        self._due.set()

    async def open(self) -> None:
        """Read the other offers before any workflow is described. Raises DatabaseError."""
        await self._journal.offers.withdraw(self._member, self._comfyuis)
        await self._read_offers()

    async def run(self) -> None:
        """Write our offer and follow the others, until cancelled."""
        while True:
            await wait_set(self._due, self._read_s)
            self._due.clear()
            try:
                if self._asking:
                    self._asking = False
                    await self._journal.ask_nodes()
                if self._asked:
                    self._asked = False
                    await self._refresh()
                await self._offer()
                await self._read_offers()
                if self._leads() and time.monotonic() >= self._sweep_at:
                    self._sweep_at = time.monotonic() + _SWEEP_S
                    await self._journal.offers.sweep()
            except DatabaseError as error:
                log.warning("cannot read what the ComfyUIs of other bridges have: %s", error)

    async def _offer(self) -> None:
        for name, report in self._library.reports().items():
            if self._offered.get(name) == report:
                continue
            offer = Offer(*report, keyed=name in self._keyed)
            packed = await asyncio.to_thread(Packed.of, offer)
            await self._journal.offers.offer(self._member, name, packed)
            self._offered[name] = report

    async def _read_offers(self) -> None:
        digests = await self._journal.offers.digests()
        wanted = {name: digest for name, digest in digests.items() if name not in self._comfyuis}
        if wanted == self._known:
            return
        self._read = {key: value for key, value in self._read.items() if key in wanted.values()}
        found: dict[str, str] = {}
        for name, digest in wanted.items():
            if digest not in self._read:
                packed = await self._journal.offers.get(name, digest)
                if packed is None:
                    continue  # it has another one by now: the next read finds it
                self._read[digest] = await asyncio.to_thread(_unpacked, name, packed)
            found[name] = digest
        reports = {name: self._read[digest] for name, digest in found.items()}
        usable = {name: report for name, report in reports.items() if report is not None}
        await self._set_others(
            {name: info for name, (info, _) in usable.items()},
            [name for name, (_, keyed) in usable.items() if keyed],
        )
        self._known = found
        self._named(sorted({*self._comfyuis, *found}))


def _unpacked(name: str, packed: Packed) -> tuple[ObjectInfo, bool] | None:
    try:
        offer = packed.unpacked()
        info = ObjectInfo.decode(offer.info, offer.replacements, offer.no_outputs)
    except (*UNREADABLE, zlib.error, ObjectInfoError) as error:
        log.warning("what ComfyUI %s of another bridge has cannot be read: %s", name, error)
        return None
    return info, offer.keyed
