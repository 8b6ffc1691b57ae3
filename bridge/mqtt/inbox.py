"""Messages that arrived: a fair queue of those that wait, and the order of PUBACKs. Pure."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from bridge.mqtt.packets import Incoming


class Flow(NamedTuple):
    """A message's sender, and the flow in which messages keep their order and share turns."""

    sender: str
    name: str


# Returns a message's flow; None for one that nothing which arrived later may pass.
FlowOf: TypeAlias = Callable[[Incoming], Flow | None]


class _Waiting(NamedTuple):
    """A message, its size in bytes, its place in the order of arrival, and its sender."""

    message: Incoming
    size: int
    place: int
    sender: str


class FairQueue:
    """A queue by flows: round robin between flows, first in, first out within a flow.

    So a sender of many messages delays only itself. Each call takes the same time however many
    flows there are. The owner has to bound the number of messages.
    """

    def __init__(self, flow_of: FlowOf = lambda _: None) -> None:
        self._flow_of = flow_of
        self._flows: OrderedDict[str, deque[_Waiting]] = OrderedDict()
        self._in_order: deque[_Waiting] = deque()
        # Of each sender that has something here: its flow, which it keeps as long, and how many.
        self._senders: dict[str, tuple[str, int]] = {}
        self._count = self._arrived = 0

    def __len__(self) -> int:
        return self._count

    def put(self, message: Incoming, size: int) -> None:
        """Append a message that took `size` bytes."""
        flow = self._flow_of(message)
        self._count += 1
        self._arrived += 1
        waiting = _Waiting(message, size, self._arrived, "" if flow is None else flow.sender)
        if flow is None:
            self._in_order.append(waiting)
            return
        name, count = self._senders.get(flow.sender, (flow.name, 0))
        self._senders[flow.sender] = name, count + 1
        self._flows.setdefault(name, deque()).append(waiting)

    def take(self) -> tuple[Incoming, int] | None:
        """Take the next message and its size; None if there is none."""
        if not self._count:
            return None
        self._count -= 1
        if self._in_order and self._is_due(self._in_order[0].place):
            first = self._in_order.popleft()
        else:
            first = self._take_of_flow()
        return first.message, first.size

    def _is_due(self, place: int) -> bool:
        """True if all messages in flows whose turn is next arrived later, or there are none."""
        return not self._flows or next(iter(self._flows.values()))[0].place > place

    def _take_of_flow(self) -> _Waiting:
        name, flow = self._flows.popitem(last=False)
        first = flow.popleft()
        if flow:
            self._flows[name] = flow
        _, count = self._senders.pop(first.sender)
        if count > 1:
            self._senders[first.sender] = name, count - 1
        return first


class AckOrder:
    """Acknowledges messages in the order of arrival (MQTT 5, 4.6), each once it is handled."""

    def __init__(self, acknowledge: Callable[[Incoming], object]) -> None:
        self._acknowledge = acknowledge
        self._waiting: deque[Incoming] = deque()
        self._handled: set[int] = set()

    def arrived(self, incoming: Incoming) -> None:
        """Note a message, in the order of arrival."""
        self._waiting.append(incoming)

    def handled(self, incoming: Incoming) -> None:
        """Acknowledge a message, and handled ones behind it, once all before it are handled."""
        self._handled.add(id(incoming))
        while self._waiting and id(self._waiting[0]) in self._handled:
            first = self._waiting.popleft()
            self._handled.remove(id(first))
            self._acknowledge(first)
