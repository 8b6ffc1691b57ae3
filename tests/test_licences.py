"""Every dependency has a licence that goes with ours, MIT, and is pinned by its hash."""

from __future__ import annotations

import re
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

LOCK = Path("requirements.lock")
# Words of licences that ask nothing of who uses a package as it is.
FREE = re.compile(r"\b(MIT|BSD|Apache|PSF|Python Software Foundation|ISC|MPL|Mozilla|HPND|LGPL)\b")
# What would ask it of us.
NOT = re.compile(r"\b(GPL|AGPL|GNU General|Affero|SSPL|BUSL|Commons Clause|NonCommercial)\b")


def pinned() -> list[str]:
    return re.findall(r"^([A-Za-z0-9_.-]+)==", LOCK.read_text(), re.MULTILINE)


def licence(found: Distribution) -> str:
    told = found.metadata.json
    classifiers = [each for each in told.get("classifier", []) if each.startswith("License ::")]
    return str(told.get("license_expression") or f"{classifiers} {told.get('license', '')}")


def test_every_package_of_the_lock_has_a_licence_that_goes_with_ours() -> None:
    odd = {}
    for name in pinned():
        try:
            told = licence(distribution(name))
        except PackageNotFoundError:
            continue  # for another Python or system
        if NOT.search(told.replace("LGPL", "")) or not FREE.search(told):
            odd[name] = told[:200]
    assert odd == {}


def test_every_package_of_the_lock_is_pinned_by_hash() -> None:
    entries = re.split(r"\n(?=[A-Za-z0-9])", LOCK.read_text())
    packages = [each for each in entries if re.match(r"[A-Za-z0-9_.-]+==", each)]
    assert len(packages) == len(pinned()) > 30
    assert [each.split()[0] for each in packages if "--hash=sha256:" not in each] == []
