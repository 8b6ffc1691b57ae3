"""Makes the parts for the operator's commands, and decides which bridge of a group answers one."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from bridge.adapters.mqtt.admin_commands import AdminCommands, Responder, responder_of
from bridge.adapters.mqtt.publisher import Publisher
from bridge.adapters.mqtt.retained import Retained
from bridge.comfyui.instance import Instance
from bridge.comfyui.updates import Updates
from bridge.config import Config
from bridge.contract.topics import Topics
from bridge.hooks.driver import Hooks
from bridge.jobs.dispatcher import Dispatcher
from bridge.jobs.journal import Journal
from bridge.requests.operator import Operator
from bridge.service.bridge_info import BridgeInfoPublisher
from bridge.service.descriptions import Descriptions
from bridge.service.group import GroupParts


class CommandParts:
    """Receives an operator's commands; both lists are empty if they are not allowed.

    In a group every bridge has `everywhere` at its own connection, and the one that takes requests
    has `leading` at the connection of the requests.
    """

    def __init__(
        self,
        config: Config,
        topics: Topics,
        *,
        descriptions: Descriptions,
        dispatcher: Dispatcher,
        group: GroupParts,
        hooks: Hooks,
        info: BridgeInfoPublisher,
        instances: Sequence[Instance],
        journal: Journal,
        publisher: Publisher,
        retained: Retained,
        updates: Updates | None,
    ) -> None:
        """Make the parts, once `group` is formed."""
        self._group = group
        self._hooks = hooks
        self._comfyuis = [each.name for each in instances]
        self._retained = retained
        self.everywhere: list[AdminCommands] = []
        self.leading: list[AdminCommands] = []
        if not config.operator_verbs:
            return
        operator = Operator(
            instances=instances,
            dispatcher=dispatcher,
            reload=descriptions.reload,
            health=info.health_report,
            gpus=hooks,
            pause_changed=info.publish_health,
            elsewhere=journal.claimed_by_others if config.journal else None,
            updates=updates,
            is_away=self._is_elsewhere,
        )
        commands = partial(AdminCommands, topics, operator, publisher)
        if config.journal:
            self.everywhere.append(commands(partial(self._responder, intake=False), group.held))
            self.leading.append(commands(partial(self._responder, intake=True), group.held))
        else:
            self.everywhere.append(commands())

    def _responder(self, verb: str, payload: bytes, *, intake: bool) -> Responder:
        """Return this bridge's part in a command to its group."""
        return responder_of(
            verb,
            payload,
            intake=intake,
            leader=self._group.speaks_for_all(),
            owns=self._owns,
            owns_gpu=self._owns_gpu,
        )

    def _owns(self, comfyui: str) -> bool | None:
        if comfyui in self._comfyuis:
            return True
        return (
            False
            if self._is_elsewhere(comfyui) and self._retained.is_of_a_member(comfyui)
            else None
        )

    def _is_elsewhere(self, comfyui: str) -> bool:
        return self._group.has(comfyui) or self._retained.is_published_elsewhere(comfyui)

    def _owns_gpu(self, gpu: str) -> bool | None:
        if self._hooks.owns(gpu):
            return True
        return False if self._retained.is_gpu_elsewhere(gpu) else None
