"""The mutants: for each guarantee of docs/contract.md and docs/security.md a change that breaks it.

A mutant survives if its tests pass nevertheless: then write the test that is missing.
"""

from __future__ import annotations

from tests.mutants.brokers import BROKERS
from tests.mutants.comfyui import COMFYUI
from tests.mutants.containment import CONTAINMENT
from tests.mutants.contract import CONTRACT
from tests.mutants.files import FILES
from tests.mutants.first_use import FIRST_USE
from tests.mutants.floods import FLOODS
from tests.mutants.homeassistant import HOMEASSISTANT
from tests.mutants.jobs import JOBS
from tests.mutants.journal import JOURNAL
from tests.mutants.media import MEDIA
from tests.mutants.mqtt import MQTT
from tests.mutants.mutant import Mutant
from tests.mutants.requests import REQUESTS
from tests.mutants.sets import SETS
from tests.mutants.sinks import SINKS
from tests.mutants.walls import WALLS
from tests.mutants.web import WEB
from tests.mutants.workflows import WORKFLOWS

MUTANTS: tuple[Mutant, ...] = (
    *BROKERS,
    *COMFYUI,
    *CONTAINMENT,
    *CONTRACT,
    *FILES,
    *FIRST_USE,
    *FLOODS,
    *HOMEASSISTANT,
    *JOBS,
    *JOURNAL,
    *MEDIA,
    *MQTT,
    *REQUESTS,
    *SETS,
    *SINKS,
    *WALLS,
    *WEB,
    *WORKFLOWS,
)
