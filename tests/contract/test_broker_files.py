"""The rights in the words of other brokers: the same ones, whatever the form."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from bridge import config
from bridge.cli import mosquitto
from bridge.contract import access
from bridge.contract.access import ForeignTopics, Grant, Role
from bridge.contract.broker_files import BROKERS, Broker
from bridge.contract.topics import Topics
from bridge.mqtt import Address

TOPICS = Topics("c2m")
USERS: tuple[tuple[str, Role], ...] = (("bridge", "bridge"), ("ops", "operator"))
OTHERS = ForeignTopics(("cameras/+/jpg",))


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


def policies(user: str) -> list[dict[str, Any]]:
    """The policies for AWS of one user."""
    found = json.loads(text("aws"))
    return [each for name, each in found.items() if re.fullmatch(rf"{user}(-\d+)?", name)]


def resources(user: str, action: str) -> list[str]:
    statements = [each for policy in policies(user) for each in policy["Statement"]]
    return [each for one in statements if one["Action"] == [action] for each in one["Resource"]]


def test_the_policies_for_aws_allow_each_action_on_what_is_granted() -> None:
    at = "arn:aws:iot:REGION:ACCOUNT"
    assert f"{at}:topicfilter/c2m/client/+/request/*" in resources("bridge", "iot:Subscribe")
    assert f"{at}:topic/c2m/client/*/request/*" in resources("bridge", "iot:Receive")
    assert f"{at}:topic/c2m/client/*/response/*" in resources("bridge", "iot:Publish")
    assert f"{at}:topic/c2m/client/*/request/*" not in resources("bridge", "iot:Publish")
    own = f"{at}:topicfilter/c2m/client/${{iot:Connection.Thing.ThingName}}"
    assert f"{own}/response/*" in resources("client", "iot:Subscribe")


def test_the_policies_for_aws_have_the_documented_form_and_size() -> None:
    # IAM's grammar of policies, the actions and resources of "AWS IoT Core policy actions" and
    # "action resources"; a policy has 2,048 characters without spaces, and a thing ten policies.
    kinds = {
        "iot:Connect": "client",
        "iot:Publish": "topic",
        "iot:RetainPublish": "topic",
        "iot:Receive": "topic",
        "iot:Subscribe": "topicfilter",
    }
    for user in ("client", "bridge", "ops"):
        assert 1 <= len(policies(user)) <= 10
        for policy in policies(user):
            assert policy.keys() == {"Version", "Statement"}
            assert policy["Version"] == "2012-10-17"
            whole = json.dumps(policy, separators=(",", ":"))
            assert len(whole.replace("REGION", "r" * 14).replace("ACCOUNT", "0" * 12)) <= 2048
            for statement in policy["Statement"]:
                assert statement.keys() == {"Effect", "Action", "Resource"}
                assert statement["Effect"] == "Allow"
                kind = kinds[statement["Action"][0]]
                for each in statement["Resource"]:
                    assert re.fullmatch(rf"arn:aws:iot:REGION:ACCOUNT:{kind}/[^ ]{{1,256}}", each)


def test_the_file_for_hivemq_is_xml_with_a_role_for_clients_and_one_for_each_user() -> None:
    root = ET.fromstring(text("hivemq"))  # noqa: S314 - our own
    assert [each.text for each in root.findall("./roles/role/id")] == ["client", "bridge", "ops"]
    found = {
        (each.findtext("topic"), each.findtext("activity"))
        for each in root.findall("./roles/role[1]/permissions/permission")
    }
    assert ("c2m/client/${{username}}/request/#", "PUBLISH") in found
    assert ("c2m/client/${{username}}/job/#", "SUBSCRIBE") in found
    assert not any(activity == "ALL" for _, activity in found)
    # The elements of the extension's README.
    assert {each.tag for each in root} == {"users", "roles"}
    for user in root.findall("./users/user"):
        assert [each.tag for each in user] == ["name", "password", "roles"]
    for role in root.findall("./roles/role"):
        assert [each.tag for each in role] == ["id", "permissions"]
    for permission in root.findall("./roles/role/permissions/permission"):
        assert [each.tag for each in permission] == ["topic", "activity"]
        assert permission.findtext("activity") in ("PUBLISH", "SUBSCRIBE", "ALL")


def test_the_rules_for_emqx_and_nanomq_end_with_a_refusal_of_all_else() -> None:
    lines = text("emqx").splitlines()
    assert lines[-1] == "{deny, all}."
    assert all(line.endswith("}.") for line in lines if line and not line.startswith("%%"))
    rules = [json.loads(line) for line in text("nanomq").splitlines()[1:-1]]
    assert rules[-1] == {"permit": "deny"}
    # The items of "Access Control List" of NanoMQ.
    for rule in rules[:-1]:
        assert rule.keys() == {"permit", "username", "action", "topics"}
        assert (rule["permit"], rule["action"] in ("publish", "subscribe")) == ("allow", True)
    (asked,) = (
        each["topics"]
        for each in rules[:-1]
        if (each["username"], each["action"]) == ("#", "publish")
    )
    assert asked == ["c2m/client/${username}/request/#"]
    own = next(each for each in rules if each["username"] == "ops" and each["action"] == "publish")
    assert own["topics"] == [
        each.filter for each in grants("operator", "ops") if each.access != "read"
    ]


def test_the_file_for_vernemq_has_no_word_that_it_does_not_know() -> None:
    words = {
        line.split()[1]
        for line in text("vernemq").splitlines()
        if line.startswith(("topic ", "pattern "))
    }
    assert {each for each in words if "/" not in each} == {"read", "write"}
    # "Auth using files" of VerneMQ: no empty lines, and one space behind a keyword.
    assert all(text("vernemq").splitlines())
    assert not re.search(r"^(topic|pattern|user)( (read|write))?  ", text("vernemq"), re.MULTILINE)


def test_the_commands_for_azure_have_the_documented_options_names_and_numbers() -> None:
    # "az eventgrid namespace", "Topic spaces" and "Quotas and limits" of Azure Event Grid.
    options = {
        "topic-space": {"--topic-templates"},
        "client-group": {"--query"},
        "permission-binding": {"--client-group-name", "--permission", "--topic-space-name"},
    }
    lines = [line for line in text("azure").splitlines() if line.startswith("az ")]
    made: dict[str, list[str]] = {kind: [] for kind in options}
    for line in lines:
        words = shlex.split(line)
        assert words[:3] == ["az", "eventgrid", "namespace"]
        kind, create, *rest = words[3:]
        assert create == "create"
        given = {each for each in rest if each.startswith("-")}
        assert given == {"-g", "--namespace-name", "-n", *options[kind]}
        name = rest[rest.index("-n") + 1]
        assert re.fullmatch("[A-Za-z0-9-]{3,50}", name)
        made[kind].append(name)
        if kind == "topic-space":
            templates = rest[rest.index("--topic-templates") + 1 :]
            assert 1 <= len(templates) <= 10
            assert all(each.count("/") < 8 and each[0] != "$" for each in templates)
            variables = {each for one in templates for each in re.findall(r"\$\{(.*?)\}", one)}
            assert variables <= {"client.authenticationName"}
        elif kind == "permission-binding":
            assert rest[rest.index("--permission") + 1] in ("Publisher", "Subscriber")
            assert rest[rest.index("--topic-space-name") + 1] in made["topic-space"]
            assert rest[rest.index("--client-group-name") + 1] in ("$all", *made["client-group"])
    assert all(len(set(names)) == len(names) for names in made.values())
    assert "'c2m/client/${client.authenticationName}/request/#'" in text("azure")
    assert "--client-group-name 'bridge' --permission Subscriber" in text("azure")


def test_the_users_of_a_bridge_fit_into_a_namespace_of_azure() -> None:
    whole = BROKERS["azure"].text(TOPICS, mosquitto.USERS, OTHERS)
    assert whole.count("topic-space create") <= 10
    assert whole.count("client-group create") <= 10


def test_the_subjects_for_nats_have_their_form() -> None:
    nats = text("nats")
    assert '"c2m.client.*.request.>"' in nats
    assert '"c2m.client.alice.request.>"' in nats
    assert "/" not in "".join(line for line in nats.splitlines() if "ish: [" in line)


@pytest.mark.parametrize("broker", BROKERS)
def test_the_settings_for_each_are_those_of_a_bridge(broker: Broker, tmp_path: Path) -> None:
    file = tmp_path / "comfy2mqtt.toml"
    file.write_text(BROKERS[broker].toml("c2m"))
    found = config.load(environment={}, file=file)
    config.check(found)
    assert found.base_topic == "c2m"
    address = Address.parse(found.mqtt_url)
    assert address.tls is (broker in ("aws", "azure"))
    assert (found.mqtt_cert is not None) is address.tls
    if broker == "aws":
        assert found.max_packet == 128 * 1024
        assert (found.max_publishes_per_s or 1000) < 100
