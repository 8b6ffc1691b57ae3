from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec import Struct

from bridge.contract.errors import BadRequest
from bridge.contract.messages import BeginUpload, Id, SetId
from bridge.contract.reading import decoded


class Named(Struct):
    job_id: Id = "a"
    set_id: SetId = "a"


@pytest.mark.parametrize(
    ("kind", "field", "rule"),
    [
        (Named, "job_id", "1 to 64 of the characters A-Z a-z 0-9 _ -"),
        (Named, "set_id", "1 to 48 of the characters A-Z a-z 0-9 _ -"),
        (BeginUpload, "sha256", "64 of the characters 0-9 a-f"),
    ],
)
def test_an_error_has_the_rule_of_the_text_that_breaks_it(
    kind: type[Struct], field: str, rule: str
) -> None:
    values: dict[str, Any] = {"size": 1} if kind is BeginUpload else {}
    payload = msgspec.json.encode({**values, field: "no id!"})
    with pytest.raises(BadRequest) as refused:
        decoded(msgspec.json.Decoder(kind), payload, kind)
    assert str(refused.value) == f"{field}: expected {rule}"
    assert refused.value.details["field"] == field
