"""A mutant: one change of the source that breaks a guarantee, and the tests that have to notice."""

from __future__ import annotations

import re
from pathlib import Path

from msgspec import Struct


class Mutant(Struct, frozen=True, kw_only=True):
    """`old` occurs exactly once in `file` and is replaced by `new`.

    `guarantee` is what a user loses; `tests` are pytest's names of what has to fail. `equivalent`
    argues, for one that may survive, why no test can tell it from the original. `postgresql`: its
    tests need a database; `slow`: they are among those that take seconds; `home`: they are checks
    inside a Home Assistant, which needs a Python of its own (`make homeassistant-python`).
    """

    name: str
    file: str
    old: str
    new: str
    guarantee: str
    tests: tuple[str, ...]
    equivalent: str | None = None
    postgresql: bool = False
    slow: bool = False
    home: bool = False

    @property
    def marks(self) -> str:
        """The tests to run, as pytest's option names them."""
        # What notices has to be quick: of large programs a mosquitto, and a PostgreSQL for a few.
        here = {"postgresql": self.postgresql, "slow": self.slow}
        left_out = ["comfyui", "peers", *(name for name, wanted in here.items() if not wanted)]
        return " and ".join(f"not {name}" for name in left_out)

    def applied(self, source: str) -> str:
        """Return a source with the change. Raises ValueError unless `old` occurs exactly once."""
        found = source.count(self.old)
        if found != 1:
            message = f"the table is stale: {self.name}: {found} times in {self.file}: {self.old!r}"
            raise ValueError(message)
        return source.replace(self.old, self.new)


def stale(mutant: Mutant, root: Path) -> list[str]:
    """Return what a mutant names that is no longer there, below the root of a checkout."""
    problems = []
    path = root / mutant.file
    if not path.is_file():
        problems.append(f"{mutant.name}: no file {mutant.file}")
    else:
        try:
            mutant.applied(path.read_text())
        except ValueError as error:
            problems.append(str(error))
    for test in mutant.tests:
        file, _, function = test.partition("::")
        where = root / file
        source = where.read_text() if where.is_file() else ""
        defined = rf"{function}\(" if function else "test_"
        if not re.search(rf"^(?:async )?def {defined}", source, re.MULTILINE):
            problems.append(f"{mutant.name}: no test {test}")
    return problems
