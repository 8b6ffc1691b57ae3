"""A broker that saves nothing while it runs: what the bench compares with one that does."""

from __future__ import annotations

from pathlib import Path

from bridge.mosquitto import Mosquitto

SAVES = "autosave_interval 20"
# So many changes that no measurement makes them.
NEVER = "autosave_interval 1000000000"


class UnsavingBroker(Mosquitto):
    """A mosquitto with the project's settings, but for how often it writes its file."""

    def _write_configuration(self, port: int) -> Path:
        file = super()._write_configuration(port)
        settings = file.read_text()
        if SAVES not in settings:
            raise RuntimeError(f"the broker's settings have no {SAVES!r} any more")
        file.write_text(settings.replace(SAVES, NEVER))
        return file
