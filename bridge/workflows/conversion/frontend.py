"""Differences between the generations of the official front end.

A server names the front end that it is used with (it pins the package), so its `/object_info`
says which one to follow. Read and tried: 1.32.9, of server 0.3.75, and 1.49.6, of server 0.33.0.
Servers in between are treated as the later one as soon as they have dynamic inputs.
"""

from __future__ import annotations

import msgspec

from bridge.workflows.objectinfo import DYNAMIC_COMBO, ObjectInfo

_VALUES = frozenset({"INT", "FLOAT", "BOOLEAN", "STRING", "MARKDOWN", "COMBO", "COLOR"})
_VIEWS = frozenset({"IMAGECOMPARE", "CHART", "GALLERIA", "TEXTAREA", "IMAGEUPLOAD"})
_MEDIA = frozenset({"AUDIO_UI", "AUDIOUPLOAD", "AUDIO_RECORD", "WEBCAM", "LOAD_3D", "PREVIEW_3D"})
_NEWER = frozenset(
    {
        "BOUNDING_BOX",
        "BOUNDING_BOXES",
        "COLORS",
        "COMPOSITOR",
        "CURVE",
        "LOAD_3D_ADVANCED",
        "PAINTER",
        "RANGE",
        "VIDEO_EDIT",
        DYNAMIC_COMBO,
    }
)


class FrontEnd(msgspec.Struct, frozen=True):
    r"""One generation of the front end.

    `widget_types`: the types for which it has a widget; every other input takes links only.
    `dynamic_inputs`: it knows inputs that grow, share a type or come with a choice.
    `unique_ids`: it gives nodes in subgraphs new ids where two share one.
    `host_values`: a value shown on a subgraph node belongs to that node and replaces the inner
    one; before, it was a window to the inner node's value unless it stood on an input.
    `skips_inactive`: what is inside a muted or bypassed subgraph node of the root is left out.
    `stops_at_muted`: nothing comes from a muted node; before, a muted reroute or subgraph node
    passed on what it was given, or what was inside.
    `converts_groups`: legacy group nodes become subgraphs when it loads the file, whatever their
    mode; before, their nodes took part under ids of their own, and a bypassed one was passed by.
    `plain_texts`: multi-line texts go through a text field, which turns line ends into `\n`.
    `fills_combos`: a combo saved without a value gets its first choice.
    `controls_floats`: floats can have a control widget, too.
    `upload_when_named`: 3D upload buttons appear only on nodes that name a model file.
    """

    widget_types: frozenset[str]
    dynamic_inputs: bool
    unique_ids: bool
    host_values: bool
    skips_inactive: bool
    stops_at_muted: bool
    converts_groups: bool
    plain_texts: bool
    fills_combos: bool
    controls_floats: bool
    upload_when_named: bool


EARLIER = FrontEnd(
    widget_types=_VALUES | _VIEWS | _MEDIA,
    dynamic_inputs=False,
    unique_ids=False,
    host_values=False,
    skips_inactive=False,
    stops_at_muted=False,
    converts_groups=False,
    plain_texts=True,
    fills_combos=False,
    controls_floats=False,
    upload_when_named=False,
)

LATER = FrontEnd(
    widget_types=_VALUES | _VIEWS | _MEDIA | _NEWER,
    dynamic_inputs=True,
    unique_ids=True,
    host_values=True,
    skips_inactive=True,
    stops_at_muted=True,
    converts_groups=True,
    plain_texts=False,
    fills_combos=True,
    controls_floats=True,
    upload_when_named=True,
)


def of(object_info: ObjectInfo) -> FrontEnd:
    """Return the front end that the server is used with."""
    # Servers say which outputs take an input's type since they have such inputs.
    return LATER if object_info.declares_key("output_matchtypes") else EARLIER
