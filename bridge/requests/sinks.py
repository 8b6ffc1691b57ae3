"""Collects a job's sinks, and checks them: the request's, its workflow's, the operator's.

The sinks of a request need rights of the client, checked when it asks and again at the delivery.
Those of a sidecar or a setting are the operator's, and need none.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TypeVar

from msgspec import UNSET

from bridge.config import ConfigError, Sink, SinkFolder, is_there
from bridge.contract import targets
from bridge.contract.errors import BadRequest, BridgeError
from bridge.contract.messages import Submit, or_none
from bridge.contract.sinks import Put
from bridge.contract.targets import FolderTarget, HttpTarget, Target, TopicTarget
from bridge.jobs.job import JobSinks, OutputSink, ResultWebhook
from bridge.media.download import AllowedHosts
from bridge.requests.permissions import Permissions, setting
from bridge.text import in_quotes, matches_any
from bridge.workflows.sidecar import SinkRules

T = TypeVar("T")


class Sinks:
    """Reads and checks the sinks of requests."""

    def __init__(
        self, permissions: Permissions, tables: Sequence[Sink] = (), folders: Collection[str] = ()
    ) -> None:
        """`folders` are the operator's, by name. Raises ConfigError for a useless table."""
        self._permissions = permissions
        self._folders = folders
        self._tables = [
            (table, self._of_table(number, table)) for number, table in enumerate(tables)
        ]

    def of(self, client: str, workflow: str, rules: SinkRules, submit: Submit) -> JobSinks:
        """Return the sinks of a job: those of the request, the sidecar and the settings.

        Raises BadRequest and Forbidden for one of the request.
        """
        asked = self._asked(client, submit)
        sidecar = self._own(rules.put, None if rules.webhook is None else rules.webhook.url)
        put, webhooks = [*asked.put, *sidecar.put], [*asked.webhooks, *sidecar.webhooks]
        for table, sinks in self._tables:
            if matches_any(table.workflows, workflow) and matches_any(table.clients, client):
                put += sinks.put
                webhooks += sinks.webhooks
        return JobSinks(_once(put), _once(webhooks))

    def check(self, client: str, sink: OutputSink | ResultWebhook, target: Target) -> AllowedHosts:
        """Check that a target may be used now; returns the addresses that it may reach.

        Raises BadRequest for an unknown folder, and Forbidden.
        """
        if isinstance(target, FolderTarget) and target.name not in self._folders:
            raise BadRequest(
                f"there is no folder {target.name!r}", field="put", allowed=sorted(self._folders)
            )
        where = setting(client, "sink_hosts")
        if sink.own:
            # The operator's word is enough, also for a private host.
            return AllowedHosts((target.host,) if isinstance(target, HttpTarget) else (), where)
        match target:
            case HttpTarget(host=host):
                self._permissions.check_sink_host(client, host)
            case FolderTarget(name=name):
                self._permissions.check_sink_folder(client, name)
            case TopicTarget(topic=topic):
                self._permissions.check_sink_topic(client, topic)
        return AllowedHosts(self._permissions.private_sink_hosts(client), where)

    def _asked(self, client: str, submit: Submit) -> JobSinks:
        put = []
        for number, each in enumerate(submit.put or ()):
            field = f"put[{number}].url"
            sink = OutputSink(each.url, or_none(each.output), each.headers)
            target = targets.read(each.url, field)
            self._check_headers(target, each.headers, f"put[{number}].headers")
            if not isinstance(target, TopicTarget) or "{" not in target.topic:
                self.check(client, sink, target)  # else once it is known which topic it is
            if submit.is_set and not targets.differs_per_job(target):
                raise BadRequest(
                    f"{field}: the jobs of a set would overwrite each other there: put {{job_id}} "
                    "into it, or end it with a slash",
                    field=field,
                )
            put.append(sink)
        if submit.webhook is UNSET:
            return JobSinks(put)
        hook = ResultWebhook(submit.webhook.url)
        self.check(client, hook, targets.read_http(hook.url, "webhook.url"))
        return JobSinks(put, [hook])

    def _own(self, puts: Sequence[Put], webhook: str | None) -> JobSinks:
        put = [OutputSink(each.url, or_none(each.output), each.headers, own=True) for each in puts]
        return JobSinks(put, [] if webhook is None else [ResultWebhook(webhook, own=True)])

    def _of_table(self, number: int, table: Sink) -> JobSinks:
        place = ("sink", number)
        if (table.put is None) == (table.webhook is None):
            raise ConfigError("give one of put and webhook", *place)
        field = "webhook" if table.put is None else "put"
        try:
            if table.webhook is not None:
                targets.read_http(table.webhook, field)
                return JobSinks([], [ResultWebhook(table.webhook, own=True)])
            sink = OutputSink(table.put or "", table.output, table.headers, own=True)
            target = targets.read(sink.url, field)
            self.check("*", sink, target)
            field = "headers"
            self._check_headers(target, table.headers, field)
        except BridgeError as error:
            raise ConfigError(error.message.removeprefix(f"{field}: "), *place, field) from None
        return JobSinks([sink])

    @staticmethod
    def _check_headers(target: Target, headers: dict[str, str], field: str) -> None:
        if headers and not isinstance(target, HttpTarget):
            raise BadRequest(f"{field}: only with an http or https URL", field=field)
        targets.check_headers(headers, field)


def check_folder(folder: SinkFolder) -> None:
    """Raise ConfigError for a name template that may lead out of the folder, or for no folder."""
    try:
        targets.check_file(folder.file, "file")
    except BridgeError as error:
        problem = error.message.removeprefix("file: ")
        raise ConfigError(problem, "sink_folder", folder.name, "file") from None
    if is_there(folder.path.exists) and not is_there(folder.path.is_dir):
        problem = f"{in_quotes(str(folder.path))}: it is a file, not a folder"
        raise ConfigError(problem, "sink_folder", folder.name, "path")


def _once(given: list[T]) -> list[T]:
    """Return a list without repeated items."""
    found: list[T] = []
    for each in given:
        if each not in found:
            found.append(each)
    return found
