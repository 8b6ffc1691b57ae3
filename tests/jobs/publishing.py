"""A bridge's link to the broker, by which it publishes results, and what it notes of them."""

from __future__ import annotations

from bridge.jobs.job import Envelope
from bridge.jobs.queue import Key
from tests.jobs import links
from tests.jobs.process import Operation, Process
from tests.jobs.world import ComfyUI, World


class Publishing(Process):
    """A process that publishes, and loses its link now and then."""

    def __init__(
        self, world: World, life: str, comfyuis: dict[str, ComfyUI], *, alone: bool
    ) -> None:
        super().__init__(world, life, comfyuis, alone=alone)
        self.link: links.Link | None = None
        self.publisher = links.publisher(
            self._delivered,
            passed_over=self._passed_over,
            set_delivered=self._set_delivered,
            may_publish=lambda: alone or life in world.journal.members,
        )

    def connect(self) -> None:
        """Make a connection: its SUBACK is yet to come, and then what is missing is read."""
        if self.link is None:
            link = self.link = links.Link(self.world.broker.note)
            self.publisher.attach(link)  # type: ignore[arg-type]

    def subscribed(self) -> None:
        """Take the SUBACK."""
        link = self.link
        if link is not None:
            self.writes.append(Operation("CatchUp", None, lambda: self._catch_up(link)))

    def _catch_up(self, link: links.Link) -> None:
        self._check_fence()
        if self.link is link and not self.dead:
            since = self.clock.now() - links.REPEAT_S
            self.publisher.catch_up(self.world.journal.ledger.unpublished(self.owner, since))

    def publish_orphans(self) -> None:
        """Publish what dead bridges had yet to publish."""
        journal = self.world.journal
        for found in journal.ledger.orphans(journal.members, self.clock.now()):
            self.publisher.orphaned_result(*found)

    def disconnect(self) -> None:
        """Lose the connection, and what the broker has not acknowledged."""
        link, self.link = self.link, None
        if link is not None:
            self.publisher.detach(None)
            link.lose()

    def _delivered(self, key: Key) -> None:
        if not self.dead:
            self.writes.append(Operation("Note", key, lambda: self._note(key)))

    def _note(self, key: Key) -> None:
        self._check_fence()
        overtaken = self.world.journal.ledger.note_published(key, self.owner)
        if overtaken:
            self.writes.append(Operation("Renumber", key, lambda: self._renumber(overtaken)))

    def _renumber(self, keys: list[Key]) -> None:
        self._check_fence()
        self.world.journal.ledger.renumber(keys, self.owner, published=True)

    def _passed_over(self, key: Key) -> None:
        self.writes.append(Operation("PassOver", key, lambda: self._pass_over(key)))

    def _pass_over(self, key: Key) -> None:
        self._check_fence()
        self.world.journal.ledger.pass_over(key)

    def _set_delivered(self, key: Key) -> None:
        if not self.dead:
            self.writes.append(Operation("Note", None, lambda: self._note_set(key)))

    def _note_set(self, key: Key) -> None:
        self._check_fence()
        self.world.journal.ledger.note_set_published(key)

    def end_set(self, key: Key) -> None:
        """Write a set's result, and publish it in its turn."""
        self.writes.append(Operation("EndSet", None, lambda: self._end_set(key)))

    def _end_set(self, key: Key) -> None:
        self._check_fence()
        n = self._draw(key.client)
        ledger = self.world.journal.ledger
        result = ledger.finish_set(key, n, self.clock.now(), self.owner or None)
        if not self.dead:
            self.publisher.set_result(key, Envelope(), result)
