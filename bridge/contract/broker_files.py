"""The rights of `bridge.contract.access` in the words of other brokers than mosquitto. Pure.

A client is whoever the broker knows by that user name (AWS: by that thing's name), as in
mosquitto's ACL. Each broker has a function that returns the text of one file; `BROKERS` has all.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from html import escape
from typing import Any, Literal, TypeAlias

from msgspec import Struct

from bridge.contract import access
from bridge.contract.access import USER, ForeignTopics, Grant, Role
from bridge.contract.topics import Topics

Users: TypeAlias = Sequence[tuple[str, Role]]
Broker = Literal["emqx", "hivemq", "nanomq", "vernemq", "rabbitmq", "aws", "azure", "nats"]
# AWS: an action, and what it is allowed on.
_Right: TypeAlias = tuple[str, str]

# A policy of AWS IoT has at most 2,048 characters without spaces. Less, for real names of the
# region and the account in each of up to 20 resources.
_AWS_POLICY_SIZE = 1700
# Of one topic space of Azure Event Grid.
_AZURE_TEMPLATES = 10


class BrokerFile(Struct, frozen=True):
    """A file for a broker: its name, and what makes its text; `put` says where it belongs.

    `settings` are the bridge's for this broker, as lines of comfy2mqtt.toml.
    """

    name: str
    put: str
    text: Callable[[Topics, Users, ForeignTopics], str]
    settings: str

    def toml(self, base_topic: str) -> str:
        """Return a comfy2mqtt.toml for this broker; what is in capitals is to be filled in."""
        return f'base_topic = "{base_topic}"\n{self.settings}'


def _read(grants: Iterable[Grant]) -> list[str]:
    return [each.filter for each in grants if each.access != "write"]


def _written(grants: Iterable[Grant]) -> list[str]:
    return [each.filter for each in grants if each.access != "read"]


def _named(grants: Iterable[Grant], name: str) -> list[Grant]:
    """Return a client's grants with what the broker puts a user's name for."""
    return [Grant(each.access, each.filter.replace(USER, name)) for each in grants]


def _emqx(topics: Topics, users: Users, others: ForeignTopics) -> str:
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


def _hivemq(topics: Topics, users: Users, others: ForeignTopics) -> str:
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


def _nanomq(topics: Topics, users: Users, others: ForeignTopics) -> str:
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


def _vernemq(topics: Topics, users: Users, others: ForeignTopics) -> str:
    # The format of mosquitto without empty lines, and without `readwrite`.
    lines = access.acl(topics, users, others).replace(" readwrite ", " ").splitlines()
    return "\n".join([*filter(None, lines), ""])


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


def _rabbitmq(topics: Topics, users: Users, others: ForeignTopics) -> str:
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


def _aws(topics: Topics, users: Users, others: ForeignTopics) -> str:
    thing = "${iot:Connection.Thing.ThingName}"

    def rights(user: str, grants: Iterable[Grant]) -> Iterator[_Right]:
        # In a policy a wildcard is *, which also stands for the + and # of a filter.
        grants = list(grants)
        for each in (user, f"{user}-*"):
            yield "Connect", f"client/{each}"
        for each in _written(grants):
            yield "Publish", f"topic/{re.sub('[+#]', '*', each)}"
            yield "RetainPublish", f"topic/{re.sub('[+#]', '*', each)}"
        for each in _read(grants):
            yield "Subscribe", f"topicfilter/{re.sub('/#$', '/*', each)}"
            yield "Receive", f"topic/{re.sub('[+#]', '*', each)}"

    client = access.client(topics)
    found = _policies("client", rights(thing, _named(client, thing)))
    for user, name in users:
        grants = [*_named(client, user), *access.role(name, topics, others)]
        found |= _policies(user, rights(user, grants))
    return json.dumps(found, indent=2) + "\n"


def _policies(name: str, rights: Iterable[_Right]) -> dict[str, Any]:
    """Return the policies of one user, by their names: as many as their limit of size makes it."""
    groups: list[list[_Right]] = [[]]
    for right in rights:
        grown = [*groups[-1], right]
        if len(json.dumps(_policy(grown))) > _AWS_POLICY_SIZE:
            grown = [right]
            groups.append(grown)
        groups[-1] = grown
    return {
        name if not number else f"{name}-{number + 1}": _policy(group)
        for number, group in enumerate(groups)
    }


def _policy(rights: Sequence[_Right]) -> dict[str, Any]:
    resources: dict[str, list[str]] = {}
    for action, resource in rights:
        place = f"arn:aws:iot:REGION:ACCOUNT:{resource}"
        resources.setdefault(f"iot:{action}", []).append(place)
    return {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Action": [action], "Resource": found}
            for action, found in resources.items()
        ],
    }


def _azure(topics: Topics, users: Users, others: ForeignTopics) -> str:
    at = "-g RESOURCE_GROUP --namespace-name NAMESPACE"
    group = "az eventgrid namespace client-group create"
    space = "az eventgrid namespace topic-space create"
    binding = "az eventgrid namespace permission-binding create"

    def commands(name: str, clients: str, grants: Iterable[Grant]) -> Iterator[str]:
        grants = list(grants)
        for word, filters in (("Publisher", _written(grants)), ("Subscriber", _read(grants))):
            for start in range(0, len(filters), _AZURE_TEMPLATES):
                few = filters[start : start + _AZURE_TEMPLATES]
                what = f"{name}-{word.lower()}{f'-{start}' if start else ''}"
                yield f"{space} {at} -n {what} --topic-templates {shlex.join(few)}"
                yield (
                    f"{binding} {at} -n {what} --client-group-name '{clients}' "
                    f"--permission {word} --topic-space-name {what}"
                )

    clients = _named(access.client(topics), "${client.authenticationName}")
    lines = [
        "#!/bin/sh",
        "# A client's authentication name is its name. A namespace has ten topic spaces, so that",
        "# none are left for a web adapter in a process of its own.",
        "set -e",
        "",
    ]
    lines += commands("client", "$all", clients)
    for user, name in users:
        if name != "adapter":
            query = f"authenticationName = '{user}'"
            lines += ["", f"# {name}", f'{group} {at} -n {user} --query "{query}"']
            # The broker has no topics of its own.
            grants = [each for each in access.role(name, topics, others) if each.filter[0] != "$"]
            lines += commands(user, user, grants)
    return "\n".join([*lines, ""])


def _nats(topics: Topics, users: Users, others: ForeignTopics) -> str:
    def subjects(filters: Iterable[str]) -> str:
        words = {"+": "*", "#": ">"}
        found = (".".join(words.get(x, x) for x in each.split("/")) for each in filters)
        return ", ".join(f'"{each}"' for each in found)

    def subscribed(filters: Iterable[str]) -> Iterator[str]:
        # In MQTT `a/#` is also `a`, which in NATS is a subject, and a subscription, of its own.
        for each in filters:
            yield from dict.fromkeys((each, each.removesuffix("/#")))

    def user(name: str, grants: Iterable[Grant]) -> list[str]:
        grants = list(grants)
        # Messages at QoS 1 come by way of a subject of the server's own.
        read = ", ".join(
            each for each in (subjects(subscribed(_read(grants))), '"$MQTT.sub.>"') if each
        )
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


_PLAIN = 'mqtt_url = "mqtt://comfy2mqtt:PASSWORD@HOST:1883"\n'
_BY_CERTIFICATE = """mqtt_url = "mqtts://HOST:8883"
mqtt_cert = "comfy2mqtt.pem"
mqtt_key = "comfy2mqtt.key"
"""

BROKERS: dict[Broker, BrokerFile] = {
    "emqx": BrokerFile(
        "acl.conf",
        "EMQX's etc/acl.conf, with authorization.no_match = deny",
        _emqx,
        f"""{_PLAIN}# It takes messages of 1 MB, unless mqtt.max_packet_size is raised there.
