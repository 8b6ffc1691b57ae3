"""The findings of `comfy2mqtt doctor`, and what helps against each fault of ComfyUI.

Pure. docs/operations.md has more.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from msgspec import UNSET, Struct

from bridge.contract.retained import (
    BridgeHealth,
    ComfyUIRelease,
    ComfyUIState,
    GpuLease,
    UpdateStep,
)

_LOG = "its output is in comfyui.log in its folder under data"

# By the `reason` of the retained state.
REMEDIES: Mapping[str, str] = {
    "not_linux": "run the bridge on Linux, or attach to a ComfyUI that runs: comfyui_url",
    "no_interpreter": "set comfyui_python to the interpreter of ComfyUI's own environment",
    "no_comfyui": "set comfyui_path to the folder that holds ComfyUI's main.py",
    "no_folder": "let the bridge write to its folder (data), and make room there",
    "no_guard": "the host may be at its limit of processes or memory",
    "port_taken": "nothing: the next start takes another port",
    "nodes_missing": f"see why our nodes could not be imported; {_LOG}",
    "start_timeout": f"see what it waits for: a download, a custom node; {_LOG}",
    "exited": f"usually a package is missing, or a graphics card (comfyui_args: --cpu); {_LOG}",
    "crashed": f"usually a driver or a custom node is broken; {_LOG}",
    "killed": "find out which program or person kills it",
    "host_out_of_memory": "use smaller models, more memory, or the argument --cache-none",
    "worker_dead": "find the node that ends its worker thread: the one that its last job was in",
    "frozen": "nothing; if it happens again, look for a hanging driver, or for swapping",
    "hung": "find the node that hangs, or raise silence_s or the job's timeout_s",
    "unreachable": "is it running? check its URL, firewalls and proxies",
    "forbidden": "check its secret (COMFY2MQTT_SECRET there), and the password of its proxy",
}

# By what ComfyUI said when it ended: the first that fits is the cause.
_CAUSES: tuple[tuple[str, str], ...] = (
    (
        r"No module named '?([\w.]+)",
        "ComfyUI's environment lacks {0}: install its requirements.txt with comfyui_python",
    ),
    (
        r"not compiled with CUDA|no NVIDIA driver|Found no NVIDIA|No CUDA GPUs|HIP error: no ",
        'torch finds no graphics card: set comfyui_args = ["--cpu"], or install another torch',
    ),
    (
        r"driver .*(?:too old|insufficient)|no kernel image is available",
        "torch does not fit the graphics card's driver: update the driver or torch",
    ),
    (r"unrecognized arguments?: (.+)", "correct comfyui_args: this ComfyUI does not know {0}"),
    (r"expected one argument|invalid .*value: ", "correct comfyui_args"),
    (r"OutOfMemory|out of memory|MemoryError", "use smaller models, or the argument --lowvram"),
    (r"No space left on device", "make room on the disk of ComfyUI's and the bridge's folders"),
    (r"Permission denied: '?([^']+)", "let the bridge's user read and write {0}"),
    (r"shared librar(?:y|ies): ([\w.+-]+)", "install the system's library {0}"),
    (r"database is locked", "another ComfyUI uses the same folder: stop it"),
    (
        r"SyntaxError|requires? (?:a )?(?:different )?Python",
        "comfyui_python is too old for this ComfyUI",
    ),
)
_BY_STATE: Mapping[str, str] = {
    "yielded": "comfy2mqtt comfyui resume {name}",
    "stopped": "comfy2mqtt comfyui start {name}",
    "crash_loop": "; then: comfy2mqtt comfyui start {name}",
}
_UNGUARDED = (
    "our nodes could not guard it: its version may be too new for this bridge; let nobody "
    f"browse on that machine; {_LOG}"
)
_WELL = ("ready", "busy", "starting")
_MEANT = ("yielded", "stopped")


class Finding(Struct, frozen=True):
    """One line of the report, and what to do."""

    good: bool
    what: str
    advice: str = ""


def openness(address: str, *, is_open: bool) -> Finding:
    """Report whether an attached ComfyUI answers everybody, which its owner decides."""
    if not is_open:
        return Finding(good=True, what=f"{address} asks everybody for the secret")
    return Finding(
        good=True,
        what=f"{address} answers everybody who reaches it, including web pages in a browser there",
        advice="if only the bridge uses it, start it with COMFY2MQTT_GUARD=1 and a secret",
    )


def explain_health(health: BridgeHealth, its: str = "its") -> Iterator[Finding]:
    """Describe what a running bridge says of itself, and what helps; `its` says which bridge's."""
    if health.paused:
        advice = "comfy2mqtt queue resume"
        yield Finding(good=True, what=f"{its} queue is paused, by the operator", advice=advice)
    elif health.held is not UNSET:
        what = f"{its} queue starts no job: {health.held}"
        advice = "make room on the disk of its folder (data); its log has the reason"
        yield Finding(good=False, what=what, advice=advice)
    if health.store is not UNSET:
        what = f"{its} store of large outputs does not work, and jobs wait for it: {health.store}"
        yield Finding(good=False, what=what, advice="comfy2mqtt doctor on its machine tries it")
    for name, hook in health.hooks.items():
        what = f"{its} hook {name!r} is {hook.state}"
        if hook.error is UNSET:
            yield Finding(good=True, what=what)
            continue
        waits = hook.state == "preparing"
        jobs = "; jobs wait until it succeeds (on_error)" if waits else ""
        advice = (
            "does the program that it calls run, and is its timeout_s long enough? docs/one-gpu.md"
        )
        yield Finding(good=False, what=f"{what}: {hook.error}{jobs}", advice=advice)


