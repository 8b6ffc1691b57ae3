"""The owners of hooks and GPUs by the settings. Pure, except that it resolves host names."""

from __future__ import annotations

from bridge.config import Config, ConfigError
from bridge.hooks.machine import Rules


def rules_of(config: Config) -> list[Rules]:
    """Return each hook's rules, in the order of the settings. Raises ConfigError."""
    known = [each.name for each in config.comfyuis]
    found = []
    for hook in config.hook:
        for name in hook.comfyui:
            if name not in known:
                raise ConfigError(
                    f"hook {hook.name!r}: comfyui: there is no {name!r}; expected some of "
                    f"{', '.join(known)}"
                )
        names = frozenset(config.on_the_wire(name) for name in hook.comfyui or known)
        found.append(Rules(hook.name, names, hook.idle_s, waits=hook.on_error == "wait"))
    return found


def gpus_of(config: Config) -> dict[str, list[str]]:
    """Return the ComfyUIs on each GPU that has a name, both by their names on the wire."""
    found: dict[str, list[str]] = {}
    for each in config.comfyuis:
        if each.gpu is not None:
            found.setdefault(config.on_the_wire(each.gpu), []).append(config.instance_name(each))
    return found


def check_warm(config: Config) -> None:
    """Check that nothing is kept loaded on a GPU that is shared. Raises ConfigError."""
    hooked = set[str]().union(*(each.instances for each in rules_of(config)))
    for each in config.comfyuis:
        shared = each.gpu is not None or config.instance_name(each) in hooked
        if each.warm is not None and shared:
            raise ConfigError(
                f"comfyui {each.name!r}: warm: not with a gpu or a hook: its GPU is given back "
                "when nothing waits"
            )
