"""`make fuzz`: the decoders under atheris, which looks for inputs that reach new branches.

    python -m tests.fuzz --cases 1000000     all targets, that many cases each
    python -m tests.fuzz --only runs ...     some of them
    python -m tests.fuzz --target runs ...   one of them, in this process: libFuzzer's own options
    python -m tests.fuzz --replay FOLDER     what was found, once more

For each target it tells cases, seconds and how much memory grew, and at the end which share of the
decoders' branches was reached. It fails for a fault, for memory that grows, and below the aim.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.fuzz.target import Target

CASES = 60_000
COVERED = 95.0
LARGEST = 8192
# Python's own caches and atheris' tables of branches grow too, and come to an end.
GROWTH_MB = 100
_FAULTS = Path("build/fuzz-faults")
_RSS = re.compile(r"^#(\d+)\s.*rss: (\d+)Mb", re.MULTILINE)


def main() -> int:
    """Run what the command line says; returns the exit status."""
    options = argparse.ArgumentParser(prog="python -m tests.fuzz")
    options.add_argument("--cases", type=int, default=CASES)
    options.add_argument("--only", action="append", metavar="TARGET")
    options.add_argument("--target")
    options.add_argument("--replay", type=Path)
    given, rest = options.parse_known_args()
    if given.target is not None:
        return _fuzz(given.target, rest)
    if given.replay is not None:
        return _replay(given.replay)
    from tests.fuzz.targets import TARGETS  # noqa: PLC0415 - not before atheris, in `_fuzz`

    with tempfile.TemporaryDirectory(prefix="comfy2mqtt-fuzz-") as folder:
        corpus = Path(folder)
        chosen = {name: TARGETS[name] for name in given.only or TARGETS}
        healthy = [_run(name, each.seeds, corpus, given.cases) for name, each in chosen.items()]
        return 0 if _covered(corpus, chosen) >= COVERED and all(healthy) else 1


def _fuzz(name: str, options: list[str]) -> int:
    import atheris  # noqa: PLC0415 - only here, and only in its own environment

    # It counts the branches of what is imported while it looks on.
    with atheris.instrument_imports(include=["bridge", "comfy2mqtt_nodes"]):
        from tests.fuzz.targets import TARGETS  # noqa: PLC0415
    atheris.Setup([sys.argv[0], *options], TARGETS[name].run)
    atheris.Fuzz()  # ends the process
    return 0


def _run(name: str, seeds: Sequence[bytes], corpus: Path, cases: int) -> bool:
    """Fuzz one target in a process of its own; tells whether it is without fault."""
    folder = corpus / name
    folder.mkdir()
    for number, seed in enumerate(seeds):
        (folder / f"seed-{number}").write_bytes(seed)
    _FAULTS.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    done = subprocess.run(
        [
            *(sys.executable, "-m", "tests.fuzz", "--target", name, str(folder)),
            *(f"-runs={cases}", f"-max_len={LARGEST}", f"-artifact_prefix={_FAULTS}/{name}-"),
            *("-timeout=10", "-rss_limit_mb=2048", "-print_final_stats=1", "-reload=0"),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        check=False,
    )
    steps = [(int(case), int(rss)) for case, rss in _RSS.findall(done.stderr)]
    # The first tenth fills caches; what grows after that is a leak.
    warm = next((rss for case, rss in steps if case > cases // 10), 0)
    grown = max((rss for _, rss in steps), default=0) - warm
    healthy = done.returncode == 0 and grown <= GROWTH_MB
    seconds = time.monotonic() - started
    told = "" if healthy else "  FAULT"
    print(f"{name:<10} {cases:>9,} cases {seconds:>6.0f} s  memory +{grown} MB{told}", flush=True)
    if done.returncode:
        print("\n".join(done.stderr.splitlines()[-40:]))
    return healthy


def _replay(corpus: Path) -> int:
    from tests.fuzz.targets import TARGETS  # noqa: PLC0415

    for name, target in TARGETS.items():
        for path in sorted((corpus / name).glob("*")):
            target.run(path.read_bytes())
    return 0


def _covered(corpus: Path, targets: Mapping[str, Target]) -> float:
    """Print and return the share of the decoders' branches that the found inputs reach."""
    wanted = {
        (module, function)
        for target in targets.values()
        for module, functions in target.decoders.items()
        for function in functions
    }
    data, report = corpus / ".coverage", corpus / "coverage.json"
    coverage = [sys.executable, "-m", "coverage"]
    replay = ["-m", "tests.fuzz", "--replay", str(corpus)]
    subprocess.run(
        [*coverage, "run", "--branch", "--source=bridge", f"--data-file={data}", *replay],
        check=True,
    )
    subprocess.run([*coverage, "json", "-q", f"--data-file={data}", "-o", str(report)], check=True)
    branches = reached = 0
    for file, about in json.loads(report.read_text())["files"].items():
        module = file.removesuffix(".py").replace("/", ".")
        for function, found in about["functions"].items():
            if (module, function) in wanted:
                summary = found["summary"]
                branches += summary["num_branches"]
                reached += summary["covered_branches"]
                if found["missing_branches"]:
                    print(f"not reached: {module}.{function} {found['missing_branches']}")
    share = 100.0 * reached / branches
    print(f"branches of the decoders: {reached} of {branches}, {share:.1f} %")
    return share


if __name__ == "__main__":
    sys.exit(main())
