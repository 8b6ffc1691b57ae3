"""The hub: who is connected for which client, and who hears what. Pure.

A frame is encoded once, and written to everybody whom it is for, at once. What a slow reader can do
without is left out for it; a reader that stopped is dropped; nobody waits for anybody.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Final, Protocol

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from bridge.adapters.web import frames

# With so many bytes waiting for a reader, previews are left out, then progress.
PREVIEW_ROOM: Final = 64 * 1024
PROGRESS_ROOM: Final = 256 * 1024
_OUTCOMES: Final = frozenset({"succeeded", "failed", "cancelled", "expired"})
_DIGITS: Final = 15
_NUMBERS: Final = frozenset({"index", "size", "width", "height"})
# The order in which a newcomer is told what is retained.
_ORDER: Final = ("bridge", "info", "health", "comfyui", "choices", "workflow")
# Newest progress of so many jobs of a client is remembered, for who comes later.
_MOST_JOBS: Final = 1000

Retained = tuple[str, str | None]


class Importance(enum.Enum):
    """What a slow reader loses first."""

    PREVIEW = PREVIEW_ROOM
    PROGRESS = PROGRESS_ROOM
    KEEP = None


class Verdict(enum.Enum):
    """What becomes of a frame for one reader."""

    SEND = enum.auto()
    SKIP = enum.auto()
    DROP = enum.auto()


def verdict(importance: Importance, waiting: int, buffer: int) -> Verdict:
    """Decide by the bytes that wait for a reader, and how many may."""
    if waiting > buffer:
        return Verdict.DROP
    if importance.value is not None and waiting > importance.value:
        return Verdict.SKIP
    return Verdict.SEND


class Wire(Protocol):
    """A connection as it is written to."""

    @property
    def waiting(self) -> int:
        """Bytes that the other side has not taken yet."""

    def write(self, frame: bytes) -> None:
        """Write a frame, without waiting; one that is closing takes nothing."""

    def drop(self) -> None:
        """End it at once, without a word."""


class Session:
    """One registered connection. `n` is the highest that it was told, None before any."""

    def __init__(self, wire: Wire, *, name: str, client: str, key: str, buffer: int) -> None:
        self.name = name
        self.client = client
        self.key = key
        self.n: int | None = None
        self.pending = 0
        """Requests without an answer."""
        self.heard_at = 0.0
        self.over = False
        """Whether it was dropped, or has ended."""
        self._wire = wire
        self._buffer = buffer
        self._held: list[tuple[int, bytes]] | None = None
        self._held_bytes = 0
        self._replayed = 0

    def tell(
        self, frame: bytes, importance: Importance = Importance.KEEP, n: int | None = None
    ) -> None:
        """Write a frame, unless this reader is behind; `n` is the number that it carries.

        What is held back counts against the buffer as what waits for the network does.
        """
        if self.over:
            return
        found = verdict(importance, self._wire.waiting, self._buffer - self._held_bytes)
        if found is Verdict.DROP:
            self.over = True
            self._held, self._held_bytes = None, 0
            self._wire.drop()
        elif n is not None and self._held is not None:
            self._held.append((n, frame))
            self._held_bytes += len(frame)
        elif found is Verdict.SEND:
            self._wire.write(frame)
            if n is not None:
                self.n = max(n, self.n or 0)

    def hold(self) -> None:
        """Keep back what has a number: what has a lower one is told first."""
        if self._held is None:
            self._held, self._replayed = [], 0

    def replay(self, frame: bytes, n: int) -> None:
        """Tell what was missed, past what is held."""
        held, self._held = self._held, None
        self.tell(frame, n=n)
        self._replayed = max(n, self._replayed)
        if not self.over:
            self._held = held

    def release(self) -> None:
        """Tell what was held, but for what a later message of its job has replaced.

        Not what is below the client's own `after`: a bridge with a new journal counts anew.
        """
        held, self._held, self._held_bytes = self._held or [], None, 0
        for n, frame in held:
            if n > self._replayed:
                self.tell(frame, n=n)


class _Following:
    """One client's connections, and the newest of its jobs that run."""

    def __init__(self) -> None:
        self.sessions: set[Session] = set()
        self.jobs: dict[str, dict[Importance, bytes]] = {}


class _Glance(Struct):
    """What has to be known of a message about a job, to pass it on."""

    n: Annotated[int, Meta(ge=0, lt=2**53)] | UnsetType = UNSET
    state: str | UnsetType = UNSET
    type: Raw | UnsetType = UNSET


_GLANCE: Final = msgspec.json.Decoder(_Glance)
_OBJECT: Final = msgspec.json.Decoder(dict[str, Raw])


