"""The rights in the words of other brokers: the same ones, whatever the form."""

from __future__ import annotations

import json
import re
from xml.etree import ElementTree as ET

import pytest

from bridge.contract import access
from bridge.contract.access import Grant, Others, Role
from bridge.contract.broker_files import BROKERS, Broker
from bridge.contract.topics import Topics

TOPICS = Topics("c2m")
USERS: tuple[tuple[str, Role], ...] = (("bridge", "bridge"), ("op", "operator"))
OTHERS = Others(("cameras/+/jpg",))


def text(broker: Broker) -> str:
    return BROKERS[broker].text(TOPICS, USERS, OTHERS)


@pytest.mark.parametrize("broker", BROKERS)
def test_each_names_every_right_of_the_bridge_and_no_placeholder_of_mosquitto(
    broker: Broker,
) -> None:
    found = text(broker)
    assert broker == "vernemq" or "%u" not in found
    for grant in access.role("bridge", TOPICS, OTHERS):
        levels = [each for each in grant.filter.split("/") if each not in ("+", "#", "")]
        assert all(each in found for each in levels), grant


def grants(name: Role | None, user: str) -> list[Grant]:
    """The rights of a user, with its name in them; None: of a client."""
    found = list(access.client(TOPICS))
    if name is not None:
        found += access.role(name, TOPICS, OTHERS)
    return [Grant(each.access, each.filter.replace("%u", user)) for each in found]


def test_the_patterns_for_rabbitmq_let_through_what_is_granted_and_no_more() -> None:
    lines = [line for line in text("rabbitmq").splitlines() if "set_topic_permissions" in line]
    assert len(lines) == len(USERS) + 1
    write, read = (
        re.compile(each.replace("{username}", "alice"))
        for each in re.findall("'([^']*)'", lines[-1])
    )
    assert write.search("c2m.client.alice.request.run.demo")
    assert not write.search("c2m.client.alice.job.j.result")
    assert not write.search("c2m.client.bob.request.run.demo")
    assert not write.search("xc2m.client.alice.request.run.demo")
    for routing_key in ("c2m.client.alice.job.#", "c2m.client.alice.response.*", "c2m.workflow.*"):
        assert read.search(routing_key)
    for routing_key in ("c2m.client.bob.job.#", "c2m.client.*.job.#", "c2m.#", "#"):
        assert not read.search(routing_key)
    bridge_write, bridge_read = re.findall("'([^']*)'", lines[0])
    assert re.search(bridge_read, "c2m.client.*.request.#")
    assert re.search(bridge_read, "cameras.*.jpg")
    assert not re.search(bridge_write, "c2m.client.alice.request.run.demo")


def test_the_policies_for_aws_have_a_statement_for_each_action() -> None:
    found = json.loads(text("aws"))
    assert set(found) == {"client", "bridge", "op"}
    actions = {each["Action"][0]: each["Resource"] for each in found["bridge"]["Statement"]}
    at = "arn:aws:iot:REGION:ACCOUNT"
    assert f"{at}:topicfilter/c2m/client/+/request/#" in actions["iot:Subscribe"]
    assert f"{at}:topic/c2m/client/*/request/*" in actions["iot:Receive"]
    assert f"{at}:topic/c2m/client/*/response/*" in actions["iot:Publish"]
    assert f"{at}:topic/c2m/client/*/request/*" not in actions["iot:Publish"]
    client = {each["Action"][0]: each["Resource"] for each in found["client"]["Statement"]}
    own = f"{at}:topicfilter/c2m/client/${{iot:Connection.Thing.ThingName}}"
    assert f"{own}/response/*" in client["iot:Subscribe"]


def test_the_file_for_hivemq_is_xml_with_a_role_for_clients_and_one_for_each_user() -> None:
    root = ET.fromstring(text("hivemq"))  # noqa: S314 - our own
    assert [each.text for each in root.findall("./roles/role/id")] == ["client", "bridge", "op"]
    found = {
        (each.findtext("topic"), each.findtext("activity"))
        for each in root.findall("./roles/role[1]/permissions/permission")
    }
    assert ("c2m/client/${{username}}/request/#", "PUBLISH") in found
    assert ("c2m/client/${{username}}/job/#", "SUBSCRIBE") in found
    assert not any(activity == "ALL" for _, activity in found)


def test_the_rules_for_emqx_and_nanomq_end_with_a_refusal_of_all_else() -> None:
    lines = text("emqx").splitlines()
    assert lines[-1] == "{deny, all}."
    assert all(line.endswith("}.") for line in lines if line and not line.startswith("%%"))
    rules = [json.loads(line) for line in text("nanomq").splitlines()[1:-1]]
    assert rules[-1] == {"permit": "deny"}
    (asked,) = (
        each["topics"]
        for each in rules[:-1]
        if (each["username"], each["action"]) == ("#", "publish")
    )
    assert asked == ["c2m/client/${username}/request/#"]
    own = next(each for each in rules if each["username"] == "op" and each["action"] == "publish")
    assert own["topics"] == [
        each.filter for each in grants("operator", "op") if each.access != "read"
    ]


def test_the_file_for_vernemq_has_no_word_that_it_does_not_know() -> None:
    words = {
        line.split()[1]
        for line in text("vernemq").splitlines()
        if line.startswith(("topic ", "pattern "))
    }
    assert {each for each in words if "/" not in each} == {"read", "write"}


def test_the_commands_for_azure_and_the_subjects_for_nats_have_their_forms() -> None:
    azure = text("azure")
    assert "'c2m/client/${client.authenticationName}/request/#'" in azure
    assert "--client-group-name '$all' --permission Publisher" in azure
    assert "--client-group-name 'bridge' --permission Subscriber" in azure
    nats = text("nats")
    assert '"c2m.client.*.request.>"' in nats
    assert '"c2m.client.alice.request.>"' in nats
    assert "/" not in "".join(line for line in nats.splitlines() if "ish: [" in line)
