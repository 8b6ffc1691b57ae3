"""Applies each mutant of the table in a copy of the checkout and runs its tests: `make mutants`.

`python -m tests.mutants [NAME ...] [--jobs N]` prints a line for each: `killed`, as it ought to be,
`survived`, or `equivalent`: it survived and the table argues why no test can notice. Exits with 1
if one survives, if its tests could not be run, or if the table is stale.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Literal

from msgspec import Struct

from tests.mutants.mutant import Mutant, stale
from tests.mutants.table import MUTANTS
from tests.peers.homeassistant_integration import environment

ROOT = Path(__file__).parents[2]
LIMIT_S = 120.0
MAKE_IT = "make homeassistant-python"
# Pytest's exit statuses: everything passed, or at least one test failed.
_PASSED, _FAILED = 0, 1

Verdict = Literal["killed", "survived", "equivalent", "error"]


class Report(Struct, frozen=True):
    """The outcome of a mutant; `output` is pytest's."""

    mutant: Mutant
    verdict: Verdict
    seconds: float
    output: str = ""

    def line(self) -> str:
        """Return the line of the table."""
        return (
            f"{self.verdict:<10} {self.seconds:5.1f} s  {self.mutant.name:<28} "
            f"{self.mutant.guarantee}\n"
        )


class Copy:
    """A copy of the checkout, without what git ignores, in which Python imports its own files."""

    def __init__(self, folder: Path, root: Path = ROOT) -> None:
        self.folder = folder
        listing = ("git", "-C", str(root), "ls-files", "-z", "-co", "--exclude-standard")
        names = subprocess.run(listing, check=True, capture_output=True, text=True).stdout
        for name in filter(None, names.split("\0")):
            if (root / name).is_file():  # not one that was deleted but is still in the index
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(root / name, folder / name)

    def try_out(self, mutant: Mutant, limit_s: float = LIMIT_S) -> Report:
        """Apply a mutant, run its tests, and put the source right again."""
        path = self.folder / mutant.file
        source = path.read_text()
        path.write_text(mutant.applied(source))
        began = time.monotonic()
        try:
            status, output = self._run_tests_of(mutant, limit_s)
        finally:
            path.write_text(source)
        found = verdict(mutant, status)
        if status is None:
            # A machine that is too slow for the limit stops the tests without a mutant, too.
            status, output = self._run_tests_of(mutant, limit_s)
            found = "killed" if status == _PASSED else "error"
        return Report(mutant, found, time.monotonic() - began, output)

    def _run_tests_of(self, mutant: Mutant, limit_s: float) -> tuple[int | None, str]:
        return self.run_tests(mutant.tests, limit_s, mutant.marks, home=mutant.home)

    def run_tests(
        self, tests: Iterable[str], limit_s: float, marks: str, *, home: bool = False
    ) -> tuple[int | None, str]:
        """Return pytest's exit status, None if it was stopped at the limit, and its output."""
        if home:
            return self._run_checks(tests, limit_s)
        command = (sys.executable, "-B", *_PYTEST, "-p", "no:cacheprovider", "-m", marks, *tests)
        # Before site-packages, where the checkout itself is installed.
        variables = os.environ | {"PYTHONPATH": str(self.folder)}
        return _run_command(command, self.folder, variables, limit_s)

    def _run_checks(self, tests: Iterable[str], limit_s: float) -> tuple[int | None, str]:
        found = environment.base()
        assert found is not None
        place = environment.ensure(*found)
        names = [test.removeprefix(f"{environment.CHECKS}/") for test in tests]
        with place.sources(self.folder) as sources:
            checks = (place.python, *_PYTEST, "-c", "pytest.ini", *names)
            command = place.command(sources / environment.CHECKS, *checks)
            return _run_command(command, ROOT, environment.environment(), limit_s)


_PYTEST = ("-m", "pytest", "-q", "-x", "--no-header", "--tb=short")


def _run_command(
    command: Sequence[str], folder: Path, variables: Mapping[str, str], limit_s: float
) -> tuple[int | None, str]:
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        output, _ = process.communicate()
        return None, output
    return process.returncode, output


def verdict(mutant: Mutant, status: int | None) -> Verdict:
    """Judge pytest's exit status. Tests that hang have noticed; a run without tests has not."""
    if status is None or status == _FAILED:
        return "killed"
    if status != _PASSED:
        return "error"
    return "equivalent" if mutant.equivalent else "survived"


@contextmanager
def _copies(count: int) -> Iterator[SimpleQueue[Copy]]:
    copies: SimpleQueue[Copy] = SimpleQueue()
    with ExitStack() as stack:
        for _ in range(count):
            copies.put(Copy(Path(stack.enter_context(tempfile.TemporaryDirectory()))))
        yield copies


def _run(mutants: Sequence[Mutant], jobs: int) -> Iterator[Report]:
    with _copies(jobs) as copies, ThreadPoolExecutor(jobs) as pool:

        def try_out(mutant: Mutant) -> Report:
            copy = copies.get()
            try:
                return copy.try_out(mutant)
            finally:
                copies.put(copy)

        yield from pool.map(try_out, mutants)


def _passes_unchanged(mutants: Sequence[Mutant]) -> bool:
    """True if all tests pass without a mutant: otherwise their failure would mean nothing."""
    for marks, home in sorted({(each.marks, each.home) for each in mutants}):
        those = [each for each in mutants if (each.marks, each.home) == (marks, home)]
        tests = sorted({test for mutant in those for test in mutant.tests})
        with tempfile.TemporaryDirectory() as folder:
            copy = Copy(Path(folder))
            status, output = copy.run_tests(tests, len(tests) * LIMIT_S, marks, home=home)
        if status != _PASSED:
            sys.stdout.write(f"{output}\nthese tests fail without any mutant\n")
            return False
    return True


def main() -> int:
    """Run the mutants that are named, or all."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    mutants = [each for each in MUTANTS if not arguments.names or each.name in arguments.names]
    problems = [problem for mutant in mutants for problem in stale(mutant, ROOT)]
    if problems or not mutants:
        sys.stdout.write("\n".join(problems or ["no mutant has that name"]) + "\n")
        return 1
    if environment.base() is None:
        left_out = [each.name for each in mutants if each.home]
        mutants = [each for each in mutants if not each.home]
        if left_out:
            sys.stdout.write(f"NOT RUN without Python 3.14 ({MAKE_IT}): {', '.join(left_out)}\n")
    if not _passes_unchanged(mutants):
        return 1
    bad = 0
    for report in _run(mutants, arguments.jobs):
        sys.stdout.write(report.line())
        sys.stdout.flush()
        if report.verdict in ("survived", "error"):
            bad += 1
            if report.verdict == "error":
                sys.stdout.write(report.output)
    sys.stdout.write(f"{len(mutants) - bad} of {len(mutants)} mutants are as they ought to be\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
