from __future__ import annotations

import pytest

from bridge.cli.find import one_of
from bridge.contract.errors import UnknownJob


def test_an_id_may_be_shortened_to_what_is_unique() -> None:
    assert one_of(["abc1", "abd2"], "abc", "me") == "abc1"


@pytest.mark.parametrize(
    ("begun", "told"),
    [
        ("ab", "2 jobs begin with 'ab': abc1, abd2"),
        ("abd3", "did you mean 'abd2'"),
        ("zzz", "client 'me' has no job 'zzz'"),
    ],
)
def test_an_id_that_is_not_unique_or_not_there_is_reported(begun: str, told: str) -> None:
    with pytest.raises(UnknownJob, match=told):
        one_of(["abc1", "abd2"], begun, "me")
