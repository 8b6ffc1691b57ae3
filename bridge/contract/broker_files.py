"""The rights of `bridge.contract.access` in the words of other brokers than mosquitto. Pure.

A client is whoever the broker knows by that user name (AWS: by that thing's name), as in
mosquitto's ACL. Each broker has a function that returns the text of one file; `BROKERS` has all.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import Any, Literal, TypeAlias

from msgspec import Struct

from bridge.contract import access
from bridge.contract.access import USER, Grant, Others, Role
from bridge.contract.topics import Topics

Users: TypeAlias = Sequence[tuple[str, Role]]
Broker = Literal["emqx", "hivemq", "nanomq", "vernemq", "rabbitmq", "aws", "azure", "nats"]


class BrokerFile(Struct, frozen=True):
    """A file for a broker: its name, and what makes its text; `put` says where it belongs."""

    name: str
    put: str
    text: Callable[[Topics, Users, Others], str]


def _read(grants: Iterable[Grant]) -> list[str]:
    return [each.filter for each in grants if each.access != "write"]


def _written(grants: Iterable[Grant]) -> list[str]:
    return [each.filter for each in grants if each.access != "read"]


def _named(grants: Iterable[Grant], name: str) -> list[Grant]:
    """Return a client's grants with what the broker puts a user's name for."""
    return [Grant(each.access, each.filter.replace(USER, name)) for each in grants]


def _emqx(topics: Topics, users: Users, others: Others) -> str:
    def rule(who: str, action: str, filters: Sequence[str]) -> str:
        quoted = ", ".join(f'"{each}"' for each in filters)
        return f"{{allow, {who}, {action}, [{quoted}]}}."

    clients = _named(access.client(topics), "${username}")
    lines = [
        "%% Every user is the client of that name.",
        rule("all", "publish", _written(clients)),
        rule("all", "subscribe", _read(clients)),
    ]
    for user, name in users:
        grants = access.role(name, topics, others)
        who = f'{{username, "{user}"}}'
        lines += ["", f"%% {name}", rule(who, "publish", _written(grants))]
        lines += [rule(who, "subscribe", read)] if (read := _read(grants)) else []
    return "\n".join([*lines, "", "{deny, all}.", ""])


def _hivemq(topics: Topics, users: Users, others: Others) -> str:
    def role(name: str, grants: Iterable[Grant]) -> list[str]:
        lines = ["    <role>", f"      <id>{name}</id>", "      <permissions>"]
        activity = {"read": "SUBSCRIBE", "write": "PUBLISH", "readwrite": "ALL"}
        for each in grants:
            lines += [
                "        <permission>",
                f"          <topic>{escape(each.filter)}</topic>",
                f"          <activity>{activity[each.access]}</activity>",
                "        </permission>",
            ]
        return [*lines, "      </permissions>", "    </role>"]

    lines = ['<?xml version="1.0" encoding="UTF-8"?>', "<file-rbac>", "  <users>"]
    for user, _ in users:
        lines += [
            "    <user>",
            f"      <name>{escape(user)}</name>",
            "      <password>put its hash here</password>",
            "      <roles>",
            "        <id>client</id>",
            f"        <id>{escape(user)}</id>",
            "      </roles>",
            "    </user>",
        ]
    lines += [
        "    <!-- A client is a user with the role client alone. -->",
        "  </users>",
        "  <roles>",
    ]
    lines += role("client", _named(access.client(topics), "${{username}}"))
    for user, name in users:
        lines += role(escape(user), access.role(name, topics, others))
    return "\n".join([*lines, "  </roles>", "</file-rbac>", ""])


def _nanomq(topics: Topics, users: Users, others: Others) -> str:
    def rule(user: str, action: str, filters: Sequence[str]) -> str:
        rights = {"permit": "allow", "username": user, "action": action, "topics": filters}
        return f"  {json.dumps(rights)}"

    rules = []
    for user, name in users:
        grants = [*_named(access.client(topics), user), *access.role(name, topics, others)]
        rules.append(rule(user, "publish", _written(grants)))
        rules.append(rule(user, "subscribe", _read(grants)))
    clients = _named(access.client(topics), "${username}")
    rules.append(rule("#", "publish", _written(clients)))
    rules.append(rule("#", "subscribe", _read(clients)))
    rules.append('  {"permit": "deny"}')
    return "\n".join(["rules = [", *rules, "]", ""])


def _vernemq(topics: Topics, users: Users, others: Others) -> str:
    # The format of mosquitto, but for a word: what may be both is left out.
    return access.acl(topics, users, others).replace(" readwrite ", " ")


def _pattern(filters: Iterable[str]) -> str:
    """Return a regular expression for AMQP's form of topics, in which levels end at a dot."""
    found = []
    for each in filters:
        levels = [
            "[^.]+" if level == "+" else ".*" if level == "#" else re.escape(level)
            for level in each.split("/")
        ]
        found.append("\\.".join(levels).replace(re.escape("{username}"), "{username}"))
    return f"^({'|'.join(found)})$" if found else "^$"


def _rabbitmq(topics: Topics, users: Users, others: Others) -> str:
    def commands(user: str, grants: Iterable[Grant]) -> list[str]:
        own = "^mqtt-subscription-.*"
        both = r"^(mqtt-subscription-.*|amq\.topic)$"
        grants = list(grants)
        written, read = _pattern(_written(grants)), _pattern(_read(grants))
        return [
            f"rabbitmqctl set_permissions -p / {user} '{own}' '{both}' '{both}'",
            f"rabbitmqctl set_topic_permissions -p / {user} amq.topic '{written}' '{read}'",
        ]

    client = _named(access.client(topics), "{username}")
    lines = ["#!/bin/sh", "# The users are there already: rabbitmqctl add_user NAME.", "set -e"]
    for user, name in users:
        lines += ["", f"# {name}", *commands(user, [*client, *access.role(name, topics, others)])]
    lines += ["", "# Clients: sh rabbitmq.sh NAME ...", 'for user in "$@"; do']
    lines += [f"  {each}" for each in commands('"$user"', client)]
    return "\n".join([*lines, "done", ""])


