"""The order of a choice's inputs where a saved `/object_info` has lost it.

A server writes its declarations in the order of the widgets. Tools that save them often sort their
keys. For the inputs of a class `input_order` makes up for it, for those that a choice of a dynamic
combo brings nothing does, and a file lists their values by position only. They are then put into
the order that fits the node's own values best: the values must be of the right type and among what
is allowed; values that are the default, and what the file gives by name, are evidence for an order;
without any, habits of naming decide (width before height).

On a live server's `/object_info` none of this happens.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from bridge.workflows.conversion.document import FileNode
from bridge.workflows.conversion.errors import Budget
from bridge.workflows.conversion.widgets import Layout
from bridge.workflows.objectinfo import InputSpec, ObjectInfo, number

# More inputs than this are left as they are: the search doubles with each one.
_MAX_INPUTS = 12

# What speaks for an order, in steps that cannot be made up for by many of the next smaller one.
_WRONG = -1000.0  # the value cannot be meant for this input
_UNLISTED = -20.0  # it is outside what is allowed
_NAMED = 50.0  # the file names the inputs in this order
_FITS = 4.0
_DEFAULT = 2.0
_NEAR = 1.0
_HABIT = 0.25

_CONTROLS = frozenset({"fixed", "increment", "decrement", "randomize", "increment-wrap"})

# How related inputs are usually listed, by the last words of their names.
_HABITS: tuple[tuple[str, ...], ...] = (
    ("prompt", "negative_prompt", "resolution", "ratio", "duration", "fps", "generate_audio"),
    ("resolution", "aspect_ratio", "duration"),
    ("prompt", "duration"),
    ("size_preset", "width", "height", "crop", "max_images"),
    ("size", "custom_width", "custom_height"),
    ("x", "y", "width"),
    ("min", "max"),
    ("yaw", "pitch", "roll", "distance"),
    ("temperature", "top_k", "top_p", "min_p", "repetition_penalty", "presence_penalty", "seed"),
    ("stability", "speed", "similarity_boost", "use_speaker_boost", "style"),
)
_ORDINAL = re.compile(r"\d+")


class Ordering:
    """Puts what a choice brings into the order of the file's values."""

    def __init__(self, object_info: ObjectInfo, layout: Layout, budget: Budget) -> None:
        self._object_info = object_info
        self._layout = layout
        self._budget = budget
        self._known: bool | None = None

    def arrange(
        self, node: FileNode, prefix: str, specs: Sequence[InputSpec], following: Sequence[Any]
    ) -> list[InputSpec]:
        """Return the inputs in order. `following` are the values after the choice's own."""
        if self._known is None:
            self._known = self._object_info.order_known()
        typed = [spec for spec in specs if self._layout.has_widget(spec)]
        if self._known or not 1 < len(typed) <= _MAX_INPUTS:
            return list(specs)
        search = _Search(self._layout, typed, following, _named(node, prefix), self._budget)
        links_only = [spec for spec in specs if spec not in typed]
        return [*search.order(), *links_only]


class _Search:
    """Finds the order of a few inputs that fits values best, by trying what comes next.

    What is left to place is a set of bits, so that each set is looked at once for each place.
    """

    def __init__(
        self,
        layout: Layout,
        specs: Sequence[InputSpec],
        values: Sequence[Any],
        named: Mapping[str, int],
        budget: Budget,
    ) -> None:
        self._layout = layout
        self._specs = specs
        self._values = values
        self._budget = budget
        self._before = [[_before(one, two, named) for two in specs] for one in specs]
        self._needed = sum(1 << place for place, spec in enumerate(specs) if spec.required)
        self._places: dict[tuple[int, int], tuple[float, int]] = {}
        self._best: dict[tuple[int, int], tuple[float, int, tuple[int, ...]]] = {}

    def order(self) -> list[InputSpec]:
        """Return the inputs in the best order."""
        _, _, order = self._rest((1 << len(self._specs)) - 1, 0)
        return [self._specs[index] for index in order]

    def length(self) -> tuple[float, int]:
        """Return how well the best order fits, and how many values it takes."""
        score, end, _ = self._rest((1 << len(self._specs)) - 1, 0)
        return score, end

    def _rest(self, left: int, place: int) -> tuple[float, int, tuple[int, ...]]:
        """Return score, end and order of the inputs in `left`, for the values from `place` on."""
        known = self._best.get((left, place))
        if known is not None:
            return known
        best: tuple[float, int, tuple[int, ...]] | None = None
        # All that is required comes before all that is optional.
        for index in _bits(left & self._needed or left):
            self._budget.spend()
            score, end = self._placed(index, place)
            others = left & ~(1 << index)
            before = self._before[index]
            score += sum(before[other] for other in _bits(others))
            rest, last, order = self._rest(others, end)
            if best is None or score + rest > best[0]:
                best = (score + rest, last, (index, *order))
        found = best or (0.0, place, ())
        self._best[left, place] = found
        return found

    def _placed(self, index: int, place: int) -> tuple[float, int]:
        """Return how well the input fits the values from `place` on, and where it ends."""
        if place >= len(self._values):
            return 0.0, place
        known = self._places.get((index, place))
        if known is None:
            known = self._places[index, place] = self._fitted(self._specs[index], place)
        return known

    def _fitted(self, spec: InputSpec, place: int) -> tuple[float, int]:
        value = self._values[place]
        score = _fit(spec, value)
        place += 1
        for widget in self._layout.widgets(spec)[1:]:
            if widget.saved and place < len(self._values):
                control = self._values[place]
                is_one = isinstance(control, str) and control in _CONTROLS
                if widget.name.startswith("control_after") and not is_one:
                    score += _WRONG
                place += 1
        branch = spec.branch(value)
        if branch is not None:
            inner = [each for each in branch.inputs if self._layout.has_widget(each)]
            search = _Search(
                self._layout, inner[:_MAX_INPUTS], self._values[place:], {}, self._budget
            )
            more, taken = search.length()
            score, place = score + more, place + taken
        return score, place


