"""The command line: `comfy2mqtt COMMAND`.

Exit status: 0 done; 1 it failed, or was refused; 2 wrong usage or settings; 3 no broker;
130 interrupted. What a command found is on standard output, its progress on standard error. A
command imports what it needs when it runs, so that each starts fast.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import click
import msgspec
from click.shell_completion import CompletionItem

from bridge import __version__, config, logs
from bridge.cli.comfyui import comfyui
from bridge.cli.options import Commands
from bridge.cli.shared import (
    CLIENT_SETTINGS,
    DOCTOR_SETTINGS,
    FAILED,
    KEY_SETTINGS,
    WEB_SETTINGS,
    WRONG_USAGE,
    as_client,
    as_json,
    client_name,
    run_async,
    settings,
    stop,
)
from bridge.cli.values import PORT, SECONDS
from bridge.config import FILE, Config
from bridge.contract.access import ROLES, Role
from bridge.contract.broker_files import BROKERS, Broker
from bridge.contract.messages import State

# So many jobs fit on a screen.
_JOBS_SHOWN = 20


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


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="comfy2mqtt")
def main() -> None:
    """Run ComfyUI workflows over MQTT: requests in, progress and pictures out."""


@main.command()
@settings(*config.TYPES)
def serve(settings: Config) -> None:
    """Run the bridge until Ctrl-C."""
    from bridge.cli import serve as command

    try:
        config.check(settings)
    except config.ConfigError as error:
        stop(str(error), WRONG_USAGE)
    logs.set_up(settings.log_level, settings.log_format, settings.secrets)
    command.warn_of_unknown(os.environ)
    reason = command.serve(settings)
    if reason is not None:
        stop(reason, FAILED)


_OUTPUT = click.option(
    *("-o", "--output", "output"),
    default=".",
    metavar="FOLDER|FILE|-",
    help="Where to save its outputs: a folder, a file, or - for standard output."
    "  [default: the working folder]",
)
_SHOW = click.option(
    "--show/--no-show", default=None, help="Show pictures in the terminal; by default if it can."
)


def _job_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options of a command that runs a job and saves its outputs."""
    options = (
        click.option(
            *("-i", "--input", "inputs"),
            multiple=True,
            metavar="NAME=VALUE",
            shell_complete=complete("inputs"),
            help="An input; NAME=@FILE for media. May be given several times.",
        ),
        _OUTPUT,
        click.option(
            "--job-id",
            metavar="ID",
            help="The job's id; the same id never runs twice.",
        ),
        click.option(
            "--timeout", "timeout_s", type=SECONDS, metavar="SECONDS", help="How long it may run."
        ),
        click.option(
            *("--put", "puts"),
            multiple=True,
            metavar="URL",
            help="Also deliver the outputs to this URL; may be given several times.",
        ),
        click.option("--webhook", metavar="URL", help="Send the signed result to this URL."),
        click.option(
            "-d", "--detach", is_flag=True, help="Print the job's id and exit; `get` saves it."
        ),
        click.option("--wait", is_flag=True, help="Wait until the bridge is online."),
        _SHOW,
        as_json,
        settings(*CLIENT_SETTINGS),
        as_client,
    )
    for option in reversed(options):
        function = option(function)
    return function


@main.command()
@click.argument("workflow", shell_complete=complete("workflows"))
@click.option(
    "--each",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="A job for each line: a CSV with the inputs' names first, or JSON Lines.",
)
@click.option(
    "--grid",
    multiple=True,
    metavar="NAME=VALUES",
    help="A job for every combination: A,B,C or 1..9:2 or seeds:4; may be given several times.",
)
@click.option("--repeat", type=click.IntRange(1), help="How many jobs, each with a random seed.")
@click.option(
    "--collect",
    multiple=True,
    type=click.Choice(["sheet", "animation", "zip"]),
    help="Also save what the set makes of all its pictures; may be given several times.",
)
@_job_options
def run(*, workflow: str, settings: Config, client: str | None, **wanted: Any) -> None:
    """Run WORKFLOW, show its progress, and save its outputs.

    comfy2mqtt run demo -i prompt='a red barn' -o barn.png

    With --each, --grid or --repeat it is a set of jobs, with one bar; --job-id names the set.
    """
    from bridge.cli.run import Wanted, run_job

    run_async(run_job(settings, client_name(client, settings), workflow, Wanted(**wanted)))


