"""Makes the parts that nearly every other part of a bridge uses."""

from __future__ import annotations

from bridge.adapters.mqtt.publisher import Publisher
from bridge.config import Config
from bridge.contract.topics import Topics
from bridge.jobs.journal import Journal
from bridge.requests.permissions import Permissions
from bridge.service.group import GroupParts
from bridge.service.stores import files_of


class SharedParts:
    """A bridge's settings, topics, stores, permissions and publisher, and its part of the group."""

    def __init__(self, config: Config) -> None:
        """Make the parts; opens nothing. Raises DatabaseError without the extra of a store."""
        self.config = config
        self.topics = Topics(config.base_topic)
        self.group = GroupParts(config)
        self.journal = Journal(config.journal or config.folder / "journal.db")
        self.files = files_of(config)
        self.permissions = Permissions(config.clients)
        self.publisher = Publisher(
            self.topics,
            delivered=self.journal.published,
            passed_over=self.journal.passed_over,
            set_delivered=self.journal.sets.published,
            keep_results_s=config.keep_results_s,
            keep_outputs_s=config.keep_outputs_s,
            may_publish=self.group.holds_lease,
            cloudevents=config.cloudevents,
        )