# EMQX Serverless: mqtts, port 8883, and
# max_publishes_per_s = 10
""",
    ),
    "hivemq": BrokerFile(
        "credentials.xml",
        "the File RBAC Extension's conf folder, passwords hashed",
        _hivemq,
        f"{_PLAIN}# HiveMQ Cloud: mqtts, port 8883.\n",
    ),
    "nanomq": BrokerFile(
        "nanomq_acl.conf",
        'beside nanomq.conf: auth { acl = { include "..." } }',
        _nanomq,
        _PLAIN,
    ),
    "vernemq": BrokerFile("vmq.acl", "VerneMQ's etc/vmq.acl", _vernemq, _PLAIN),
    "rabbitmq": BrokerFile(
        "rabbitmq.sh",
        "run once, where rabbitmqctl is",
        _rabbitmq,
        f"# rabbitmq-plugins enable rabbitmq_mqtt\n{_PLAIN}",
    ),
    "aws": BrokerFile(
        "policies.json",
        "policies by their names, NAME, NAME-2 ... for one thing; fill in REGION and ACCOUNT",
        _aws,
        f"""{_BY_CERTIFICATE}# The name of the thing.
mqtt_client_id = "comfy2mqtt"
# A payload has at most 128 KB, a connection 100 messages a second, the session an hour.
max_packet = 131072
max_publishes_per_s = 90
""",
    ),
    "azure": BrokerFile(
        "topic-spaces.sh",
        "run once, with the Azure CLI logged in",
        _azure,
        f"""{_BY_CERTIFICATE}# A message has at most 512 KB, a session 100 messages a second.
max_packet = 524288
max_publishes_per_s = 90
""",
    ),
    "nats": BrokerFile(
        "authorization.conf",
        "an include of nats-server.conf, which has jetstream and mqtt on",
        _nats,
        f"""{_PLAIN}# It takes payloads of 1 MB, unless max_payload is raised there.
max_packet = 1048576
""",
    ),
}