@main.command()
@click.argument("job", shell_complete=complete("jobs"))
@_job_options
def replay(*, job: str, settings: Config, client: str | None, **wanted: Any) -> None:
    """Run a JOB again with the same version, inputs and seeds; -i changes some."""
    from bridge.cli import run

    work = run.replay(settings, client_name(client, settings), job, run.Wanted(**wanted))
    run_async(work)


@main.command()
@click.argument("job", shell_complete=complete("jobs"))
@_OUTPUT
@click.option(
    "--wait", is_flag=True, help="Wait until the job ends, and until the bridge is online."
)
@click.option(
    "--set", "of_set", is_flag=True, help="JOB is the id of a set: save all of it in a folder."
)
@_SHOW
@as_json
@settings(*CLIENT_SETTINGS)
@as_client
def get(*, job: str, settings: Config, client: str | None, **wanted: Any) -> None:
    """Save the outputs of a JOB that has ended, or of a whole set and what it has collected.

    A job's id may be shortened to what is unique.
    """
    from bridge.cli.run import Wanted
    from bridge.cli.run import get as command

    run_async(command(settings, client_name(client, settings), job, Wanted(**wanted)))


@main.command("webhook-secret")
@click.argument("of", metavar="CLIENT")
@settings("data", "webhook_key_file")
def webhook_secret(*, of: str, settings: Config) -> None:
    """Print the secret by which a receiver checks the webhooks of a CLIENT.

    On the bridge's machine: it is made of a key in the data folder.
    """
    from bridge.cli.keys import show_webhook_secret

    show_webhook_secret(settings, of)


@main.command("show")
@click.argument("job", shell_complete=complete("jobs"))
@click.option("--set", "of_set", is_flag=True, help="JOB is the id of a set.")
@as_json
@settings(*CLIENT_SETTINGS)
@as_client
def show_one(
    *, job: str, of_set: bool, as_json: bool, settings: Config, client: str | None
) -> None:
    """Show a JOB: its state, inputs, outputs and error; or a whole set.

    A job's id may be shortened to what is unique.
    """
    from bridge.cli.show import show_job

    name = client_name(client, settings)
    run_async(show_job(settings, name, job, of_set=of_set, as_json=as_json))


@main.command()
@click.argument(
    "words", nargs=-1, metavar="[describe] [NAME]", shell_complete=complete("workflows")
)
@as_json
@settings(*CLIENT_SETTINGS)
@as_client
def workflows(
    *, words: tuple[str, ...], as_json: bool, settings: Config, client: str | None
) -> None:
    """List the workflows, or show the inputs and outputs of one.

    `describe NAME` drafts a sidecar for it: what it says can be changed, and saved as NAME.toml.
    """
    from bridge.cli.describe import describe
    from bridge.cli.show import show_workflows

    name = client_name(client, settings)
    match words:
        case ("describe", workflow):
            run_async(describe(settings, name, workflow))
        case () | (_,):
            only = words[0] if words else None
            run_async(show_workflows(settings, name, only, as_json=as_json))
    stop("workflows: expected nothing, NAME or describe NAME", WRONG_USAGE)


@main.command()
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path))
@click.option(
    "--object-info",
    "saved",
    type=click.Path(path_type=Path),
    help="A saved answer to ComfyUI's /object_info; then no ComfyUI is needed.",
)
@settings("comfyui_url", "comfyui_secret", "data")
def convert(path: Path, saved: Path | None, settings: Config) -> None:
    """Print a workflow FILE, also of ComfyUI's page or a picture, in API format."""
    from bridge.cli.convert import convert_file

    run_async(convert_file(settings, path, saved))