def _aws(topics: Topics, users: Users, others: Others) -> str:
    thing = "${iot:Connection.Thing.ThingName}"

    def statement(actions: Sequence[str], kind: str, filters: Iterable[str]) -> dict[str, Any]:
        # In a policy a wildcard is *; a filter's own + and # stand for themselves.
        place = "arn:aws:iot:REGION:ACCOUNT"
        found = [
            f"{place}:{kind}/{each if kind == 'topicfilter' else re.sub('[+#]', '*', each)}"
            for each in filters
        ]
        return {"Effect": "Allow", "Action": [f"iot:{each}" for each in actions], "Resource": found}

    def policy(user: str, grants: Iterable[Grant]) -> dict[str, Any]:
        grants = list(grants)
        written, read = _written(grants), _read(grants)
        below = [re.sub("/#$", "/*", each) for each in read]
        return {
            "Version": "2012-10-17",
            "Statement": [
                statement(["Connect"], "client", [user, f"{user}-*"]),
                statement(["Publish", "RetainPublish"], "topic", written),
                statement(["Subscribe"], "topicfilter", dict.fromkeys((*read, *below))),
                statement(["Receive"], "topic", read),
            ],
        }

    client = access.client(topics)
    found = {"client": policy(thing, _named(client, thing))}
    for user, name in users:
        found[user] = policy(user, [*_named(client, user), *access.role(name, topics, others)])
    return json.dumps(found, indent=2) + "\n"


def _azure(topics: Topics, users: Users, others: Others) -> str:
    at = "-g RESOURCE_GROUP --namespace-name NAMESPACE"
    group = "az eventgrid namespace client-group create"
    space = "az eventgrid namespace topic-space create"
    binding = "az eventgrid namespace permission-binding create"

    def commands(name: str, clients: str, grants: Iterable[Grant]) -> list[str]:
        grants = list(grants)
        lines = []
        for word, filters in (("Publisher", _written(grants)), ("Subscriber", _read(grants))):
            if not filters:
                continue
            templates = " ".join(f"'{each}'" for each in filters)
            what = f"{name}-{word.lower()}"
            lines += [
                f"{space} {at} -n {what} --topic-templates {templates}",
                (
                    f"{binding} {at} -n {what} --client-group-name '{clients}' "
                    f"--permission {word} --topic-space-name {what}"
                ),
            ]
        return lines

    clients = _named(access.client(topics), "${client.authenticationName}")
    lines = ["#!/bin/sh", "# A client's authentication name is its name.", "set -e", ""]
    lines += commands("client", "$all", clients)
    for user, name in users:
        query = f"authenticationName = '{user}'"
        lines += ["", f"# {name}", f'{group} {at} -n {user} --query "{query}"']
        lines += commands(user, user, access.role(name, topics, others))
    return "\n".join([*lines, ""])


def _nats(topics: Topics, users: Users, others: Others) -> str:
    def subjects(filters: Iterable[str]) -> str:
        words = {"+": "*", "#": ">"}
        found = (".".join(words.get(x, x) for x in each.split("/")) for each in filters)
        return ", ".join(f'"{each}"' for each in found)

    def user(name: str, grants: Iterable[Grant]) -> list[str]:
        grants = list(grants)
        # Messages at QoS 1 come by way of a subject of the server's own.
        read = ", ".join(each for each in (subjects(_read(grants)), '"$MQTT.sub.>"') if each)
        return [
            f'    {{ user: "{name}", password: "put its bcrypt hash here", permissions: {{',
            f"        publish: [{subjects(_written(grants))}]",
            f"        subscribe: [{read}]",
            "    } }",
        ]

    client = access.client(topics)
    lines = ["authorization {", "  users = ["]
    for name, role in users:
        grants = [*_named(client, name), *access.role(role, topics, others)]
        lines += [f"    # {role}", *user(name, grants)]
    lines += ["    # A client; one such entry for each.", *user("alice", _named(client, "alice"))]
    return "\n".join([*lines, "  ]", "}", ""])


BROKERS: dict[Broker, BrokerFile] = {
    "emqx": BrokerFile(
        "acl.conf", "EMQX's etc/acl.conf, with authorization.no_match = deny", _emqx
    ),
    "hivemq": BrokerFile(
        "credentials.xml", "the File RBAC Extension's conf folder, passwords hashed", _hivemq
    ),
    "nanomq": BrokerFile(
        "nanomq_acl.conf", 'beside nanomq.conf: auth { acl = { include "..." } }', _nanomq
    ),
    "vernemq": BrokerFile("vmq.acl", "VerneMQ's etc/vmq.acl", _vernemq),
    "rabbitmq": BrokerFile("rabbitmq.sh", "run once, where rabbitmqctl is", _rabbitmq),
    "aws": BrokerFile(
        "policies.json", "one policy for each name, REGION and ACCOUNT filled in", _aws
    ),
    "azure": BrokerFile("topic-spaces.sh", "run once, with the Azure CLI logged in", _azure),
    "nats": BrokerFile("authorization.conf", "an include of nats-server.conf", _nats),
}
