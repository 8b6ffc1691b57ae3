from __future__ import annotations

import msgspec
import pytest

from bridge.config import ClientRights
from bridge.contract.errors import Forbidden
from bridge.requests.permissions import Granted, Permissions

TABLE = {
    "*": ClientRights(max_queue=5, input_topics=("cameras/#",), displays=("hall",)),
    "kitchen": ClientRights(workflows=("portrait", "frame-?"), max_priority=10, inline=True),
    "garden": ClientRights(input_topics=("weather/+/image",), displays=("frame-*",), workflows=()),
}
RIGHTS = Permissions(TABLE)


def refused(setting: str) -> pytest.RaisesExc[Forbidden]:
    return pytest.RaisesExc(Forbidden, check=lambda error: error.details["setting"] == setting)


def test_a_client_that_is_not_listed_may_do_what_harms_nobody() -> None:
    rights = Permissions({})
    assert rights.of("anybody") == Granted()
    rights.check_workflow("anybody", "any")
    rights.check_priority("anybody", 100)
    with refused("clients.anybody.inline"):
        rights.check_inline("anybody")
    with refused("clients.anybody.partner_nodes"):
        rights.check_partner("anybody", ["GeminiNode"])
    rights.check_partner("anybody", [])
    with refused("clients.anybody.input_topics"):
        rights.check_topic("anybody", "picture", "cameras/door")
    with refused("clients.anybody.displays"):
        rights.check_display("anybody", "hall")
    assert Granted().url_hosts == ()


def test_what_a_table_leaves_out_is_as_everybodys() -> None:
    assert RIGHTS.of("kitchen").max_queue == 5
    assert RIGHTS.of("nobody").max_queue == 5
    RIGHTS.check_topic("kitchen", "picture", "cameras/door/snapshot")
    RIGHTS.check_topic("garden", "picture", "weather/now/image")
    with refused("clients.garden.input_topics"):
        RIGHTS.check_topic("garden", "picture", "cameras/door/snapshot")


def test_everybodys_table_is_no_clients_that_could_name_itself_so() -> None:
    assert Permissions({"*": ClientRights(inline=True)}).of("*").inline


def test_workflows_and_displays_are_held_to_names_and_globs() -> None:
    for workflow in ("portrait", "frame-1"):
        RIGHTS.check_workflow("kitchen", workflow)
    for workflow in ("Portrait", "frame-10", "portrait2", "frame-"):
        with refused("clients.kitchen.workflows"):
            RIGHTS.check_workflow("kitchen", workflow)
    with refused("clients.garden.workflows"):
        RIGHTS.check_workflow("garden", "portrait")
    RIGHTS.check_display("garden", "frame-1")
    with refused("clients.garden.displays"):
        RIGHTS.check_display("garden", "hall")
    RIGHTS.check_display("kitchen", "hall")


def test_a_priority_above_the_highest_is_refused() -> None:
    RIGHTS.check_priority("kitchen", 10)
    with refused("clients.kitchen.max_priority"):
        RIGHTS.check_priority("kitchen", 11)


def test_an_error_says_what_is_allowed() -> None:
    with pytest.raises(Forbidden) as caught:
        RIGHTS.check_workflow("kitchen", "x")
    assert caught.value.details["allowed"] == ["portrait", "frame-?"]


def test_all_topics_that_anybody_may_name_are_known_once() -> None:
    assert RIGHTS.input_topics == ("cameras/#", "weather/+/image")


def test_every_field_of_the_table_is_granted() -> None:
    assert ClientRights.__struct_fields__ == Granted.__struct_fields__
    given = ClientRights(**dict.fromkeys(ClientRights.__struct_fields__))
    assert Permissions({"a": given}).of("a") == Granted()
    assert msgspec.structs.asdict(Granted())["inline"] is False


def test_who_may_spend_money_is_listed() -> None:
    rights = Permissions({"kitchen": ClientRights(partner_nodes=True), "garden": ClientRights()})
    rights.check_partner("kitchen", ["GeminiNode"])
    with refused("clients.garden.partner_nodes"):
        rights.check_partner("garden", ["GeminiNode"])
    all_but_one = Permissions(
        {"*": ClientRights(partner_nodes=True), "x": ClientRights(partner_nodes=False)}
    )
    all_but_one.check_partner("anybody", ["GeminiNode"])
    with refused("clients.x.partner_nodes"):
        all_but_one.check_partner("x", ["GeminiNode"])
