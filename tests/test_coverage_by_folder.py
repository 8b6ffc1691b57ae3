from __future__ import annotations

import pytest

from tests.support.coverage_by_folder import by_folder


def test_a_folder_has_the_share_of_its_lines_and_branches() -> None:
    report = {
        "files": {
            "bridge/jobs/queue.py": _file(6, 8, 1, 2),
            "bridge/jobs/state.py": _file(2, 2, 1, 1),
            "bridge/jobs/database/sqlite.py": _file(0, 4, 0, 0),
            "bridge/empty.py": _file(0, 0, 0, 0),
        }
    }
    assert by_folder(report) == {
        "bridge": 0.0,
        "bridge/jobs": pytest.approx(100 * 10 / 13),
        "bridge/jobs/database": 0.0,
    }


def _file(covered: int, statements: int, taken: int, branches: int) -> dict[str, object]:
    return {
        "summary": {
            "covered_lines": covered,
            "num_statements": statements,
            "covered_branches": taken,
            "num_branches": branches,
        }
    }