@main.command()
@click.option(
    *("--state", "states"),
    multiple=True,
    type=click.Choice(get_args(State)),
    help="Only jobs in this state; may be given several times.",
)
@click.option(
    "--limit",
    type=click.IntRange(1),
    metavar="NUMBER",
    help=f"How many to show.  [default: {_JOBS_SHOWN}; with --json all]",
)
@click.option("--all", "every", is_flag=True, help="Show all.")
@as_json
@settings(*CLIENT_SETTINGS)
@as_client
def jobs(
    *,
    states: tuple[State, ...],
    limit: int | None,
    every: bool,
    as_json: bool,
    settings: Config,
    client: str | None,
) -> None:
    """List this client's jobs, the newest first."""
    from bridge.cli.show import show_jobs

    if every and limit is not None:
        stop("--all and --limit: give one of them", WRONG_USAGE)
    if limit is None and not (every or as_json):
        limit = _JOBS_SHOWN
    name = client_name(client, settings)
    run_async(show_jobs(settings, name, list(states), limit=limit, as_json=as_json))


@main.command()
@click.argument("job", shell_complete=complete("jobs"))
@click.option("--set", "of_set", is_flag=True, help="JOB is the id of a set: cancel all of it.")
@as_json
@settings(*CLIENT_SETTINGS)
@as_client
def cancel(*, job: str, of_set: bool, as_json: bool, settings: Config, client: str | None) -> None:
    """Cancel a JOB of this client, or a whole set.

    A job's id may be shortened to what is unique.
    """
    from bridge.cli.show import cancel_job

    name = client_name(client, settings)
    run_async(cancel_job(settings, name, job, of_set=of_set, as_json=as_json))


@main.command()
@click.argument("filters", nargs=-1, metavar="[FILTER]...")
@click.option("--count", default=0, help="Exit after this number of messages.")
@as_json
@settings(*CLIENT_SETTINGS)
def watch(*, filters: tuple[str, ...], count: int, as_json: bool, settings: Config) -> None:
    """Show the messages below the base topic as they arrive, a line for each.

    FILTERs say which, such as `client/me/#` or `bridge/+`.
    """
    from bridge.cli.watch import watch as command

    run_async(command(settings, filters, as_json=as_json, count=count))


@main.command("logs")
@click.option("--count", default=0, help="Exit after this number of lines.")
@as_json
@settings(*CLIENT_SETTINGS)
def show_logs(*, count: int, as_json: bool, settings: Config) -> None:
    """Show the warnings and events of a running bridge as they arrive."""
    from bridge.cli.watch import logs as command

    run_async(command(settings, as_json=as_json, count=count))


@main.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script for a SHELL's tab completion.

    bash: eval "$(comfy2mqtt completion bash)", in ~/.bashrc; zsh and fish alike.
    """
    from bridge.cli.completion import script

    click.echo(script(main, shell))


# `doctor --journal` without the setting's value; no address is like it.
_KEPT = "(what is kept)"


main.add_command(comfyui)


@main.command()
@click.argument(
    "verb", type=click.Choice(["list", "pause", "resume", "clear", "release"]), default="list"
)
@click.option("--of", "client", metavar="CLIENT", help="list, clear: only this client's jobs.")
@as_json
@settings(*CLIENT_SETTINGS)
def queue(*, verb: str, client: str | None, as_json: bool, settings: Config) -> None:
    """Show the queue of a running bridge, pause or resume it, or clear what has not started.

    `release` allows the prompts again that were refused because they had ended a ComfyUI twice.
    """
    from bridge.cli.operate import give

    if client is not None and verb not in ("list", "clear"):
        stop("--of: only with list and clear", WRONG_USAGE)
    fields = {} if client is None else {"client": client}
    run_async(give(settings, f"queue/{verb}", fields, as_json=as_json))


@main.command()
@click.argument("target", metavar="FILE", type=click.Path(path_type=Path))
@settings("data", "journal", "websocket_keys", "link_key_file")
def backup(target: Path, settings: Config) -> None:
    """Write the bridge's data into FILE (a tar), also while it runs."""
    from bridge.cli.backup import back_up_to

    run_async(back_up_to(settings, target))


@main.command()
@click.option("--http", metavar="HOST:PORT", help="Serve streamable HTTP at /mcp, not stdio.")
@click.option(
    "--token", envvar="MCP_TOKEN", help="The token that agents send over HTTP.  [MCP_TOKEN]"
)
@settings(*CLIENT_SETTINGS)
@as_client
def mcp(*, http: str | None, token: str | None, settings: Config, client: str | None) -> None:
    """Serve agents by the Model Context Protocol: each workflow is a tool.

    comfy2mqtt mcp --client agent
    """
    from bridge.cli.mcp import serve_agents

    logs.set_up("warning", "text")
    run_async(serve_agents(settings, client_name(client, settings), http, token))


