"""The health of a group, made of that of each bridge."""

from __future__ import annotations

from bridge.contract.retained import BridgeHealth, GpuFigures, HookHealth, Usage
from bridge.service.bridge_info import CLIENTS_REPORTED, of_group


def health(**fields: object) -> BridgeHealth:
    counts = dict.fromkeys(("at", "queued", "running", "accepted", "succeeded", "failed"), 0)
    return BridgeHealth(**{**counts, **fields})  # type: ignore[arg-type]


def test_what_each_bridge_counts_is_added_and_the_queue_is_counted_once() -> None:
    own = health(queued=7, succeeded=1, failed=1, memory=5, held="the operator paused the queue")
    other = health(queued=7, accepted=4, succeeded=2, cancelled=3, expired=1, retried=2, memory=9)
    assert of_group(own, [other, other]) == health(
        queued=7,
        accepted=8,
        succeeded=5,
        failed=1,
        cancelled=6,
        expired=2,
        retried=4,
        memory=5,
        held="the operator paused the queue",
    )


def test_clients_and_gpus_are_of_all_bridges_and_hooks_of_the_one_that_speaks() -> None:
    figures = GpuFigures(source="unknown")
    own = health(
        clients={"alice": Usage(jobs=1, run_s=1.0)},
        gpus={"a-default": figures},
        hooks={"ollama": HookHealth(state="idle")},
    )
    other = health(
        clients={"alice": Usage(jobs=2, run_s=0.5), "bob": Usage(jobs=1, run_s=9.0)},
        gpus={"b-default": figures},
        hooks={"ollama": HookHealth(state="busy")},
    )
    found = of_group(own, [other])
    assert list(found.clients.items()) == [
        ("bob", Usage(jobs=1, run_s=9.0)),
        ("alice", Usage(jobs=3, run_s=1.5)),
    ]
    assert set(found.gpus) == {"a-default", "b-default"}
    assert found.hooks == own.hooks


def test_of_many_clients_those_are_listed_that_used_the_most() -> None:
    many = {f"c{number}": Usage(jobs=1, run_s=float(number)) for number in range(30)}
    found = of_group(health(clients=many), [])
    assert list(found.clients) == [f"c{number}" for number in range(29, 29 - CLIENTS_REPORTED, -1)]
