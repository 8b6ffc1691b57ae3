"""Permissions of each client by the operator's table `clients`. Pure.

A field that a client's own table leaves out has the value of the table `*`, else the default of
`Granted`, which is safe for unknown clients. Permissions apply to requests of every adapter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
from msgspec import Struct

from bridge.config import ClientRights
from bridge.contract.errors import Forbidden
from bridge.contract.topics import matches
from bridge.text import matches_any

EVERYBODY = "*"
# Unless the setting says: this share of a processor, or what so many requests take.
_LEAST_SHARE = 0.25
_SHARE_OF_A_REQUEST = 0.0025


class Granted(Struct, frozen=True, kw_only=True):
    """The rights of one client; the fields are those of `bridge.config.ClientRights`."""

    workflows: tuple[str, ...] = ("*",)
    inline: bool = False
    partner_nodes: bool = False
    url_hosts: tuple[str, ...] = ()
    input_topics: tuple[str, ...] = ()
    displays: tuple[str, ...] = ()
    sink_hosts: tuple[str, ...] = ()
    sink_folders: tuple[str, ...] = ()
    sink_topics: tuple[str, ...] = ()
    max_priority: int = 100
    max_queue: int = 1_000
    max_set: int = 5_000
    max_uploads: int = 1024 * 1024 * 1024
    max_outputs: int = 5 * 1024 * 1024 * 1024
    requests_per_s: float = 100.0
    processor_per_s: float | None = None

    @property
    def processor_share(self) -> float:
        """Seconds of a processor in each second: enough for all requests that it may send."""
        if self.processor_per_s is not None:
            return self.processor_per_s
        return max(_LEAST_SHARE, self.requests_per_s * _SHARE_OF_A_REQUEST)


class Permissions:
    """Answers what a client may do. Each `check_` raises Forbidden, which names the setting."""

    def __init__(self, table: Mapping[str, ClientRights]) -> None:
        everybody = _with(Granted(), table.get(EVERYBODY))
        self._everybody = everybody
        self._listed = {
            name: _with(everybody, client) for name, client in table.items() if name != EVERYBODY
        }

    def of(self, client: str) -> Granted:
        """Return all that a client may do."""
        return self._listed.get(client, self._everybody)

    def lists(self, client: str) -> bool:
        """True if the operator's table has a client by its name."""
        return client in self._listed

    @property
    def input_topics(self) -> tuple[str, ...]:
        """The filters of all topics that any client may name as an input."""
        everyone = (self._everybody, *self._listed.values())
        return tuple(dict.fromkeys(each for granted in everyone for each in granted.input_topics))

    def check_workflow(self, client: str, workflow: str) -> None:
        """Check that a client may run a workflow of the folder."""
        allowed = self.of(client).workflows
        if not matches_any(allowed, workflow):
            raise Forbidden(
                f"{client!r} may not run {workflow!r}",
                setting=setting(client, "workflows"),
                allowed=list(allowed),
            )

    def check_inline(self, client: str) -> None:
        """Check that a client may send workflows of its own."""
        if not self.of(client).inline:
            raise Forbidden(
                f"{client!r} may not send workflows of its own", setting=setting(client, "inline")
            )

    def check_partner(self, client: str, nodes: Sequence[str]) -> None:
        """Check that a client may run nodes that cost money; `nodes` are their classes."""
        if nodes and not self.of(client).partner_nodes:
            raise Forbidden(
                f"{client!r} may not run nodes that cost money: {', '.join(nodes)}",
                setting=setting(client, "partner_nodes"),
                nodes=list(nodes),
            )

    def check_priority(self, client: str, priority: int) -> None:
        """Check that a client may ask for a priority."""
        highest = self.of(client).max_priority
        if priority > highest:
            raise Forbidden(
                f"{client!r} may ask for priority {highest} at most",
                setting=setting(client, "max_priority"),
                maximum=highest,
            )

    def check_topic(self, client: str, name: str, topic: str) -> None:
        """Check that a client may use a topic's last message as its input `name`."""
        allowed = self.of(client).input_topics
        if not any(matches(each, topic) for each in allowed):
            raise Forbidden(
                f"input {name!r}: the topic {topic!r} is not allowed",
                input=name,
                setting=setting(client, "input_topics"),
                allowed=list(allowed),
            )

    def check_display(self, client: str, display: str) -> None:
        """Check that a client may show its pictures on a display."""
        allowed = self.of(client).displays
        if not matches_any(allowed, display):
            raise Forbidden(
                f"{client!r} may not show on {display!r}",
                setting=setting(client, "displays"),
                allowed=list(allowed),
            )

    def check_sink_host(self, client: str, host: str) -> None:
        """Check that a client may have something sent to a host, as far as its name says."""
        allowed = self.of(client).sink_hosts
        if not matches_any([each.lower() for each in allowed], host.lower().rstrip(".")):
            raise Forbidden(
                f"{client!r} may not have anything delivered to {host}",
                host=host,
                setting=setting(client, "sink_hosts"),
                allowed=list(allowed),
            )

    def private_sink_hosts(self, client: str) -> tuple[str, ...]:
        """Return the hosts that a client may deliver to wherever they are: those named in full."""
        return tuple(each for each in self.of(client).sink_hosts if not set(each) & set("*?["))

    def check_sink_folder(self, client: str, name: str) -> None:
        """Check that a client may have outputs delivered to a folder of the operator's."""
        allowed = self.of(client).sink_folders
        if not matches_any(allowed, name):
            raise Forbidden(
                f"{client!r} may not have anything delivered to the folder {name!r}",
                setting=setting(client, "sink_folders"),
                allowed=list(allowed),
            )

    def check_sink_topic(self, client: str, topic: str) -> None:
        """Check that a client may have outputs published to a topic."""
        allowed = self.of(client).sink_topics
        if all(not matches(each, topic) for each in allowed):
            raise Forbidden(
                f"{client!r} may not have anything published to {topic!r}",
                setting=setting(client, "sink_topics"),
                allowed=list(allowed),
            )


def setting(client: str, field: str) -> str:
    """Return the name of a setting in the table of clients."""
    return f"clients.{client}.{field}"


def _with(before: Granted, client: ClientRights | None) -> Granted:
    fields = {} if client is None else msgspec.structs.asdict(client)
    given = {name: value for name, value in fields.items() if value is not None}
    return msgspec.structs.replace(before, **given)