class Hub:
    """Everybody who is registered."""

    def __init__(self) -> None:
        self._followings: dict[str, _Following] = {}
        self._retained: dict[Retained, bytes] = {}
        self._bodies: dict[Retained, bytes] = {}
        self._unconfirmed: set[Retained] = set()
        self.bridge = "unreachable"
        self._say_bridge()

    def __iter__(self) -> Iterator[Session]:
        for following in self._followings.values():
            yield from following.sessions

    def __len__(self) -> int:
        return sum(len(following.sessions) for following in self._followings.values())

    def of(self, client: str) -> list[Session]:
        """Return a client's connections."""
        following = self._followings.get(client)
        return [] if following is None else list(following.sessions)

    @property
    def clients(self) -> list[str]:
        """Clients that somebody is connected for."""
        return list(self._followings)

    def waits(self, session: Session) -> bool:
        """Whether a connection has something to wait for: an answer, or a job of its client."""
        following = self._followings.get(session.client)
        return bool(session.pending or (following is not None and following.jobs))

    def join(self, session: Session) -> None:
        """Let a connection hear; first it is told what is retained."""
        self._followings.setdefault(session.client, _Following()).sessions.add(session)
        for key in sorted(self._retained, key=_rank):
            session.tell(self._retained[key])
        session.tell(frames.text("ready"))

    def newest(self, session: Session) -> None:
        """Tell how far the client's jobs are."""
        following = self._followings.get(session.client)
        for told in following.jobs.values() if following is not None else ():
            for importance, frame in told.items():
                session.tell(frame, importance)

    def leave(self, session: Session) -> None:
        """Let a connection go, and with a client's last one what was remembered for it."""
        following = self._followings.get(session.client)
        if following is not None:
            session.over = True
            following.sessions.discard(session)
            if not following.sessions:
                del self._followings[session.client]

    # What is retained.

    def unreachable(self) -> None:
        """The broker is away: nobody knows how the bridge is."""
        self.bridge = "unreachable"
        self._say_bridge()

    def begin(self) -> None:
        """The broker is back: what is retained is confirmed from now on."""
        self._unconfirmed = set(self._bodies)

    def settle(self) -> None:
        """All that is retained has come: what was not confirmed is gone."""
        for key in sorted(self._unconfirmed, key=_rank):
            self.public(*key, b"")
        if self.bridge == "unreachable":
            self.bridge = "offline"  # it has never been there
            self._say_bridge()

    def public(self, what: str, name: str | None, payload: bytes) -> None:
        """Pass on what the bridge tells everybody; an empty payload: it is gone."""
        if what == "state":
            self.bridge = "online" if payload == b"online" else "offline"
            self._say_bridge()
            return
        fields = _fields(payload) if payload else {}
        if fields is None:
            return  # not the bridge's
        if what == "event":
            if payload:
                self._tell_all(frames.text("event", {"event": Raw(payload)}))
            return
        key = (what, name)
        self._unconfirmed.discard(key)
        if payload == self._bodies.get(key, b""):
            return
        fields.pop("type", None)  # it would be taken for another frame
        frame = _public_frame(what, name, payload, fields)
        if payload:
            self._bodies[key], self._retained[key] = payload, frame
        else:
            self._bodies.pop(key, None)
            self._retained.pop(key, None)
        self._tell_all(frame)

    def _say_bridge(self) -> None:
        frame = frames.text("bridge", {"state": self.bridge})
        if frame != self._retained.get(("bridge", None)):
            self._retained["bridge", None] = frame
            self._tell_all(frame)

    def _tell_all(self, frame: bytes) -> None:
        for session in self:
            session.tell(frame)

    # What is about jobs.

    def job(
        self,
        client: str,
        levels: Sequence[str],
        payload: bytes,
        content_type: str | None,
        properties: Iterable[tuple[str, str]],
    ) -> None:
        """Pass on a message about a job, to who is connected for its client."""
        following = self._followings.get(client)
        if following is None:
            return
        match levels:
            case [job_id, "status" | "result" | "progress" as what]:
                self._tell_json(following, job_id, what, payload)
            case [job_id, "preview"]:
                header = {"type": "preview", "job_id": job_id, "content_type": content_type}
                frame = frames.binary(header, payload)
                self._tell_newest(following, job_id, Importance.PREVIEW, frame)
            case [job_id, "output", index] if _is_number(index):
                facts = {
                    name: int(value) if name in _NUMBERS and _is_number(value) else value
                    for name, value in properties
                }
                about = {"job_id": job_id, "index": int(index), "content_type": content_type}
                frame = frames.binary({**facts, **about, "type": "output"}, payload)
                for session in following.sessions:
                    session.tell(frame)

    def _tell_json(self, following: _Following, job_id: str, what: str, payload: bytes) -> None:
        try:
            # A text frame that is not UTF-8 would end the connection.
            glance = _GLANCE.decode(payload.decode())
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            return  # not the bridge's
        if glance.type is not UNSET:
            return  # it would be taken for another frame
        frame = frames.spliced(what, payload)
        if what == "progress":
            self._tell_newest(following, job_id, Importance.PROGRESS, frame)
            return
        if what == "result" or glance.state in _OUTCOMES:
            following.jobs.pop(job_id, None)
        elif len(following.jobs) < _MOST_JOBS:
            following.jobs.setdefault(job_id, {})
        n = None if glance.n is UNSET else glance.n
        for session in following.sessions:
            session.tell(frame, n=n)

    def _tell_newest(
        self, following: _Following, job_id: str, importance: Importance, frame: bytes
    ) -> None:
        if job_id in following.jobs or len(following.jobs) < _MOST_JOBS:
            following.jobs.setdefault(job_id, {})[importance] = frame
        for session in following.sessions:
            session.tell(frame, importance)


def _rank(key: Retained) -> tuple[int, str]:
    return _ORDER.index(key[0]), key[1] or ""


def _is_number(text: str) -> bool:
    return len(text) <= _DIGITS and text.isascii() and text.isdecimal()


def _fields(payload: bytes) -> dict[str, Raw] | None:
    """Return an object's fields; None for what is none, or is not UTF-8."""
    try:
        return _OBJECT.decode(payload.decode())
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None


def _public_frame(what: str, name: str | None, payload: bytes, fields: dict[str, Raw]) -> bytes:
    match what:
        case "workflow":
            definition = Raw(payload or b"null")
            return frames.text(what, {"name": name, "definition": definition})
        case "choices":
            return frames.text(what, {"name": name, "choices": fields.get("choices")})
        case "comfyui":
            return frames.text(what, {**fields, "instance": name})
        case _:
            return frames.text(what, fields)