def explain_gpu(lease: GpuLease) -> Finding:
    """Describe who has a GPU of a running bridge."""
    waiting = ", ".join(each.holder for each in lease.waiting)
    more = f"; {waiting} waits" if waiting else ""
    if lease.holder is UNSET:
        return Finding(good=True, what=f"nobody has its GPU {lease.gpu!r}{more}")
    until = "" if lease.until is UNSET else f" until {_time_of(lease.until)}"
    return Finding(good=True, what=f"{lease.holder!r} has its GPU {lease.gpu!r}{until}{more}")


def _time_of(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def explain(name: str, comfyui: ComfyUIState, *, lent: bool = False) -> Finding:
    """Describe the state of a running bridge's ComfyUI, and what helps if it is not well.

    `lent`: another program has a GPU of that bridge's.
    """
    why = ""
    if comfyui.reason is not UNSET:
        word = "" if comfyui.reason == comfyui.state else f"{comfyui.reason}: "
        why = f"{word}{comfyui.last_error}"
    again = f", started again {comfyui.restarts} times" if comfyui.restarts else ""
    what = f"its ComfyUI {name!r} is {comfyui.state}{again}"
    advice = _BY_STATE.get(comfyui.state, "").format(name=name)
    if comfyui.unguarded is True:
        exposed = "answers any program and any web page on its machine"
        return Finding(good=False, what=f"{what}, and {exposed}", advice=_UNGUARDED)
    if comfyui.state == "yielded" and lent:
        return Finding(good=True, what=f"{what}, to another program or by the operator")
    if comfyui.state in _MEANT:
        return Finding(good=True, what=f"{what}, by the operator", advice=advice)
    remedy = _remedy(comfyui)
    if comfyui.state == "starting" and comfyui.restarts and why:
        # It has not been well since it ended, and may be on its way to the next end.
        return Finding(good=False, what=f"{what}: {why}", advice=remedy)
    if comfyui.state in _WELL:
        what += ", and gets no more jobs: it is to be yielded" if comfyui.yielding is True else ""
        last = f" (the last error: {why})" if why else ""
        return Finding(good=True, what=f"{what}{last}", advice=remedy if again else "")
    return Finding(good=False, what=f"{what}: {why}", advice=f"{remedy}{advice}")


def explain_release(name: str, release: ComfyUIRelease) -> Finding:
    """Describe the releases of a ComfyUI for which a running bridge looks for newer ones."""
    what = f"its ComfyUI {name!r} is release {release.installed}"
    if release.error is not UNSET:
        advice = "put that right, then: comfy2mqtt comfyui update (--look only looks)"
        return Finding(good=False, what=f"{what}: {release.error}", advice=advice)
    if release.step is not UNSET:
        return Finding(good=True, what=f"{what}, and another one is {_STEPS[release.step]}")
    if release.latest is UNSET:
        return Finding(good=True, what=f"{what}; it has not looked for newer ones yet")
    if release.latest == release.installed:
        return Finding(good=True, what=f"{what}, the newest")
    advice = "comfy2mqtt comfyui update"
    return Finding(good=True, what=f"{what}; {release.latest} is out", advice=advice)


_STEPS: Mapping[UpdateStep, str] = {
    "installing": "installed beside it",
    "draining": "installed: it is started once the running jobs have ended",
    "starting": "installed, and being started",
}


def updates(*, possible: bool) -> Finding:
    """Report whether there is a ComfyUI for the setting `comfyui_updates`."""
    if possible:
        return Finding(good=True, what="it looks for newer releases of ComfyUI (comfyui_updates)")
    return Finding(
        good=False,
        what="comfyui_updates is on, and there is no ComfyUI that can be updated",
        advice="comfy2mqtt comfyui install (not for one of comfyui_url or comfyui_path)",
    )


def _remedy(comfyui: ComfyUIState) -> str:
    """Return what helps: against the cause that ComfyUI named, else against what happened."""
    if comfyui.reason is UNSET:
        return ""
    said = "" if comfyui.last_error is UNSET else comfyui.last_error
    for pattern, advice in _CAUSES:
        found = re.search(pattern, said)
        if found is not None:
            return advice.format(*found.groups())
    return REMEDIES.get(comfyui.reason, "see its log")
