from __future__ import annotations

from collections import Counter

from tests.mutants.table import MUTANTS


def test_there_are_at_least_forty_mutants_each_with_a_name_of_its_own() -> None:
    assert len(MUTANTS) >= 40
    assert [
        name for name, count in Counter(each.name for each in MUTANTS).items() if count > 1
    ] == []
