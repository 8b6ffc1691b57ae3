"""The rights to publish and read topics that a broker has to enforce. Pure.

A client is whoever the broker knows by that user name, and has the tree of that name alone. The
others have roles: the bridge, the web adapter where it is a process of its own, Home Assistant,
operators, and programs that share a GPU. A user with a role is also a client, under its own name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal, get_args

from msgspec import Struct

from bridge.contract.topics import HomeAssistantTopics, Topics

Role = Literal["bridge", "adapter", "homeassistant", "operator", "gpu"]
ROLES: tuple[Role, ...] = get_args(Role)

# What mosquitto puts a user's name for.
USER = "%u"
# The commands that are buttons of the bridge's device in Home Assistant.
BUTTONS = ("comfyui/restart", "comfyui/yield", "comfyui/resume", "queue/pause", "queue/resume")


class ForeignTopics(Struct, frozen=True):
    """Topics that are not ours: what the bridge listens to and sends, Home Assistant's prefix."""

    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    discovery: str = "homeassistant"


class Grant(Struct, frozen=True):
    """A topic filter, and what may be done there; for clients `%u` stands for the name."""

    access: Literal["read", "write", "readwrite"]
    filter: str


def client(topics: Topics) -> tuple[Grant, ...]:
    """Return every user's rights: to ask in its own name, have the answers, and see what is shown.

    Nobody reads requests, not even one's own, and nobody but the bridge answers.
    """
    return (
        Grant("write", topics.request(USER, "#")),
        Grant("read", topics.response(USER, "#")),
        Grant("read", topics.job(USER, "#")),
        Grant("read", topics.sets(USER)),
        Grant("read", f"{topics.reply(USER)}#"),
        *(
            Grant("read", each)
            for each in (*topics.public, topics.gpu("+"), f"{topics.base}/display/#")
        ),
    )


def role(name: Role, topics: Topics, others: ForeignTopics) -> tuple[Grant, ...]:
    """Return a role's further rights."""
    base, home = topics.base, HomeAssistantTopics(topics, others.discovery)
    match name:
        case "bridge":
            return (
                Grant("read", topics.request("+", "#")),
                Grant("write", topics.response("+", "#")),
                Grant("write", topics.job("+", "#")),
                Grant("write", topics.sets("+")),
                Grant("write", f"{topics.reply('+')}#"),
                Grant("readwrite", f"{base}/bridge/#"),
                Grant("readwrite", topics.workflow("#")),
                Grant("readwrite", f"{base}/display/#"),
                Grant("readwrite", f"{home.tree}#"),
                Grant("readwrite", f"{others.discovery}/#"),
                *(Grant("read", each) for each in others.inputs),
                *(Grant("write", each) for each in others.outputs),
            )
        case "adapter":
            return (
                Grant("write", topics.request("+", "#")),
                Grant("read", f"{base}/client/#"),
            )
        case "homeassistant":
            return (
                Grant("readwrite", f"{home.tree}#"),
                Grant("read", f"{others.discovery}/#"),
                Grant("write", home.birth),
                *(Grant("write", topics.command(each)) for each in BUTTONS),
            )
        case "operator":
            return (
                Grant("read", f"{base}/#"),
                Grant("write", topics.commands),
                Grant("read", "$SYS/#"),
            )
        case "gpu":
            # Every client sees who has it.
            return (
                Grant("write", topics.command("gpu/+")),
                Grant("read", topics.command_response("gpu/+")),
            )


def acl(topics: Topics, users: Iterable[tuple[str, Role]], others: ForeignTopics) -> str:
    """Return mosquitto's ACL file for users with roles; every other user is a client."""
    lines = [
        "# Who may publish and read which topic; what is not here nobody may.",
        "# Written by `comfy2mqtt mosquitto`; lines of your own may stand below a user of theirs.",
        "",
        "# Every user is the client of that name.",
        *(f"pattern {each.access} {each.filter}" for each in client(topics)),
    ]
    for user, name in users:
        lines += ["", *stanza(user, role(name, topics, others))]
    return "\n".join(lines) + "\n"


def stanza(user: str, grants: Iterable[Grant]) -> Iterator[str]:
    """Yield the lines of mosquitto's ACL file for one user."""
    yield f"user {user}"
    for each in grants:
        yield f"topic {each.access} {each.filter}"
