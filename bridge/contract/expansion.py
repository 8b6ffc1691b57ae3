"""Expands `each`, `grid` or `repeat` of a set to axes of inputs, in which its jobs differ. Pure.

A set has one axis or several. Each is a list of inputs that go together, and there is a job for
every combination of one entry of each axis. How many that are is known, and refused if it is too
many, before any is made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Any, TypeAlias

import msgspec
from msgspec import UNSET

from bridge.contract.errors import BadRequest, TooLarge
from bridge.contract.messages import Axis, Submit
from bridge.contract.sets import MAX_PICTURES
from bridge.text import plain_problem

# The inputs that an entry of an axis gives.
Entry: TypeAlias = dict[str, Any]
# Draws so many seeds for an input of this name.
Seeds: TypeAlias = Callable[[str, int], list[int]]

# Nobody means more jobs, and a number of some thousand digits cannot even be written.
_COUNTED = 10**15


def sets_named(submit: Submit) -> list[str]:
    """Return the ids of the sets whose outputs a set is made of. Raises BadRequest."""
    grid = {} if submit.grid is UNSET else submit.grid
    axes = [each for each in grid.values() if isinstance(each, Axis)]
    axes += [found[1] for found in _mapped(submit) if found is not None]
    return list(dict.fromkeys(each.set for each in axes if each.set is not UNSET))


def count(submit: Submit, totals: Mapping[str, int], limit: int, setting: str) -> int:
    """Return how many jobs a set has.

    `totals` are the numbers of jobs of the sets that it names; `setting` is what has the limit.
    Raises TooLarge above that, and BadRequest for a range that is none.
    """
    if submit.each is not UNSET:
        field = "each"
        found = sum(1 if each is None else _size(*each, totals) for each in _mapped(submit))
    elif submit.repeat is not UNSET:
        field, found = "repeat", submit.repeat
    else:
        field = "grid"
        axes = {} if submit.grid is UNSET else submit.grid
        found = 1
        for name, each in axes.items():
            size = _size(name, each, totals)
            if not size:
                raise BadRequest(f"grid: the list of {name!r} is empty", field=f"grid.{name}")
            found = min(found * size, _COUNTED)
    if found > limit:
        raise TooLarge(
            f"the set would have {found} jobs; {limit} are taken at most",
            field=field,
            size=found,
            limit=limit,
            setting=setting,
        )
    return found


def check_collect(submit: Submit, total: int) -> None:
    """Raise TooLarge for a contact sheet or an animation of more images than one takes."""
    collect = [] if submit.collect is UNSET else submit.collect
    if total > MAX_PICTURES and ("sheet" in collect or "animation" in collect):
        raise TooLarge(
            f"a sheet or an animation has {MAX_PICTURES} images at most; the set has {total} jobs",
            field="collect",
            size=total,
            limit=MAX_PICTURES,
        )


def axes(submit: Submit, totals: Mapping[str, int], seeds: Seeds) -> list[list[Entry]]:
    """Return the axes of a set whose `count` was checked; the last one varies fastest."""
    if submit.each is not UNSET:
        return [_each(submit, totals)]
    if submit.repeat is not UNSET:
        return [[{} for _ in range(submit.repeat)]]
    given = {} if submit.grid is UNSET else submit.grid
    return [
        [{name: value} for value in _values(name, each, totals, seeds)]
        for name, each in given.items()
    ]


def _each(submit: Submit, totals: Mapping[str, int]) -> list[Entry]:
    """Return the entries of `each`; one that maps over another set is one for each of its jobs."""
    found: list[Entry] = []
    entries = [] if submit.each is UNSET else submit.each
    for entry, mapped in zip(entries, _mapped(submit), strict=True):
        if mapped is None:
            found.append(entry)
            continue
        name, axis = mapped
        found += [{**entry, name: output} for output in _outputs(axis, totals)]
    return found


def _mapped(submit: Submit) -> list[tuple[str, Axis] | None]:
    """Return for each entry of `each` the input that maps over another set, if it has one."""
    entries = [] if submit.each is UNSET else submit.each
    return [_mapped_input(number, entry) for number, entry in enumerate(entries)]


def _mapped_input(number: int, entry: Entry) -> tuple[str, Axis] | None:
    names = [
        name
        for name, value in entry.items()
        if isinstance(value, dict) and "set" in value and value.keys() <= {"set", "output"}
    ]
    if not names:
        return None
    name, field = names[0], f"each[{number}].{names[0]}"
    if len(names) > 1:
        raise BadRequest(
            f"each: entry {number} maps over sets in {' and '.join(map(repr, names))}: one input "
            "of an entry may; `grid` combines several",
            field=field,
        )
    try:
        return name, msgspec.convert(entry[name], Axis)
    except msgspec.ValidationError as error:
        raise BadRequest(f"{field}: {plain_problem(str(error))}", field=field) from None


def _outputs(axis: Axis, totals: Mapping[str, int]) -> list[Any]:
    """Return references to the outputs of another set, as media inputs take them."""
    source = str(axis.set)
    return [
        {"job": job_id(source, index), "output": axis.output} for index in range(totals[source])
    ]


def coordinates(index: int, sizes: list[int]) -> list[int]:
    """Return a job's index on each axis, by its index in the set."""
    found = []
    for size in reversed(sizes):
        index, at = divmod(index, size)
        found.append(at)
    return found[::-1]


