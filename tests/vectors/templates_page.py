"""Draws docs/templates.md: what each template of October 2026 takes, gives and lacks.

The templates are those of `templates-0.1.123.json.gz`, the server is a 0.33.0 without any models,
the front end 1.58.1. `make templates` draws the page again.
"""

from __future__ import annotations

import json
import textwrap
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from bridge.workflows import source
from bridge.workflows.catalogue import NodeCatalogue
from bridge.workflows.conversion import ConversionError, convert
from bridge.workflows.graph import WorkflowError
from bridge.workflows.workflow import Workflow
from tests.vectors import comparison

PAGE = Path(__file__).parents[2] / "docs" / "templates.md"
TEMPLATES = "templates-0.1.123"
# What the page makes of those whose classes the server has.
PAGES = "page-0.1.123"
# Why a conversion is not the page's.
NEWER = (
    "Files that were made with a newer server. Here values are matched by name. The page "
    "matches them by position, so that they are set on other inputs, or it has no inputs for an "
    "unknown model."
)
CHANGED = (
    "Files whose values somebody has changed after the page had saved them, in the list but not by "
    "their names. Here the list counts, as on the page by default; it was compared with its "
    "setting to take values by name, since most files need that."
)
VIEWS = (
    "Files with a 3D view whose picture has to be given here. Its camera is where the file has it; "
    "the page, which had no model to show, has set it back."
)
LOST = (
    "Files of which the page loses the last link to a growing list, also in a fresh window. Here "
    "every link of the file counts, as on the page with the front end 1.49.6 where that was tried."
)
OTHERWISE = {
    "api_bytedance_seedream_5_0_flash_image_edit": NEWER,
    "api_bytedance_seedream_5_0_lite_image_edit": NEWER,
    "api_bytedance_seedream_5_0_lite_t2i": NEWER,
    "api_nano_banana_2_1_image_edit": NEWER,
    "api_openai_gpt_image_25_flare_image_edit": NEWER,
    "api_openai_gpt_image_25_flare_t2i": NEWER,
    "api_openai_gpt_image_25_sunburst_image_edit": NEWER,
    "api_openai_gpt_image_25_sunburst_t2i": NEWER,
    "api_recraft_v4_1_flash_t2i": NEWER,
    "api_fishaudio_voice_clone_tts": CHANGED,
    "api_google_nano_banana2_image_edit_continuation": CHANGED,
    "api_hunyuan3d_model2uv": VIEWS,
    "api_hunyuan3d_part": VIEWS,
    "api_hunyuan3d_retopo_uv": VIEWS,
    "api_hunyuan3d_smart_topology": VIEWS,
    "api_flux2": LOST,
    "api_grok_reference_to_video": LOST,
}
# As long as a cell may be; what is left out is counted.
_SHOWN = 8


class Row(Struct, frozen=True):
    """The outcome of one template. `equal`: its conversion is as the page's, which may lack."""

    name: str
    workflow: Workflow | None
    equal: bool | None
    problem: str = ""

    @property
    def runnable(self) -> bool:
        """True if it runs once its models are there, and a key for nodes that cost money."""
        found = None if self.workflow is None else self.workflow.missing
        return found is not None and not found.nodes and not found.inputs


def rows() -> list[Row]:
    """Return a row for each template, in the order of their names."""
    info = comparison.live_object_info()
    catalogue = NodeCatalogue({"server": info})
    known = (comparison.FOLDER / f"{PAGES}.json.gz").is_file()
    page = comparison.load(PAGES) if known else {}
    return [
        _row(name, document, page.get(name), catalogue)
        for name, document in sorted(comparison.load(TEMPLATES).items())
    ]


