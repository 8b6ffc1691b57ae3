"""The diagrams of docs/architecture.md, drawn from the code: `python -m tests.support.diagrams`.

Each stands between two comments that name it. Run as a program it draws them again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from bridge.comfyui.state import TABLE
from bridge.contract.channels import channels
from bridge.contract.messages import State
from bridge.jobs.state import TRANSITIONS, Transition

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "architecture.md"
_IMPORT = re.compile(r"^\s*(?:from|import) bridge\.(\w+)", re.MULTILINE)
# Levels below which the topics of one kind lie.
_KINDS = ("request", "response", "job", "set", "reply")


def states(transitions: Mapping[tuple[State, Transition], State] = TRANSITIONS) -> str:
    """Draw the states of a job, as its client sees them."""
    ends = {
        state for state in transitions.values() if not any(at == state for at, _ in transitions)
    }
    lines = [
        "stateDiagram-v2",
        "    [*] --> waiting: accepted, its input is not here yet",
        "    [*] --> queued: accepted",
        *(f"    {at} --> {to}: {what}" for (at, what), to in transitions.items()),
        *(f"    {state} --> [*]" for state in sorted(ends)),
    ]
    return "\n".join(lines)


def topics() -> str:
    """Draw topics with their publishers and subscribers, those of one kind on one arrow."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for channel in channels():
        _, *levels = channel.address.replace("{", "&lt;").replace("}", "&gt;").split("/")
        who = "client" if levels[0] == "client" else "operator"
        if channel.retain or levels[1] in ("event", "log"):
            way, length = ("bridge", "everybody"), 1
        else:
            way = (who, "bridge") if channel.action == "receive" else ("bridge", who)
            length = next((at for at, each in enumerate(levels) if each in _KINDS), 0) + 1
            length += levels[length - 1] in ("job", "set")  # the id
        rest = levels[length:]
        names = found.setdefault((*way, "/".join(levels[:length])), [])
        name = "/".join(rest) if way[0] == "operator" or way[1] != "client" else rest[0]
        name = name.partition("/&lt;")[0] if way == ("client", "bridge") else name
        if name not in names:
            names.append(name)
    lines = ["flowchart LR"]
    for (sender, receiver, start), names in found.items():
        retained = "retained: " if receiver == "everybody" and start != "bridge" else ""
        rows = [", ".join(names[at : at + 4]) for at in range(0, len(names), 4)]
        label = "<br>".join([f"{retained}{start}/", *rows])
        lines.append(f'    {sender} -- "{label}" --> {receiver}')
    return "\n".join(lines)


def comfyui_states() -> str:
    """Draw the states of a ComfyUI, those with the same ways out in one box."""
    boxes = {"ready": "connected", "busy": "connected", "yielded": "connected"}
    boxes |= {"restarting": "failed", "crash_loop": "failed"}
    ways = {
        f"    {boxes.get(at, at)} --> {boxes.get(to, to)}: {event.__name__}": None
        for at, row in TABLE.items()
        for event, to in row.items()
        if boxes.get(at, at) != boxes.get(to, to)
    }
    inside = [
        line
        for box in dict.fromkeys(boxes.values())
        for line in (
            f"    state {box} {{",
            *(f"        {at}" for at, of in boxes.items() if of == box),
            "    }",
        )
    ]
    return "\n".join(["stateDiagram-v2", "    [*] --> stopped", *inside, *ways])


def rooms() -> str:
    """Draw which folder of bridge/ imports which; an arrow that others imply is left out."""
    imports = {room: _imports(room) - {room} for room in _rooms()}
    reach = {room: _reach(room, imports) for room in imports}
    lines = ["flowchart TD"]
    for room in sorted(imports):
        implied = {far for near in imports[room] for far in reach[near]}
        lines += [f"    {room} --> {other}" for other in sorted(imports[room] - implied)]
    return "\n".join(lines)


def _rooms() -> list[str]:
    return sorted(path.parent.name for path in (ROOT / "bridge").glob("*/__init__.py"))


def _imports(room: str) -> set[str]:
    files = (ROOT / "bridge" / room).rglob("*.py")
    found = {name for path in files for name in _IMPORT.findall(path.read_text("utf-8"))}
    return found & {*_rooms()}


def _reach(room: str, imports: Mapping[str, set[str]]) -> set[str]:
    found: set[str] = set()
    ahead = list(imports[room])
    while ahead:
        each = ahead.pop()
        if each not in found:
            found.add(each)
            ahead.extend(imports[each])
    return found


# Each draws Mermaid text.
DIAGRAMS: dict[str, Callable[[], str]] = {
    "topics": topics,
    "rooms": rooms,
    "states": states,
    "comfyui": comfyui_states,
}


def drawn(name: str, page: str) -> str:
    """Return the diagram of that name on a page. Raises LookupError."""
    found = re.search(rf"<!-- {name} -->\n```mermaid\n(.*?)\n```", page, re.DOTALL)
    if found is None:
        raise LookupError(f"docs/architecture.md has no diagram {name!r}")
    return found[1]


def _block(name: str, diagram: str) -> str:
    return f"<!-- {name} -->\n```mermaid\n{diagram}"


def main() -> None:
    """Draw all diagrams of the page again."""
    page = PAGE.read_text("utf-8")
    for name, draw in DIAGRAMS.items():
        page = page.replace(_block(name, drawn(name, page)), _block(name, draw()))
    PAGE.write_text(page, "utf-8")


if __name__ == "__main__":
    main()
