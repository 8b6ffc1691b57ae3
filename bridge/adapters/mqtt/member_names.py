"""The bridge of a group to which a ComfyUI or GPU belongs, by its name. Pure."""

from __future__ import annotations

from collections.abc import Iterable


class MemberNames:
    """The names of the other bridges of a group.

    A ComfyUI of one of them is called `<member>-<name>`, and both may have dashes: `a-b-c` belongs
    to `a-b` where there is one, else to `a`. So a bridge that has gone stays known here while its
    name continues that of one that lives.
    """

    def __init__(self) -> None:
        self.living: tuple[str, ...] = ()
        self._gone: frozenset[str] = frozenset()
        self._prefixes: tuple[str, ...] = ()

    def set(self, living: Iterable[str]) -> None:
        """Note which other bridges there are now."""
        known = self._gone.union(self.living)
        self.living = tuple(living)
        self._prefixes = tuple(f"{name}-" for name in self.living)
        self._gone = frozenset(
            name for name in known - set(self.living) if name.startswith(self._prefixes)
        )

    def owner_is_alive(self, name: str) -> bool:
        """True if the ComfyUI or GPU of that name belongs to a bridge that lives."""
        if not name.startswith(self._prefixes):
            return False
        return not self._gone or self.owner(name) is not None

    def owner(self, name: str) -> str | None:
        """Return the bridge that lives and has the ComfyUI or GPU of that name, if one has."""
        owners = (each for each in (*self.living, *self._gone) if name.startswith(f"{each}-"))
        owner = max(owners, key=len, default=None)
        return None if owner in self._gone else owner