def _row(name: str, document: Any, page: Any, catalogue: NodeCatalogue) -> Row:
    info = comparison.live_object_info()
    try:
        file = source.read(f"{name}.json", json.dumps(document).encode())
        built = file.build("demo", info)
    except WorkflowError as error:
        return Row(name, None, None, str(error))
    lacking = catalogue.lacking(built.graph.nodes.values())
    found = msgspec.structs.replace(built, missing=lacking)
    if page is None:
        return Row(name, found, None)
    try:
        # A picture that only the page can take is compared as what is given in its place.
        mine = convert(document, info, keep_unknown=True)
        equal = not comparison.differences(page, mine, info)
    except ConversionError:
        equal = False
    return Row(name, found, equal)


def text(found: list[Row]) -> str:
    """Return the page."""
    described = [row for row in found if row.workflow is not None]
    complete = [row for row in described if row.runnable]
    compared = [row for row in found if row.equal is not None]
    equal = [row for row in compared if row.equal]
    lines = [
        "# The templates of October 2026",
        "",
        "What each workflow of `comfyui-workflow-templates-json` 0.1.123 takes and gives, as its",
        "definition says, and what a ComfyUI 0.33.0 without any models or keys lacks for it.",
        "`make templates` draws it; do not edit.",
        "",
        "| | |",
        "|---|---|",
        f"| templates | {len(found)} |",
        f"| described | {len(described)} |",
        f"| of these the server has all node classes and links | {len(complete)} |",
        *(
            (
                f"| compared with the official page (front end 1.58.1) | {len(compared)} |",
                f"| converted as the page does | {len(equal)} |",
            )
            if compared
            else ()
        ),
        "",
        "## All that the server has the classes of",
        "",
        "| template | inputs | outputs | missing |",
        "|---|---|---|---|",
        *(_line(row.name, row.workflow) for row in complete if row.workflow is not None),
        "",
        "## What needs classes that the server does not have",
        "",
        "| template | classes |",
        "|---|---|",
        *(
            f"| {row.name} | {_listed(row.workflow.missing.nodes)} |"
            for row in described
            if not row.runnable and row.workflow is not None and row.workflow.missing is not None
        ),
        "",
    ]
    if compared:
        lines += ["## What the page converts otherwise", ""]
        for reason in dict.fromkeys(OTHERWISE.values()):
            names = (name for name, why in OTHERWISE.items() if why == reason)
            lines += [*textwrap.wrap(reason, 99), "", *(f"- {name}" for name in names), ""]
    if refused := [row for row in found if row.workflow is None]:
        lines += ["## What is refused", "", "| template | why |", "|---|---|"]
        lines += [f"| {row.name} | {_cell(row.problem)} |" for row in refused]
        lines += [""]
    return "\n".join(lines)


def _line(name: str, workflow: Workflow) -> str:
    inputs = _listed([spec.name for spec in workflow.inputs])
    kinds = Counter(
        f"{output.kind}{' (preview)' if output.preview is True else ''}"
        for output in workflow.outputs
    )
    outputs = _listed([f"{count} {kind}" if count > 1 else kind for kind, count in kinds.items()])
    return f"| {name} | {inputs} | {outputs} | {_missing(workflow)} |"


def _missing(workflow: Workflow) -> str:
    lacking = workflow.missing
    if lacking is None:
        return ""
    models = dict.fromkeys(choice.value.rpartition("/")[2] for choice in lacking.choices)
    parts = [_listed(list(models))] if models else []
    if lacking.api_key:
        parts.append(f"a key for {_listed(lacking.api_key)}")
    nodes = workflow.graph.nodes
    newer = dict.fromkeys(
        f"{nodes[each.node].class_type}.{each.input}" for each in lacking.unknown_inputs
    )
    if newer:
        parts.append(f"a newer server for {_listed(list(newer))}")
    return "; ".join(parts)


def _listed(names: list[str]) -> str:
    shown = ", ".join(map(_cell, names[:_SHOWN]))
    return f"{shown} and {len(names) - _SHOWN} more" if len(names) > _SHOWN else shown


def _cell(value: str) -> str:
    return value.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    PAGE.write_text(text(rows()), encoding="utf-8")
