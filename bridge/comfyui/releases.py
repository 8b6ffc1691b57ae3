"""The releases of ComfyUI: tags of its repository, as `git ls-remote --tags` lists them. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

from msgspec import Struct

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