def _bits(mask: int) -> Iterator[int]:
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


def _before(one: InputSpec, two: InputSpec, named: Mapping[str, int]) -> float:
    """Return the score of one input before another."""
    if one is two:
        return 0.0
    score = _habit(one.name, two.name)
    if one.name in named and two.name in named:
        score += _NAMED if named[one.name] < named[two.name] else -_NAMED
    return score


def _named(node: FileNode, prefix: str) -> dict[str, int]:
    """Return the order in which the file names the inputs, as far as it does."""
    named = [name for name in node.named if name.startswith(prefix)]
    if not named:
        named = [slot.name for slot in node.inputs if slot.widget and slot.name.startswith(prefix)]
    return {name.removeprefix(prefix): place for place, name in enumerate(named)}


def _fit(spec: InputSpec, value: Any) -> float:
    """Return how well a value fits an input."""
    kind = spec.widget_type
    if spec.choices is not None:
        fits = value in spec.choices if isinstance(value, str | int | float) else None
    elif kind in ("INT", "FLOAT"):
        return _fit_number(spec, value)
    elif kind == "BOOLEAN":
        fits = isinstance(value, bool) or None
    elif kind == "STRING":
        # A sentence is rather meant for the field of several lines.
        if isinstance(value, str):
            return _default(spec, value) + (_NEAR if spec.multiline == (" " in value) else 0.0)
        fits = None
    elif kind == "COLOR":
        fits = (isinstance(value, str) and value.startswith("#")) or None
    else:
        fits = isinstance(value, list | Mapping)
    if fits is None:
        return _WRONG
    return _FITS + _default(spec, value) if fits else _UNLISTED


def _fit_number(spec: InputSpec, given: Any) -> float:
    value = number(given)
    if value is None:
        return _WRONG
    if spec.widget_type == "INT" and value != int(value):
        return _WRONG
    low, high = spec.minimum, spec.maximum
    if (low is not None and value < low) or (high is not None and value > high):
        return _UNLISTED
    default = number(spec.default)
    distance = 0.0
    if low is not None and high is not None and high > low and default is not None:
        distance = abs(value - default) / (high - low)
    return _FITS + _default(spec, value) - _NEAR * distance


def _default(spec: InputSpec, value: Any) -> float:
    return _DEFAULT if spec.default is not None and value == spec.default else 0.0


def _habit(one: str, two: str) -> float:
    """Return the score of one name before another, by habits of naming."""
    first, second = _ORDINAL.search(one), _ORDINAL.search(two)
    if first is not None and second is not None and int(first[0]) != int(second[0]):
        return _NEAR if int(first[0]) < int(second[0]) else -_NEAR
    for names in _HABITS:
        places = [_place(names, each) for each in (one, two)]
        if places[0] is not None and places[1] is not None and places[0] != places[1]:
            return _HABIT if places[0] < places[1] else -_HABIT
    return 0.0


def _place(names: Iterable[str], name: str) -> int | None:
    """Return the place of the longest of the words that a name ends with."""
    found = [
        (len(word), place)
        for place, word in enumerate(names)
        if name == word or name.endswith(f"_{word}")
    ]
    return max(found)[1] if found else None