@main.command()
@click.argument("source", metavar="[FILE]", type=click.Path(path_type=Path), required=False)
@settings("data", "journal", "websocket_keys", "link_key_file")
def restore(source: Path | None, settings: Config) -> None:
    """Restore a backup FILE, into a data folder without a journal.

    Jobs that had not ended at the backup are lost: they do not run again.
    """
    from bridge.cli.backup import restore_from

    run_async(restore_from(settings, source))


@main.command()
@settings(*config.TYPES, shown=WEB_SETTINGS)
def websocket(settings: Config) -> None:
    """Run the web adapter alone, at any broker, until Ctrl-C."""
    from bridge.cli import serve as command

    try:
        config.check_websocket(settings)
    except config.ConfigError as error:
        stop(str(error), WRONG_USAGE)
    logs.set_up(settings.log_level, settings.log_format, settings.secrets)
    command.warn_of_unknown(os.environ)
    reason = command.serve_web(settings)
    if reason is not None:
        stop(reason, FAILED)


@main.group(cls=Commands)
def keys() -> None:
    """Manage the keys of the web adapter: each identifies a client."""


@keys.command("add")
@click.argument("client")
@click.option("--name", default="", help="A name for the key, such as that of the device.")
@settings(*KEY_SETTINGS)
def add_key(client: str, name: str, settings: Config) -> None:
    """Create a key for CLIENT, and print it: it cannot be shown again."""
    from bridge.cli.keys import add

    add(settings, client, name)


@keys.command("list")
@settings(*KEY_SETTINGS)
def list_keys(settings: Config) -> None:
    """List the keys: the id and the client of each, not the key itself."""
    from bridge.cli.keys import show

    show(settings)


@keys.command("revoke")
@click.argument("key_id", metavar="ID")
@settings(*KEY_SETTINGS)
def revoke_key(key_id: str, settings: Config) -> None:
    """Revoke a key; its connections are closed within seconds."""
    from bridge.cli.keys import revoke

    revoke(settings, key_id)


@main.command()
@click.option(
    "--journal",
    metavar="[URL]",
    is_flag=False,
    flag_value=_KEPT,
    help="Without a URL: only check the stored data, and repair it; with one: the setting"
    " `journal`.  [COMFY2MQTT_JOURNAL]",
)
@as_json
@settings(*DOCTOR_SETTINGS)
def doctor(*, journal: str | None, as_json: bool, settings: Config) -> None:
    """Check the broker, ComfyUI, its nodes and the workflows, and print what to do.

    It checks all settings in the file and in COMFY2MQTT_ variables; flags override some.
    """
    if journal == _KEPT:
        from bridge.cli.journal import examine_journal

        run_async(examine_journal(settings, as_json=as_json))
    from bridge.cli.doctor import examine

    if journal is not None:
        settings = msgspec.structs.replace(settings, journal=journal)
    run_async(examine(settings, as_json=as_json))


@main.command()
@click.option(
    "--write",
    "folder",
    type=click.Path(path_type=Path),
    help="Write it into this folder, with a page and JSON Schemas.",
)
@click.option("--check", is_flag=True, help="Only report whether the folder is up to date.")
def asyncapi(*, folder: Path | None, check: bool) -> None:
    """Print the topics and messages as an AsyncAPI 3 document."""
    from bridge.cli import documents

    if folder is not None and check:
        stale = documents.stale(folder)
        if stale:
            stop(f"{folder}: not up to date with this code: {', '.join(stale)}", FAILED)
    elif folder is None:
        documents.print_document()
    else:
        documents.write(folder)


@main.command()
@click.option(
    "--file",
    default=FILE,
    show_default=True,
    type=click.Path(path_type=Path),
    help="The settings file to write.",
)
@click.option("--overwrite", is_flag=True, help="Replace an existing file.")
def init(*, file: Path, overwrite: bool) -> None:
    """Ask five questions, write a settings file, and test it."""
    from bridge.cli.init import try_settings, write_settings

    write_settings(file, overwrite=overwrite)
    run_async(try_settings(file))


