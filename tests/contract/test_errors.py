from __future__ import annotations

from bridge.contract import errors
from bridge.contract.errors import BridgeError, Error, InvalidInput


def test_every_error_has_a_code_of_its_own() -> None:
    kinds = BridgeError.__subclasses__()
    documented = [kind for kind in kinds if kind.__module__ == errors.__name__]
    assert set(errors.BY_CODE.values()) == set(documented)
    assert len({kind.code for kind in documented}) == len(documented)


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
