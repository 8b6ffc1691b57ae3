"""The set of retained messages: what is published, when, and what is cleared."""

from __future__ import annotations

from typing import Any, cast

from msgspec.structs import replace

from bridge.adapters.mqtt.retained import Retained
from bridge.contract.messages import encode, or_none
from bridge.contract.retained import BridgeHealth, ComfyUIState, Definition
from bridge.contract.topics import Topics

BASE = "comfy2mqtt"


class Publisher:
    """Notes what is published, and what a broker would retain then."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.held: dict[str, Any] = {}

    def publish(
        self, topic: str, message: Any, *, retain: bool, expiry_s: float | None = None
    ) -> None:
        del expiry_s
        assert retain
        self.calls.append((topic.removeprefix(f"{BASE}/"), message))
        self.held[topic] = message

    @property
    def topics(self) -> list[str]:
        return [topic for topic, _ in self.calls]


def retained(leads: bool | None = None) -> tuple[Retained, Publisher]:  # noqa: FBT001
    publisher = Publisher()
    made = Retained(
        Topics(), cast("Any", publisher), None if leads is None else lambda: bool(leads), "one"
    )
    return made, publisher


def health(succeeded: int) -> BridgeHealth:
    return BridgeHealth(at=0, queued=0, running=0, accepted=0, succeeded=succeeded, failed=0)


def state(name: str = "ready") -> ComfyUIState:
    return ComfyUIState(state=cast("Any", name), since=1.0, restarts=0)


def definition(name: str, title: str = "t") -> Definition:
    return Definition(
        name=name, title=title, version="v", inputs={}, outputs=[], nodes=[], example={}
    )


def test_a_message_is_published_when_it_changes_and_not_again() -> None:
    made, publisher = retained()
    made.comfyui("main", state())
    made.comfyui("main", state())
    made.comfyui("main", state("busy"))
    assert publisher.topics == ["bridge/comfyui/main"] * 2


def test_at_a_connection_the_whole_set_is_published_in_its_order_then_online() -> None:
    made, publisher = retained()
    made.comfyui("main", state())
    made.workflow(definition("b"))
    made.workflow(definition("a"))
    made.online()
    publisher.calls.clear()
    made.publish_all()
    assert publisher.topics == ["bridge/comfyui/main", "workflow/b", "workflow/a", "bridge/state"]
    assert publisher.calls[-1] == ("bridge/state", b"online")


def test_after_a_loss_or_offline_nothing_says_online_by_itself() -> None:
    for end in ("lost", "offline"):
        made, publisher = retained()
        made.online()
        getattr(made, end)()
        publisher.calls.clear()
        made.publish_all()
        assert publisher.calls == []


def test_a_removed_workflow_is_cleared_and_does_not_come_back() -> None:
    made, publisher = retained()
    made.workflow(definition("a"))
    made.remove_workflow("a")
    assert publisher.calls[-1] == ("workflow/a", None)
    publisher.calls.clear()
    made.publish_all()
    assert publisher.calls == []


def test_choices_that_no_definition_names_any_more_are_cleared() -> None:
    made, publisher = retained()
    made.choices({"a": ["1"], "b": ["2"]})
    publisher.calls.clear()
    made.choices({"b": ["2"], "c": ["3"]})
    assert publisher.topics == ["bridge/choices/c", "bridge/choices/a"]
    assert publisher.held[f"{BASE}/bridge/choices/a"] is None


def test_what_an_earlier_run_left_is_cleared_and_what_is_ours_is_not() -> None:
    made, publisher = retained()
    made.workflow(definition("a"))
    publisher.calls.clear()
    made.received(f"{BASE}/workflow/a")
    made.received(f"{BASE}/workflow/old")
    assert publisher.calls == [("workflow/old", None)]


def test_in_a_cluster_a_leftover_is_cleared_once_no_bridge_was_known_for_it_long_enough() -> None:
    made, publisher = retained(leads=True)
    made.received(f"{BASE}/bridge/comfyui/two-main")
    made.received(f"{BASE}/bridge/comfyui/gone-main")
    assert publisher.calls == []
    assert made.is_published_elsewhere("two-main")
    for _ in range(2):
        made.set_members(["two"])
        assert publisher.calls == []
    made.set_members(["two"])
    assert publisher.calls == [("bridge/comfyui/gone-main", None)]
    assert not made.is_published_elsewhere("gone-main")
    # Known again for a moment, the count begins again.
    made.set_members([])
    made.set_members(["two"])
    for _ in range(2):
        made.set_members([])
    assert made.is_published_elsewhere("two-main")
    made.set_members([])
    assert not made.is_published_elsewhere("two-main")


def test_a_bridge_that_does_not_lead_publishes_its_own_comfyuis_alone() -> None:
    made, publisher = retained(leads=False)
    made.workflow(definition("a"))
    made.comfyui("one-main", state())
    made.health(health(3), health(1))
    for _ in range(4):
        made.set_members([])
    assert publisher.topics == ["bridge/comfyui/one-main", "bridge/health/one"]
    publisher.calls.clear()
    made.publish_all()
    assert publisher.calls[-1] == ("bridge/health/one", health(1))


def test_the_health_of_all_is_the_leaders_and_each_bridge_has_its_own() -> None:
    made, publisher = retained(leads=True)
    made.health(health(3), health(1))
    assert publisher.calls == [
        ("bridge/health", health(3)),
        ("bridge/health/one", health(1)),
    ]
    made.set_members(["two", "three"])
    for name, succeeded in (("one", 1), ("two", 2), ("nobody", 4)):
        made.received(f"{BASE}/bridge/health/{name}", encode(health(succeeded)))
    for nonsense in (b"nonsense", b"\xff", b'{"x": ' + b"[" * 5000):
        made.received(f"{BASE}/bridge/health/three", nonsense)
    assert made.healths() == [health(2)]
    made.set_members(["three"])
    assert made.healths() == []


def test_a_bridge_alone_has_one_health_and_clears_what_a_group_left() -> None:
    made, publisher = retained()
    made.health(health(1), health(1))
    made.received(f"{BASE}/bridge/health/two", encode(health(2)))
    assert publisher.calls == [("bridge/health", health(1)), ("bridge/health/two", None)]


def test_the_comfyuis_of_other_bridges_that_live_are_counted() -> None:
    made, _ = retained(leads=True)
    for name, word in (("b-x", "busy"), ("b-y", "ready"), ("c-x", "ready"), ("d-x", "stopped")):
        made.received(f"{BASE}/bridge/comfyui/{name}", encode(state(word)))
    for number, nonsense in enumerate((b"nonsense", b"\xff", b'{"x": ' + b"[" * 5000)):
        made.received(f"{BASE}/bridge/comfyui/b-z{number}", nonsense)
    made.set_members(["b", "d"])
    assert set(made.elsewhere()) == {"b-x", "b-y", "d-x"}
    assert made.capacity_elsewhere() == (2, 1)
    made.received(f"{BASE}/bridge/comfyui/b-y", encode(state("busy")))
    assert made.capacity_elsewhere() == (2, 2)
    yielding = replace(state("busy"), yielding=True)
    made.received(f"{BASE}/bridge/comfyui/b-y", encode(yielding))
    assert made.capacity_elsewhere() == (1, 1)
    made.set_members(["d"])
    assert made.capacity_elsewhere() == (0, 0)
    for _ in range(3):
        made.set_members(["d"])
    made.set_members(["b", "d"])
    assert set(made.elsewhere()) == {"d-x"}


def test_a_comfyui_that_is_given_no_jobs_says_so_and_is_no_place_for_others() -> None:
    made, publisher = retained(leads=True)
    made.set_blocked("a-x", "waits for hook 'llm'")  # before its state is known
    assert publisher.calls == []
    made.comfyui("a-x", state())
    made.comfyui("a-x", state("busy"))
    made.set_blocked("a-x", None)
    found = [or_none(message.held) for _, message in publisher.calls]
    assert found == ["waits for hook 'llm'"] * 2 + [None]
    changes: list[tuple[int, int]] = []
    made.on_others_changed = lambda: changes.append(made.capacity_elsewhere())
    made.set_members(["b"])
    topic = f"{BASE}/bridge/comfyui/b-x"
    for each in (
        state(),
        state("busy"),  # a place as before
        replace(state("busy"), held="belongs to a bridge that stops"),
    ):
        made.received(topic, encode(each))
    assert changes == [(0, 0), (1, 0), (0, 0)]
    made.set_members([])
    assert len(changes) == 4


def test_a_bridge_whose_name_begins_with_anothers_is_gone_without_that_one() -> None:
    made, publisher = retained(leads=True)
    made.set_members(["studio", "studio-2"])
    for name in ("studio-main", "studio-2-main"):
        made.received(f"{BASE}/bridge/comfyui/{name}", encode(state()))
    assert made.capacity_elsewhere() == (2, 0)
    for _ in range(3):
        made.set_members(["studio"])
        assert made.capacity_elsewhere() == (1, 0)
        assert made.owner("studio-2-main") is None
    assert publisher.calls == [("bridge/comfyui/studio-2-main", None)]
    made.set_members(["studio", "studio-2"])
    assert made.owner("studio-2-main") == "studio-2"
    # And the other way round: the longer name lives on.
    made.set_members(["studio-2"])
    assert (made.owner("studio-2-main"), made.owner("studio-main")) == ("studio-2", None)
    assert made.owner("elsewhere") is None
