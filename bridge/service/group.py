"""Makes a bridge's parts as a member of a group, and tells what it may do there."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from bridge.adapters.mqtt.retained import Retained
from bridge.config import Config
from bridge.jobs.core import events
from bridge.jobs.dispatcher import Dispatcher
from bridge.jobs.group import BEATS, Group
from bridge.jobs.journal import Journal
from bridge.jobs.listener import Listener
from bridge.service.descriptions import Descriptions
from bridge.service.offers import OfferExchange
from bridge.workflows.library import Library


class GroupParts:
    """The group of bridges that share a journal, and the offers of nodes in it.

    A bridge alone has neither, and may do everything. Call `form` when the other parts are made.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self.group: Group | None = None
        self.offers: OfferExchange | None = None

    def form(
        self,
        *,
        journal: Journal,
        library: Library,
        dispatcher: Dispatcher,
        descriptions: Descriptions,
        retained: Retained,
        listener: Listener,
        comfyuis: Sequence[str],
        keyed: Collection[str],
        named: Callable[[Sequence[str]], None],
    ) -> None:
        """Make the parts, if the journal is shared.

        `comfyuis` are ours, `keyed` those with a key; `named` is called with those of all bridges.
        """
        config = self._config
        if not config.journal:
            return
        self.offers = OfferExchange(
            config.member_name,
            journal=journal,
            library=library,
            comfyuis=comfyuis,
            keyed=keyed,
            read_s=config.lease_s / BEATS,
            leads=self.leads,
            set_others=descriptions.set_others,
            refresh=descriptions.refresh,
            named=named,
            states=retained.elsewhere,
        )
        self.group = Group(
            config.journal,
            config.member_name,
            config.lease_s,
            journal=journal,
            dispatcher=dispatcher,
            listener=listener,
        )
        self.group.on_asked = self.offers.asked
        dispatcher.book.leads = self.leads
        dispatcher.book.capacity_elsewhere = retained.capacity_elsewhere
        dispatcher.book.capable_elsewhere = self.offers.capable
        retained.on_others_changed = lambda: dispatcher.handle(events.OthersChanged())

    def holds_lease(self) -> bool:
        """True if no other bridge may have taken over this one's work."""
        return self.group is None or self.group.holds_lease()

    async def wait_for_lease(self) -> None:
        """Wait until `holds_lease`."""
        if self.group is not None:
            await self.group.wait_for_lease()

    def leads(self) -> bool:
        """True if this bridge has the intake: it takes requests, and acts for the whole group."""
        return self.group is None or self.group.has_intake

    def nodes_changed(self) -> None:
        """Offer the nodes of our ComfyUIs to the other bridges again."""
        if self.offers is not None:
            self.offers.wake()

    def ask_nodes(self) -> None:
        """Ask the other bridges which nodes their ComfyUIs have."""
        if self.offers is not None:
            self.offers.ask()

    def has(self, comfyui: str) -> bool:
        """True if another bridge has a ComfyUI of that name."""
        return self.offers is not None and self.offers.has(comfyui)
