from __future__ import annotations

import re
from pathlib import Path

from bridge.contract import errors
from bridge.contract.errors import BridgeError, Error, InvalidInput, Lost


def test_every_error_has_a_code_of_its_own() -> None:
    kinds = BridgeError.__subclasses__()
    documented = [kind for kind in kinds if kind.__module__ == errors.__name__]
    assert len(errors.BY_CODE) == len(documented)


def test_an_error_comes_back_from_the_wire() -> None:
    error = InvalidInput("input 'steps': too many", input="steps", maximum=50, minimum=None)
    back = errors.from_wire(error.wire())
    assert isinstance(back, InvalidInput)
    assert back.message == error.message
    assert back.details == {"input": "steps", "maximum": 50}


def test_an_unknown_code_is_kept() -> None:
    back = errors.from_wire(Error("brand_new", "something", {}))
    assert type(back) is BridgeError
    assert back.details == {"code": "brand_new"}


def test_the_contract_has_a_line_for_every_code_and_for_no_other() -> None:
    document = Path("docs/contract.md").read_text()
    table = document.partition("## Errors")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    assert set(re.findall(r"`(\w+)`", " ".join(rows))) == {*errors.BY_CODE, BridgeError.code}


def test_a_defect_is_reported_without_its_text() -> None:
    found = errors.internal(FileNotFoundError(2, "no such file", "/srv/data/journal.db")).wire()
    assert found.code == "bridge_error"
    assert "FileNotFoundError" in found.message
    assert "journal.db" not in found.message


def test_no_error_names_a_folder_of_a_machine() -> None:
    lost = Lost("ComfyUI lost the job: exited: can't open '/home/ada lovelace/ComfyUI/main.py'")
    assert lost.wire().message.endswith("can't open '.../main.py'")