@main.command()
@click.option("--once", is_flag=True, help="Exit after one picture.")
@click.option(
    *("-o", "--output", "folder"),
    default=".",
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    help="Where to save the picture.  [default: the working folder]",
)
@settings("workflows")
def demo(*, once: bool, folder: Path, settings: Config) -> None:
    """Start a broker, a bridge and a ComfyUI, and paint one picture."""
    from bridge.cli.demo import demo as run_demo

    run_async(run_demo(settings.workflows, folder, once=once))


@main.group(cls=Commands)
def mosquitto() -> None:
    """Write files for a mosquitto that keeps each user to its own topics."""


_FOLDER = click.option(
    "--folder",
    default="/etc/mosquitto/conf.d",
    show_default=True,
    type=click.Path(path_type=Path),
    help="The folder of the broker's settings.",
)


@mosquitto.command("setup")
@_FOLDER
@click.option(
    *("--port",), default=1883, type=PORT, show_default=True, help="Listen on this machine only."
)
@click.option(*("--tls-port",), default=8883, type=PORT, show_default=True, help="On the network.")
@click.option(
    "--certificate",
    type=click.Path(path_type=Path),
    help="A certificate, PEM; with --key the broker uses TLS.",
)
@click.option("--key", type=click.Path(path_type=Path), help="The certificate's, PEM.")
@settings("base_topic")
def mosquitto_setup(
    *,
    folder: Path,
    port: int,
    tls_port: int,
    certificate: Path | None,
    key: Path | None,
    settings: Config,
) -> None:
    """Write the broker's settings, ACL and users; existing files stay unchanged."""
    from bridge.cli.mosquitto import BrokerListeners, set_up

    listeners = BrokerListeners(port, tls_port, certificate, key)
    run_async(set_up(settings, folder, listeners))


@mosquitto.command("add-user")
@click.argument("name")
@_FOLDER
@click.option("--role", type=click.Choice(ROLES), help="Without a role the user is only a client.")
@click.option(
    "--password-stdin", is_flag=True, help="Read the password instead of choosing a random one."
)
@settings("base_topic")
def mosquitto_add_user(
    *, name: str, folder: Path, role: Role | None, password_stdin: bool, settings: Config
) -> None:
    """Add a user: the client NAME, with the rights of a role. Run again, it sets a new password."""
    from bridge.cli.mosquitto import add_user

    run_async(add_user(settings, folder, name, role, given=password_stdin))


@main.command("broker-files")
@click.argument("broker", type=click.Choice(tuple(BROKERS)))
@click.option("--toml", is_flag=True, help="Print the bridge's settings for BROKER instead.")
@settings("base_topic")
def broker_files(*, broker: Broker, toml: bool, settings: Config) -> None:
    """Print who may use which topic as a file for BROKER; for mosquitto: `mosquitto setup`."""
    from bridge.cli.mosquitto import print_file

    print_file(settings, broker, toml=toml)


@main.group(cls=Commands)
def models() -> None:
    """Fetch models that workflows need."""


@models.command("get")
@click.argument("workflow")
@click.option(
    "--to",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="ComfyUI's folder of models; by default that of the ComfyUI which the bridge starts.",
)
@settings(
    *("data", "workflows", "comfyui_url", "comfyui_path", "comfyui_args", "comfyui"),
    *("journal", "member", "model_hosts"),
)
def get_models(*, workflow: str, to: Path | None, settings: Config) -> None:
    """Fetch the missing models of a WORKFLOW from the URLs in its file: https, only model_hosts."""
    from bridge.cli.models import get as command

    run_async(command(settings, workflow, to))


main.sections = {
    "Run jobs": ("run", "get", "show", "jobs", "cancel", "replay", "workflows", "mcp"),
    "Operate a bridge": (
        *("serve", "doctor", "queue", "comfyui", "watch", "logs", "keys", "backup", "restore"),
        *("websocket", "webhook-secret"),
    ),
    "Set up": (
        *("init", "demo", "models", "mosquitto", "broker-files", "completion", "convert"),
        "asyncapi",
    ),
}
