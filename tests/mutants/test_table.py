from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.mutants.mutant import Mutant, stale
from tests.mutants.table import MUTANTS
from tests.peers.homeassistant_integration.environment import CHECKS

ROOT = Path(__file__).parents[2]


def test_there_are_at_least_forty_mutants_each_with_a_name_of_its_own() -> None:
    assert len(MUTANTS) >= 40
    assert [
        name for name, count in Counter(each.name for each in MUTANTS).items() if count > 1
    ] == []


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_what_a_mutant_names_is_there(mutant: Mutant) -> None:
    assert stale(mutant, ROOT) == []


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_checks_inside_a_home_assistant_are_run_there(mutant: Mutant) -> None:
    assert {test.startswith(f"{CHECKS}/") for test in mutant.tests} == {mutant.home}
