"""Who may publish and read which topic: what a broker has to enforce. Pure.

A client is whoever the broker knows by that user name, and has the tree of that name alone. The
others have roles: the bridge, the browser's door where it is a process of its own, Home Assistant,
and operators. Whoever has a role is a client besides, under its own user name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal, get_args

from msgspec import Struct

from bridge.contract.topics import Topics

Role = Literal["bridge", "adapter", "homeassistant", "operator"]
ROLES: tuple[Role, ...] = get_args(Role)

# What mosquitto puts a user's name for.
USER = "%u"
DISCOVERY = "homeassistant"


class Grant(Struct, frozen=True):
    """A topic filter, and what may be done there; for clients `%u` stands for the name."""

    access: Literal["read", "write", "readwrite"]
    filter: str


def client(topics: Topics) -> tuple[Grant, ...]:
    """Return what every user may do: ask in its own name, have the answers, and see what is shown.

    Nobody reads requests, not even one's own, and nobody but the bridge answers.
    """
    return (
        Grant("write", topics.request(USER, "#")),
        Grant("read", topics.response(USER, "#")),
        Grant("read", topics.job(USER, "#")),
        Grant("read", f"{topics.reply(USER)}#"),
        *(Grant("read", each) for each in _public(topics)),
    )


def role(name: Role, topics: Topics, *, inputs: Iterable[str] = ()) -> tuple[Grant, ...]:
    """Return what a role may do besides; `inputs` are others' topics."""
    base = topics.base
    match name:
        case "bridge":
            return (
                Grant("read", topics.request("+", "#")),
                Grant("write", topics.response("+", "#")),
                Grant("write", topics.job("+", "#")),
                Grant("write", f"{topics.reply('+')}#"),
                Grant("readwrite", f"{base}/bridge/#"),
                Grant("readwrite", topics.workflow("#")),
                Grant("readwrite", f"{base}/display/#"),
                Grant("readwrite", f"{base}/homeassistant/#"),
                Grant("readwrite", f"{DISCOVERY}/#"),
                *(Grant("read", each) for each in inputs),
            )
        case "adapter":
            return (
                Grant("write", topics.request("+", "#")),
                Grant("read", f"{base}/client/#"),
            )
        case "homeassistant":
            return (
                Grant("readwrite", f"{base}/homeassistant/#"),
                Grant("read", f"{DISCOVERY}/#"),
                Grant("write", f"{DISCOVERY}/status"),
            )
        case "operator":
            return (
                Grant("read", f"{base}/#"),
                Grant("write", topics.orders),
                Grant("read", "$SYS/#"),
            )


def _public(topics: Topics) -> tuple[str, ...]:
    own = (topics.state, topics.info, topics.health, topics.event)
    named = (topics.comfyui("+"), topics.choices("+"), topics.workflow("+"))
    return (*own, *named, f"{topics.base}/display/#")


def acl(topics: Topics, users: Iterable[tuple[str, Role]], inputs: Iterable[str]) -> str:
    """Return mosquitto's ACL file for users with roles; every other user is a client."""
    lines = [
        "# Who may publish and read which topic; what is not here nobody may.",
        "# Written by `comfy2mqtt mosquitto`; lines of your own may stand below a user of theirs.",
        "",
        "# Every user is the client of that name.",
        *(f"pattern {each.access} {each.filter}" for each in client(topics)),
    ]
    named = tuple(inputs)
    for user, name in users:
        lines += ["", *stanza(user, role(name, topics, inputs=named))]
    return "\n".join(lines) + "\n"


def stanza(user: str, grants: Iterable[Grant]) -> Iterator[str]:
    """Give the lines of mosquitto's ACL file for one user."""
    yield f"user {user}"
    for each in grants:
        yield f"topic {each.access} {each.filter}"
