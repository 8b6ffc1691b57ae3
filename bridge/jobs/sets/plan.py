"""A set as it is kept: one plan, and by axis and entry what is different in it. Pure.

What a set takes is bound to its workflow when it is accepted, so that a workflow that changes later
changes nothing of it. A grid of ten by ten keeps twenty differences, not a hundred plans.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from math import prod
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from bridge.contract import expansion
from bridge.contract.messages import Collect
from bridge.jobs.job import Blob, Draft, Envelope, Job, MediaInput, Plan
from bridge.jobs.queue import Key
from bridge.jobs.state import first
from bridge.workflows.catalogue import Needs


class Patch(Struct, frozen=True, omit_defaults=True):
    """The difference of one plan from another; `shown` are the inputs that make it.

    `gone` are names of inputs that the other has and this one has not.
    """

    shown: dict[str, Any] = {}
    prompt: dict[str, dict[str, Any]] = {}
    inputs: dict[str, Any] = {}
    names: dict[str, str] = {}
    media: list[MediaInput] = []
    gone: list[str] = []


class SetSpec(Struct, frozen=True, omit_defaults=True):
    """The specification of a set's jobs. Equal requests have an equal `fingerprint`."""

    fingerprint: bytes
    workflow: str
    workflow_version: str
    envelope: Envelope
    base: Plan
    axes: list[list[Patch]]
    priority: int = 0
    start_before: float | None = None
    timeout_s: float | None = None
    keep_s: float | None = None
    ordered: bool = False
    collect: list[Collect] = []

    @property
    def total(self) -> int:
        """The number of jobs of the set."""
        return prod(map(len, self.axes))

    @property
    def blobs(self) -> set[str]:
        """The SHA-256 of all bytes that its jobs refer to and that are here."""
        return {item.sha256 for item in self._items if isinstance(item, Blob)}

    @property
    def waits(self) -> bool:
        """True if jobs of it wait for bytes that are not here yet."""
        return any(not isinstance(item, Blob) for item in self._items)

    @property
    def _items(self) -> Iterable[object]:
        media = [*self.base.media, *(m for axis in self.axes for each in axis for m in each.media)]
        return (item for each in media for item in each.items)

    def plan(self, index: int) -> Plan:
        """Return the plan of one job."""
        plan = self.base
        for patch in self._patches(index):
            plan = patched(plan, patch)
        return plan

    def shown(self, index: int) -> dict[str, Any]:
        """Return the inputs by which one job differs from the others."""
        found: dict[str, Any] = {}
        for patch in self._patches(index):
            found |= patch.shown
        return found

    def draft(self, key: Key, index: int, plan: Plan, *, prompt_id: str, needs: Needs) -> Draft:
        """Return one job, by the plan that was made for it; `key` is the set's."""
        envelope = replace(
            self.envelope,
            response_topic=None,
            correlation=None,
            reply_output=False,
            webhooks=[],  # they are sent what became of the set
            set_id=key.job_id,
            set_index=index,
        )
        job = Job(
            key=Key(key.client, expansion.job_id(key.job_id, index)),
            workflow=self.workflow,
            workflow_version=self.workflow_version,
            state=first(waits=plan.waits),
            priority=self.priority,
            prompt_id=prompt_id,
            start_before=self.start_before,
            timeout_s=self.timeout_s,
            keep_s=self.keep_s,
            ordered=self.ordered,
            needs=needs,
            envelope=envelope,
        )
        own = hashlib.sha256(b"%b %d" % (self.fingerprint, index)).digest()
        return Draft(job=job, fingerprint=own, plan=plan)

    def _patches(self, index: int) -> Iterable[Patch]:
        found = expansion.coordinates(index, [len(axis) for axis in self.axes])
        return (axis[at] for axis, at in zip(self.axes, found, strict=True))


def unknown(workflow: str, total: int) -> SetSpec:
    """Return a substitute for a set's specification that cannot be read, to end the set."""
    nothing = Plan(prompt={}, inputs={}, names={}, outputs=[])
    return SetSpec(b"", workflow, "", Envelope(), nothing, [[Patch()] * total])


def difference(base: Plan, other: Plan) -> Patch:
    """Return what another plan of the same workflow has that the base has not."""
    prompt = {}
    for node, spec in other.prompt.items():
        before = base.prompt[node]["inputs"]
        changed = {
            name: value
            for name, value in spec["inputs"].items()
            if name not in before or before[name] != value
        }
        if changed:
            prompt[node] = changed
    inputs = _changed(base.inputs, other.inputs)
    names = _changed(base.names, other.names)
    there = {each.name: each for each in base.media}
    media = [each for each in other.media if there.get(each.name) != each]
    kept = {*other.inputs, *(each.name for each in other.media)}
    gone = [name for name in (*base.inputs, *there) if name not in kept]
    return Patch(
        prompt=prompt, inputs=inputs, names=names, media=media, gone=list(dict.fromkeys(gone))
    )


def patched(base: Plan, patch: Patch) -> Plan:
    """Return the plan that differs so from the base, which is left as it is."""
    prompt = dict(base.prompt)
    for node, inputs in patch.prompt.items():
        prompt[node] = {**prompt[node], "inputs": {**prompt[node]["inputs"], **inputs}}
    inputs = {name: value for name, value in base.inputs.items() if name not in patch.gone}
    media = {each.name: each for each in base.media if each.name not in patch.gone}
    media |= {each.name: each for each in patch.media}
    return replace(
        base,
        prompt=prompt,
        inputs=inputs | patch.inputs,
        names={**base.names, **patch.names},
        media=list(media.values()),
    )


def shown_by(entries: Sequence[expansion.Entry], plans: Sequence[Plan]) -> list[dict[str, Any]]:
    """Return for each entry of an axis the inputs that make it: those given, and drawn seeds.

    Of media it is what the plan has of it, never the bytes.
    """
    first = plans[0].inputs
    varying = dict.fromkeys(name for each in entries for name in each)
    for plan in plans:
        varying |= dict.fromkeys(
            name for name, value in plan.inputs.items() if first.get(name) != value
        )
    return [
        {name: value for name in varying if (value := _shown(plan, name)) is not None}
        for plan in plans
    ]


def _shown(plan: Plan, name: str) -> Any:
    if name in plan.inputs:
        return plan.inputs[name]
    # Media that is yet to come is named as it was given.
    items = next((each.items for each in plan.media if each.name == name), [])
    given = [
        {field: value for field, value in msgspec.to_builtins(item).items() if field != "type"}
        for item in items
    ]
    return given[0] if len(given) == 1 else given or None


def _changed(base: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in other.items() if name not in base or base[name] != value}
