"""Completes what only a broker knows, such as the names of jobs."""

from __future__ import annotations

from collections.abc import Callable

import click
from click.shell_completion import CompletionItem


def complete(
    what: str,
) -> Callable[[click.Context, click.Parameter, str], list[CompletionItem]]:
    """Return a completer that asks the broker, a function of `bridge.cli.completion`."""

    def offer(
        context: click.Context, parameter: click.Parameter, begun: str
    ) -> list[CompletionItem]:
        from bridge.cli import completion

        found: list[CompletionItem] = getattr(completion, what)(context, parameter, begun)
        return found

    return offer
