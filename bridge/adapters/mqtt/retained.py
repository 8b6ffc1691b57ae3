"""The set of retained messages: of the bridge, its ComfyUIs, the workflows and their choices.

The set is kept here, published whole at each connection, and then as it changes. Messages that an
earlier run left at the broker, and that are not in the set, are cleared when the broker sends them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import msgspec
from msgspec.structs import replace

from bridge.adapters.mqtt.publisher import Publisher
from bridge.contract.messages import or_unset
from bridge.contract.reading import UNREADABLE
from bridge.contract.retained import (
    HEALTH_EXPIRY_S,
    BridgeHealth,
    BridgeInfo,
    Choices,
    ComfyUIState,
    Definition,
    GpuLease,
)
from bridge.contract.retained_pages import RetainedMessage
from bridge.contract.topics import Topics


class MemberNames:
    """The names of the other bridges of a group.

    A ComfyUI of one of them is called `<member>-<name>`, and both may have dashes: `a-b-c` belongs
    to `a-b` where there is one, else to `a`. So a bridge that has gone stays known here while its
    name continues that of one that lives.
    """

    def __init__(self) -> None:
        self.living: tuple[str, ...] = ()
        self._gone: frozenset[str] = frozenset()
        self._prefixes: tuple[str, ...] = ()

    def set(self, living: Iterable[str]) -> None:
        """Note which other bridges there are now."""
        known = self._gone.union(self.living)
        self.living = tuple(living)
        self._prefixes = tuple(f"{name}-" for name in self.living)
        self._gone = frozenset(
            name for name in known - set(self.living) if name.startswith(self._prefixes)
        )

    def owner_is_alive(self, name: str) -> bool:
        """True if the ComfyUI or GPU of that name belongs to a bridge that lives."""
        if not name.startswith(self._prefixes):
            return False
        return not self._gone or self.owner(name) is not None

    def owner(self, name: str) -> str | None:
        """Return the bridge that lives and has the ComfyUI or GPU of that name, if one has."""
        owners = (each for each in (*self.living, *self._gone) if name.startswith(f"{each}-"))
        owner = max(owners, key=len, default=None)
        return None if owner in self._gone else owner


ONLINE = b"online"
OFFLINE = b"offline"
# Messages of a bridge that joins may arrive before the journal has it as a member.
_UNKNOWN_BEATS = 2
# In a cluster so many topics of others are watched; what more there is waits until some are gone.
MAX_SEEN = 10_000

_state = msgspec.json.Decoder(ComfyUIState).decode
_health = msgspec.json.Decoder(BridgeHealth).decode


class Retained:
    """The bridge's retained messages."""

    def __init__(
        self,
        topics: Topics,
        publisher: Publisher,
        leads: Callable[[], bool] | None = None,
        member: str = "",
    ) -> None:
        """`leads`: in a cluster, whether this bridge publishes the messages of the whole cluster.

        `member` is its name there.
        """
        self._topics = topics
        self._publisher = publisher
        self._present: dict[str, RetainedMessage] = {}
        # Who has each GPU, by topic, and for how long a broker keeps that, in seconds.
        self._leases: dict[str, tuple[GpuLease, float | None]] = {}
        self._choices: set[str] = set()
        # Why no job is given to each ComfyUI of ours, if that is so.
        self._blocked: dict[str, str | None] = {}
        self._clustered = leads is not None
        self._member = member
        # In a cluster this bridge's own, and those of the other bridges by their names.
        self._health: BridgeHealth | None = None
        self._healths: dict[str, BridgeHealth] = {}
        self._leads = leads or (lambda: True)
        self._online = False
        # Topics that are not in our set, and for how many heartbeats no known bridge owned them.
        self._seen: dict[str, int] = {}
        # In a cluster the ComfyUIs of the other bridges, by name, and which bridges there are.
        self._elsewhere: dict[str, ComfyUIState] = {}
        self._others = MemberNames()
        self._led = False
        # Called when others of them take jobs than before, or once this bridge leads the cluster.
        self.on_others_changed: Callable[[], None] = lambda: None
        # What follows from the two, until they change.
        self._alive: dict[str, ComfyUIState] | None = None
        self._capacity: tuple[int, int] | None = None

    def info(self, info: BridgeInfo) -> None:
        """Describe the bridge."""
        self._set(self._topics.info, info)

    def comfyui(self, name: str, state: ComfyUIState) -> None:
        """Publish the state of a ComfyUI."""
        self._set(self._topics.comfyui(name), self.with_held(name, state))

    def set_blocked(self, name: str, why: str | None) -> None:
        """Publish why no job is given to a ComfyUI; None: jobs are given."""
        self._blocked[name] = why
        published = self._present.get(self._topics.comfyui(name))
        if isinstance(published, ComfyUIState):
            self.comfyui(name, published)

    def with_held(self, name: str, state: ComfyUIState) -> ComfyUIState:
        """Return a ComfyUI's state with why no job is given to it."""
        return replace(state, held=or_unset(self._blocked.get(name)))

    def gpu(self, lease: GpuLease, lasts_s: float | None) -> None:
        """Publish who has a GPU; a broker drops it after `lasts_s`, None: never."""
        topic = self._topics.gpu(lease.gpu)
        self._leases[topic] = lease, lasts_s
        self._publisher.publish(topic, lease, retain=True, expiry_s=lasts_s)

    def workflow(self, definition: Definition) -> None:
        """Describe a workflow."""
        self._set(self._topics.workflow(definition.name), definition)

    def remove_workflow(self, name: str) -> None:
        """Clear a workflow's description."""
        self._clear(self._topics.workflow(name))

    def choices(self, lists: Mapping[str, Sequence[Any]]) -> None:
        """Publish the lists that definitions name, and clear those that none names any more."""
        topics = {self._topics.choices(name) for name in lists}
        for name, choices in lists.items():
            message = Choices(name=name, choices=list(choices))
            self._set(self._topics.choices(name), message)
        for topic in self._choices - topics:
            self._clear(topic)
        self._choices = topics

    def present(self) -> Mapping[str, RetainedMessage]:
        """Return the bridge's description, its ComfyUIs, workflows and choices, by topic.

        The topics are without the base.
        """
        base = f"{self._topics.base}/"
        return {topic.removeprefix(base): each for topic, each in self._present.items()}

    def health(self, health: BridgeHealth, own: BridgeHealth) -> None:
        """Publish the bridge's counters: in a cluster those of all, and this bridge's `own`."""
        if self._leads():
            self._publish_health(self._topics.health, health)
        if self._clustered:
            self._health = own
            self._publish_health(self._topics.member_health(self._member), own)

    def _publish_health(self, topic: str, health: BridgeHealth) -> None:
        self._publisher.publish(topic, health, retain=True, expiry_s=HEALTH_EXPIRY_S)

    def online(self) -> None:
        """Publish that the bridge takes requests."""
        self._online = True
        self._publisher.publish(self._topics.state, ONLINE, retain=True)

    def offline(self) -> None:
        """Publish that the bridge takes no requests."""
        self._online = False
        self._publisher.publish(self._topics.state, OFFLINE, retain=True)

    def publish_all(self) -> None:
        """Publish the whole set: at each connection, since a broker may have lost it."""
        for topic, message in self._present.items():
            self._publish(topic, message)
        for lease, lasts_s in list(self._leases.values()):
            self.gpu(lease, lasts_s)
        if self._health is not None:
            self._publish_health(self._topics.member_health(self._member), self._health)
        if self._online:
            self.online()

    def lost(self) -> None:
        """Note that the connection for requests is lost; the broker publishes the last will."""
        self._online = False

    def received(self, topic: str, payload: bytes = b"") -> None:
        """Clear what the broker retains on one of our topics, unless it is in the set.

        In a cluster it may be of another bridge, one that is not even known yet.
        """
        if topic in self._present or topic in self._leases:
            return
        member = topic.removeprefix(self._topics.member_health(""))
        if not self._clustered:
            self._publish(topic, None)
        elif member != topic:
            self._note_health(member, payload)
        elif topic in self._seen or len(self._seen) < MAX_SEEN:
            self._seen[topic] = 0
            self._note(topic, payload)

    def _note_health(self, member: str, payload: bytes) -> None:
        # It is published again soon, and expires: of a bridge that is not known nothing is kept.
        if member in self._others.living:
            with suppress(*UNREADABLE):
                self._healths[member] = _health(payload)

    def _note(self, topic: str, payload: bytes) -> None:
        name = topic.removeprefix(self._topics.comfyui(""))
        if name != topic:
            with suppress(*UNREADABLE):
                state = _state(payload)
                before = self._elsewhere.get(name)
                self._elsewhere[name] = state
                self._alive = self._capacity = None
                if state.takes_jobs != (before is not None and before.takes_jobs):
                    self.on_others_changed()

    def elsewhere(self) -> dict[str, ComfyUIState]:
        """Return the ComfyUIs of the other bridges that live, as they were published last."""
        if self._alive is None:
            is_alive = self._others.owner_is_alive
            self._alive = {name: state for name, state in self._elsewhere.items() if is_alive(name)}
        return self._alive

    def healths(self) -> list[BridgeHealth]:
        """Return the health of the other bridges that live, as they published it last."""
        return list(self._healths.values())

    def capacity_elsewhere(self) -> tuple[int, int]:
        """Return how many ComfyUIs of other bridges take jobs, and how many of them run one."""
        if self._capacity is None:
            states = [each.state for each in self.elsewhere().values() if each.takes_jobs]
            self._capacity = len(states), states.count("busy")
        return self._capacity

    def set_members(self, others: Iterable[str]) -> None:
        """Note which other bridges there are, at each heartbeat; clear what gone ones published."""
        others, before = tuple(others), self._others.living
        leads, led = self._leads(), self._led
        self._led = leads
        self._others.set(others)
        self._alive = self._capacity = None
        self._healths = {name: self._healths[name] for name in others if name in self._healths}
        if set(others) != set(before) or leads != led:
            self.on_others_changed()
        comfyui, gpu = self._topics.comfyui(""), self._topics.gpu("")
        for topic, times in list(self._seen.items()):
            ours = topic in self._present or topic in self._leases
            name = topic.removeprefix(comfyui).removeprefix(gpu)
            unknown = not ours and not self._others.owner_is_alive(name)
            self._seen[topic] = times + 1 if unknown else 0
            if self._seen[topic] > _UNKNOWN_BEATS and self._leads():
                del self._seen[topic]
                self._elsewhere.pop(topic.removeprefix(self._topics.comfyui("")), None)
                self._publish(topic, None)

    def is_published_elsewhere(self, instance: str) -> bool:
        """True if another bridge publishes a ComfyUI of that name."""
        return self._topics.comfyui(instance) in self._seen

    def owner(self, name: str) -> str | None:
        """Return the other bridge that lives and after which a ComfyUI or GPU is named, if any."""
        return self._others.owner(name)

    def is_gpu_elsewhere(self, gpu: str) -> bool:
        """True if another bridge publishes a GPU of that name."""
        return self._topics.gpu(gpu) in self._seen

    def _publish(self, topic: str, message: Any) -> None:
        if self._leads() or topic.startswith(self._topics.comfyui("")):
            self._publisher.publish(topic, message, retain=True)

    def _set(self, topic: str, message: RetainedMessage) -> None:
        if self._present.get(topic) != message:
            self._present[topic] = message
            self._publish(topic, message)

    def _clear(self, topic: str) -> None:
        self._present.pop(topic, None)
        self._publish(topic, None)
