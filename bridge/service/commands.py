"""Makes the parts for the operator's commands, and knows which bridge of a group each is for."""

from __future__ import annotations

from collections.abc import Sequence

from bridge.adapters.mqtt.admin_commands import AdminCommands
from bridge.adapters.mqtt.retained import Retained
from bridge.comfyui.instance import Instance
from bridge.comfyui.updates import Updates
from bridge.hooks.driver import Hooks
from bridge.jobs.dispatcher import Dispatcher
from bridge.requests.member_reports import MemberReports
from bridge.requests.operator import Operator, refuse
from bridge.service.bridge_info import BridgeInfoPublisher
from bridge.service.descriptions import Descriptions
from bridge.service.shared import SharedParts


class CommandParts:
    """Receives an operator's commands by `extensions`; there are none if they are not allowed.

    In a group the bridge that takes requests receives them, and `reports` has the others carry out
    what is for them, or refuse it.
    """

    def __init__(
        self,
        shared: SharedParts,
        *,
        descriptions: Descriptions,
        dispatcher: Dispatcher,
        hooks: Hooks,
        info: BridgeInfoPublisher,
        instances: Sequence[Instance],
        retained: Retained,
        updates: Updates | None,
    ) -> None:
        """Make the parts, once the group is formed."""
        config, group = shared.config, shared.group
        self._group = group
        self._hooks = hooks
        self._comfyuis = [each.name for each in instances]
        self._retained = retained
        self.extensions: list[AdminCommands] = []
        self.reports: MemberReports | None = None
        operator = Operator(
            instances=instances,
            dispatcher=dispatcher,
            reload=descriptions.reload,
            health=info.health_report,
            gpus=hooks,
            pause_changed=info.publish_health,
            elsewhere=shared.journal.claimed_by_others if config.journal else None,
            updates=updates,
            is_away=self._is_elsewhere,
        )
        handle = operator.handle if config.operator_verbs else refuse
        if group.group is not None:
            reports = MemberReports(
                config.member_name,
                handle,
                shared.journal.commands,
                owner=self._owner,
                gpu_owner=self._gpu_owner,
            )
            group.group.on_command, group.group.on_report = (
                reports.look_for_commands,
                reports.look_for_reports,
            )
            handle = reports.handle
            self.reports = reports
        if config.operator_verbs:
            self.extensions.append(
                AdminCommands(shared.topics, handle, shared.publisher, group.wait_for_lease)
            )

    def _owner(self, comfyui: str) -> str | None:
        """Return the other bridge that lives and has a ComfyUI; None if there is none."""
        if comfyui in self._comfyuis or not self._is_elsewhere(comfyui):
            return None
        return self._retained.owner(comfyui)

    def _is_elsewhere(self, comfyui: str) -> bool:
        return self._group.has(comfyui) or self._retained.is_published_elsewhere(comfyui)

    def _gpu_owner(self, gpu: str) -> str | None:
        """Return the other bridge that lives and has a GPU; None if there is none."""
        if self._hooks.owns(gpu) or not self._retained.is_gpu_elsewhere(gpu):
            return None
        return self._retained.owner(gpu)
