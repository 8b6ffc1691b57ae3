"""The runner itself, on a small checkout of its own."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.mutants.__main__ import Copy, verdict
from tests.mutants.mutant import Mutant, stale

MUTANT = Mutant(
    name="off-by-one",
    file="counting.py",
    old="return count + 1",
    new="return count + 2",
    guarantee="it counts by one",
    tests=("test_counting.py",),
)

ENDLESS = replace(MUTANT, new="while True: pass")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    root = tmp_path / "checkout"
    root.mkdir()
    subprocess.run(("git", "init", "--quiet", str(root)), check=True)
    (root / ".gitignore").write_text("ignored.txt\n")
    (root / "ignored.txt").write_text("")
    (root / "counting.py").write_text("def after(count):\n    return count + 1\n")
    (root / "test_counting.py").write_text(
        "import counting\n\n"
        "def test_it_counts():\n    assert counting.after(1) == 2\n\n"
        "def test_it_is_there():\n    assert counting.after\n"
    )
    return root


@pytest.fixture
def copy(checkout: Path, tmp_path: Path) -> Copy:
    (tmp_path / "copy").mkdir()
    return Copy(tmp_path / "copy", checkout)


def test_a_copy_has_what_git_does_not_ignore(copy: Copy) -> None:
    names = {path.name for path in copy.folder.iterdir()}
    assert names == {".gitignore", "counting.py", "test_counting.py"}


@pytest.mark.slow
def test_a_mutant_is_killed_by_a_test_that_fails_and_the_source_is_put_right(
    copy: Copy, checkout: Path
) -> None:
    assert copy.try_out(MUTANT).verdict == "killed"
    source = (checkout / "counting.py").read_text()
    assert (copy.folder / "counting.py").read_text() == source


@pytest.mark.slow
def test_a_mutant_survives_tests_that_pass_and_may_if_it_is_argued_to_be_equivalent(
    copy: Copy,
) -> None:
    blind = replace(MUTANT, tests=("test_counting.py::test_it_is_there",))
    assert copy.try_out(blind).verdict == "survived"
    assert copy.try_out(replace(blind, equivalent="nobody counts")).verdict == "equivalent"


@pytest.mark.slow
def test_tests_that_hang_have_noticed(copy: Copy) -> None:
    assert copy.try_out(ENDLESS, limit_s=15).verdict == "killed"


@pytest.mark.slow
def test_tests_that_are_too_slow_without_the_mutant_have_noticed_nothing(copy: Copy) -> None:
    (copy.folder / "test_counting.py").write_text("while True: pass\n")
    assert copy.try_out(MUTANT, limit_s=1).verdict == "error"


@pytest.mark.slow
def test_a_run_without_tests_is_an_error_and_no_success(copy: Copy) -> None:
    assert copy.try_out(replace(MUTANT, tests=("test_gone.py",))).verdict == "error"
    assert copy.try_out(replace(MUTANT, new="no Python at all")).verdict == "error"
    assert [verdict(MUTANT, status) for status in (2, 3, 4, 5)] == ["error"] * 4


def test_a_table_that_no_longer_fits_the_source_is_stale(checkout: Path) -> None:
    assert stale(MUTANT, checkout) == []
    for changed in (
        replace(MUTANT, old="return count - 1"),
        replace(MUTANT, old="count"),  # more than once
        replace(MUTANT, file="gone.py"),
        replace(MUTANT, tests=("test_gone.py",)),
        replace(MUTANT, tests=("test_counting.py::test_gone",)),
    ):
        assert len(stale(changed, checkout)) == 1, changed
