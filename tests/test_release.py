"""The parts of an image and a release: by hash, in the versions that the tests ran with."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support import pin_images, release
from tests.support.image_locks import BUILD, IMAGE

TESTED = Path("requirements.lock")
IMAGES = ["Dockerfile", "docs/deploy/home-assistant-addon/Dockerfile"]


def entries(lock: Path) -> dict[str, set[str]]:
    """Each package and version, with the hashes of its files."""
    found = re.split(r"\n(?=[a-z0-9])", lock.read_text())[1:]
    return {each.split()[0]: set(re.findall(r"sha256:[0-9a-f]{64}", each)) for each in found}


@pytest.mark.parametrize("lock", [IMAGE, BUILD], ids=lambda lock: lock.name)
def test_a_lock_has_the_versions_and_the_files_that_the_tests_ran_with(lock: Path) -> None:
    tested = entries(TESTED)
    for package, hashes in entries(lock).items():
        assert hashes
        # What the tests' Python needs not is in no lock of theirs.
        assert hashes <= tested.get(package, hashes), package
    names = {each.partition("==")[0] for each in entries(TESTED)}
    strange = [each for each in entries(lock) if each not in entries(TESTED)]
    assert all(each.partition("==")[0] not in names for each in strange)


def test_the_image_has_every_dependency_that_the_package_names() -> None:
    document = Path("pyproject.toml").read_text()
    named = document.partition("\ndependencies = [")[2].partition("\n]")[0]
    wanted = {each.lower() for each in re.findall(r'^\s+"([A-Za-z0-9_-]+)', named, re.MULTILINE)}
    there = {each.partition("==")[0] for each in entries(IMAGE)}
    assert len(wanted) > 10
    assert wanted | {"psycopg", "psycopg-binary"} <= there


@pytest.mark.parametrize("file", IMAGES)
def test_an_image_installs_by_hash(file: str) -> None:
    steps = re.split(r"\n(?=[A-Z]+ )", Path(file).read_text().replace("\\\n", " "))
    installs = [
        command
        for step in steps
        for command in step.split("&&")
        if re.search(r"pip (install|wheel)", command)
    ]
    assert installs
    for command in installs:
        by_hash = "--require-hashes" in command
        ours = "--no-index" in command or "--no-deps comfy2mqtt" in command
        assert by_hash or ours, command


@pytest.mark.parametrize("file", pin_images.FILES)
def test_the_images_that_others_begin_from_can_be_given_their_digests(file: str) -> None:
    text = Path(file).read_text()
    found = pin_images.images(text)
    assert found
    once = pin_images.pinned(text, lambda image: f"sha256:{len(image)}")
    for image in found:
        assert f"{image}@sha256:{len(image)}" in once
    again = pin_images.pinned(once, lambda _: "sha256:new")
    assert pin_images.images(again) == found
    assert again.count("@sha256:new") == len(found)
    assert again.count("@") - text.count("@") <= len(found)


def test_a_release_names_each_packages_licence() -> None:
    document = {
        "components": [
            {"name": "a", "version": "1", "licenses": [{"license": {"id": "MIT"}}]},
            {"name": "b", "version": "2", "licenses": [{"expression": "Apache-2.0 OR MIT"}]},
            {"name": "c", "version": "3", "licenses": [{"license": {"name": "its own"}}]},
            {"name": "d", "version": "4"},
        ]
    }
    assert release.licences(document) == {
        "a 1": "MIT",
        "b 2": "Apache-2.0 OR MIT",
        "c 3": "its own",
        "d 4": "unknown",
    }


def test_the_policy_names_what_is_promised_and_how_to_report() -> None:
    policy = Path("SECURITY.md").read_text()
    for heading in ("## Report", "## Supported", "## Promised"):
        assert heading in policy
    assert "docs/security.md" in policy
