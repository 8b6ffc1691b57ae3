"""The vectors of conversions, what counts as equal, and what a plausible prompt looks like.

Two conversions are equal when they have the same node ids and class types and, for every node, the
same values of the inputs that `/object_info` declares for its class; a dotted name belongs to the
declared name before the dot. Other inputs are widgets of the page alone.
"""

from __future__ import annotations

import copy
import gzip
import json
import math
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from bridge.workflows.conversion.model import fits
from bridge.workflows.objectinfo import (
    AUTOGROW,
    DYNAMIC_COMBO,
    InputSpec,
    NodeClass,
    ObjectInfo,
)

FOLDER = Path(__file__).parent / "conversions"
VERSIONS = ("0.3.75", "0.33.0")


@cache
def load(name: str) -> Any:
    """Return one of the vectors. It is shared: do not change it."""
    with gzip.open(FOLDER / f"{name}.json.gz") as file:
        return json.load(file)


@cache
def object_info(version: str) -> ObjectInfo:
    """Return what a server of that version says of its classes, as it was saved."""
    return ObjectInfo(load(f"object-info-{version}"))


@cache
def live_object_info() -> ObjectInfo:
    """Return what 0.33.0 itself says, every key in its order."""
    raw = copy.deepcopy(load("object-info-0.33.0"))
    orders = json.loads((FOLDER / "choice-orders-0.33.0.json").read_text())
    for name, declared in raw.items():
        for section, specs in declared["input"].items():
            if section != "hidden":
                order = declared["input_order"].get(section, list(specs))
                declared["input"][section] = {key: specs[key] for key in order}
                for key, spec in specs.items():
                    _reorder(spec, key, orders.get(name, {}))
    return ObjectInfo(raw)


def _reorder(spec: list[Any], path: str, orders: Mapping[str, Any]) -> None:
    if spec[0] != DYNAMIC_COMBO:
        return
    for option in spec[1]["options"]:
        for section, specs in option["inputs"].items():
            order = orders.get(path, {}).get(option["key"], {}).get(section, list(specs))
            option["inputs"][section] = {key: specs[key] for key in order}
            for key, inner in specs.items():
                _reorder(inner, f"{path}.{key}", orders)


def differences(want: Any, got: Any, info: ObjectInfo) -> list[str]:
    """Return what keeps two conversions from being equal."""
    found = [f"node {node} is missing" for node in sorted(want.keys() - got.keys())]
    found += [f"node {node} is too much" for node in sorted(got.keys() - want.keys())]
    for node in sorted(want.keys() & got.keys()):
        kind = want[node]["class_type"]
        if got[node]["class_type"] != kind:
            found.append(f"node {node} is of class {got[node]['class_type']}, not {kind}")
            continue
        one, two = (_declared(each[node], info) for each in (want, got))
        found += [
            f"node {node} ({kind}) input {name}: {two.get(name, 'nothing')!r}"
            f" instead of {one.get(name, 'nothing')!r}"
            for name in sorted(one.keys() | two.keys())
            if name not in one or name not in two or not same(one[name], two[name])
        ]
    return found


def same(one: Any, two: Any) -> bool:
    """Compare as JSON does: 1 and 1.0 are the same, 1 and true are not.

    A page that puts a camera in its place computes its numbers again: their last bits may differ.
    """
    if isinstance(one, bool) or isinstance(two, bool):
        return one is two
    if isinstance(one, float) or isinstance(two, float):
        numbers = isinstance(one, int | float) and isinstance(two, int | float)
        return numbers and math.isclose(one, two, rel_tol=1e-12)
    if isinstance(one, list) and isinstance(two, list):
        return len(one) == len(two) and all(map(same, one, two))
    if isinstance(one, dict) and isinstance(two, dict):
        return one.keys() == two.keys() and all(same(one[key], two[key]) for key in one)
    return bool(one == two)


def _declared(node: Any, info: ObjectInfo) -> dict[str, Any]:
    declared = info.get(node["class_type"])
    return {
        name: value
        for name, value in node["inputs"].items()
        if declared is not None and declared.declares(name)
    }


def problems(prompt: Any, info: ObjectInfo) -> Iterator[str]:
    """Return what makes a prompt implausible, as far as the declarations say.

    Choices are not checked: which models and files there are differs from server to server.
    """
    for node, entry in prompt.items():
        declared = info.get(entry["class_type"])
        if declared is None:
            yield f"{node}: unknown class {entry['class_type']}"
            continue
        where = f"{node} ({declared.name})"
        specs = dict(_specs(declared, entry["inputs"]))
        for name, spec in specs.items():
            if name not in entry["inputs"]:
                if spec.required:
                    yield f"{where}: required input {name} is missing"
            else:
                yield from _value_problems(where, spec, entry["inputs"][name], prompt, info)


def _specs(declared: NodeClass, inputs: Mapping[str, Any]) -> Iterator[tuple[str, InputSpec]]:
    """Return all inputs of the node, with those of its choices and the members of lists."""
    waiting = [(spec.name, spec) for spec in declared.inputs]
    while waiting:
        name, spec = waiting.pop()
        if spec.type == AUTOGROW:
            growing = spec.growing()
            assert growing is not None
            members = [key for key in inputs if key.startswith(f"{name}.")]
            waiting += [(key, growing.template[0].renamed(key)) for key in members]
            continue
        yield name, spec
        branch = spec.branch(inputs.get(name))
        if branch is not None:
            waiting += [(f"{name}.{each.name}", each) for each in branch.inputs]


def _value_problems(
    where: str, spec: InputSpec, value: Any, prompt: Any, info: ObjectInfo
) -> Iterator[str]:
    if isinstance(value, list):
        origin = prompt.get(value[0])
        source = info.get(origin["class_type"]) if origin is not None else None
        if source is None:
            yield f"{where}: {spec.name} is linked to node {value[0]}, which is not there"
        elif not 0 <= value[1] < len(source.outputs):
            yield f"{where}: {spec.name} is linked to an output that is not there"
        elif source.outputs[value[1]].match_group is None and spec.matched() is None:
            given = source.outputs[value[1]].type
            if not fits(given, spec.type) and "COMBO" not in (given, spec.type):
                yield f"{where}: {spec.name} takes {spec.type} and is given {given}"
        return
    kinds: dict[str, tuple[type, ...]] = {
        "INT": (int,),
        "FLOAT": (int, float),
        "BOOLEAN": (bool,),
        "STRING": (str,),
    }
    wanted = kinds.get(spec.widget_type)
    if wanted is None:
        return
    if not isinstance(value, wanted) or isinstance(value, bool) != (wanted == (bool,)):
        yield f"{where}: {spec.name} is {value!r}, not of type {spec.type}"
    elif isinstance(value, int | float):
        low, high = spec.minimum, spec.maximum
        if (low is not None and value < low) or (high is not None and value > high):
            yield f"{where}: {spec.name} is {value!r}, outside {low} to {high}"