def _size(name: str, axis: list[Any] | Axis, totals: Mapping[str, int]) -> int:
    if isinstance(axis, list):
        return len(axis)
    _check(name, axis)
    if axis.seeds is not UNSET:
        return axis.seeds
    if axis.set is not UNSET:
        return totals[axis.set]
    first, last, step = _range(name, axis)
    return int((last - first) // step) + 1


def _values(
    name: str, axis: list[Any] | Axis, totals: Mapping[str, int], seeds: Seeds
) -> list[Any]:
    if isinstance(axis, list):
        return axis
    if axis.seeds is not UNSET:
        return list(seeds(name, axis.seeds))
    if axis.set is not UNSET:
        return _outputs(axis, totals)
    first, _, step = _range(name, axis)
    whole = all(isinstance(each, int) for each in (axis.start, axis.to, axis.step))
    number: Callable[[Fraction], float] = int if whole else float
    return [number(first + at * step) for at in range(_size(name, axis, totals))]


def _check(name: str, axis: Axis) -> None:
    ranged = axis.start is not UNSET or axis.to is not UNSET
    ways = [ranged, axis.seeds is not UNSET, axis.set is not UNSET]
    if sum(ways) != 1:
        raise BadRequest(
            f"grid: {name!r} takes a list, or an object with `from` and `to`, `seeds` or `set`",
            field=f"grid.{name}",
            allowed=["from", "seeds", "set"],
        )


def _range(name: str, axis: Axis) -> tuple[Fraction, Fraction, Fraction]:
    """Return a range's ends and step, exactly as its decimals say. Raises BadRequest."""
    field = f"grid.{name}"
    if axis.start is UNSET or axis.to is UNSET:
        raise BadRequest(f"grid: the range of {name!r} needs `from` and `to`", field=field)
    first, last, step = (Fraction(Decimal(repr(n))) for n in (axis.start, axis.to, axis.step))
    if not step or (last - first) / step < 0:
        raise BadRequest(
            f"grid: the range of {name!r} does not get from {axis.start} to {axis.to} "
            f"in steps of {axis.step}",
            field=field,
        )
    return first, last, step


def job_id(set_id: str, index: int) -> str:
    """Return the id of a job of a set."""
    return f"{set_id}-{index}"


def of_job_id(name: str) -> tuple[str, int] | None:
    """Return the set and the index that a job's id may be made of."""
    set_id, dash, index = name.rpartition("-")
    if not (set_id and dash and index.isascii() and index.isdigit()):
        return None
    return set_id, int(index)
