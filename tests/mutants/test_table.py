from __future__ import annotations

from collections import Counter
from pathlib import Path

from tests.mutants.mutant import stale
from tests.mutants.table import MUTANTS
from tests.peers.homeassistant_integration.environment import CHECKS

ROOT = Path(__file__).parents[2]


def test_there_are_at_least_forty_mutants_each_with_a_name_of_its_own() -> None:
    assert len(MUTANTS) >= 40
    assert [
        name for name, count in Counter(each.name for each in MUTANTS).items() if count > 1
    ] == []


def test_what_each_mutant_names_is_there() -> None:
    assert {each.name: found for each in MUTANTS if (found := stale(each, ROOT))} == {}


def test_checks_inside_a_home_assistant_are_run_there() -> None:
    assert [
        each.name
        for each in MUTANTS
        if {test.startswith(f"{CHECKS}/") for test in each.tests} != {each.home}
    ] == []
