"""The releases of ComfyUI, and what is decided about them. Pure.

Releases are tags of its repository, as `git ls-remote --tags` lists them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Literal, TypeAlias

from msgspec import Struct

from bridge.comfyui.state import InstanceState

_TAG = re.compile(r"(?P<commit>[0-9a-f]{40,64})\trefs/tags/(?P<tag>[^\s^]+)(?P<peeled>\^\{\})?")
_RELEASE = re.compile(r"v?(?P<version>\d+(?:\.\d+){1,3})")


class Release(Struct, frozen=True):
    """A release: its version (`0.33.0`), its tag (`v0.33.0`), and the commit that the tag names."""

    version: str
    tag: str
    commit: str


def listed(lines: str) -> list[Release]:
    """Return the releases in the answer of `git ls-remote --tags`, the oldest first.

    Tags that are not numbers, such as release candidates, are left out.
    """
    found: dict[str, Release] = {}
    for match in _TAG.finditer(lines):
        release = _RELEASE.fullmatch(match["tag"])
        # The line of an annotated tag that is `^{}` has the commit, the other the tag itself.
        if release is not None and (match["peeled"] or match["tag"] not in found):
            found[match["tag"]] = Release(release["version"], match["tag"], match["commit"])
    return sorted(found.values(), key=lambda each: numbers(each.version))


def chosen(releases: Iterable[Release], wanted: str | None) -> Release | None:
    """Return the release of a version or tag, by default the newest one."""
    releases = list(releases)
    if wanted is None:
        return releases[-1] if releases else None
    return next((each for each in releases if wanted in (each.version, each.tag)), None)


def numbers(version: str) -> tuple[int, ...]:
    """Return the numbers of a version, to compare it by: 0.10.0 comes after 0.9.9."""
    return tuple(map(int, re.findall(r"\d+", version)))


Outcome: TypeAlias = Literal["works", "fails"]

# Once a day, as others look for updates; after a check that failed somewhat sooner.
CHECK_S = 24 * 3600.0
CHECK_AGAIN_S = 3600.0

_CONNECTED = ("ready", "busy", "yielded")
# A process is there, and may have prompts.
_AT_WORK = ("ready", "busy", "unreachable")


def newer(installed: str, releases: Sequence[Release]) -> Release | None:
    """Return the newest of `releases`, the oldest of which is the first, if it is newer."""
    if not releases or numbers(releases[-1].version) <= numbers(installed):
        return None
    return releases[-1]


def check_after_s(*, failed: bool) -> float:
    """Return the seconds from one check to the next."""
    return CHECK_AGAIN_S if failed else CHECK_S


def is_drained(state: InstanceState) -> bool:
    """True if a ComfyUI that is left to others has no prompt of ours any more."""
    return state.state not in _AT_WORK


def runs(state: InstanceState) -> bool:
    """True if a ComfyUI runs or is to run: the operator has not stopped it."""
    return state.state != "stopped"


def outcome(before: InstanceState, now: InstanceState) -> Outcome | None:
    """Return what came of a start, by the states before it and now; None while it is not known."""
    if now.restarts > before.restarts:
        return "fails"
    is_another = now.epoch is not None and now.epoch != before.epoch
    return "works" if is_another and now.state in _CONNECTED else None
