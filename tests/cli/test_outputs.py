"""The files of `-o`, the output of `get` and `show`, and commands that send nothing at all."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from bridge.cli import run as run_module
from bridge.client.testing import InMemoryBridge
from bridge.contract.errors import DeliveryFailed
from bridge.contract.messages import Output, Timings
from bridge.contract.messages import Result as Outcome
from bridge.contract.sinks import Delivered, Webhook
from tests.support.definitions import PNG

Cli = Callable[..., Result]


@pytest.mark.parametrize("name", ["barn.png", "there/barn.png"])
def test_a_name_with_an_extension_is_a_file(cli: Cli, name: str) -> None:
    ran = cli("run", "demo", "-o", name)
    assert ran.exit_code == 0, ran.stderr
    assert Path(name).read_bytes() == PNG
    assert ran.stdout == f"{Path(name).resolve()}\n"


@pytest.mark.parametrize("name", ["out", "out.d/", "there"])
def test_another_name_or_a_folder_that_is_there_is_a_folder(cli: Cli, name: str) -> None:
    Path("there").mkdir()
    assert cli("run", "demo", "--job-id", "j1", "-o", name).exit_code == 0
    assert Path(name, "demo-j1-0.png").read_bytes() == PNG


def test_a_dash_is_standard_output(cli: Cli) -> None:
    ran = cli("run", "demo", "-o", "-")
    assert (ran.exit_code, ran.stdout_bytes) == (0, PNG)


def test_several_outputs_in_one_file_are_numbered_and_in_a_pipe_refused(
    cli: Cli, bridge: InMemoryBridge
) -> None:
    bridge.outputs["demo"] = [("image/png", PNG), ("image/png", PNG)]
    assert cli("run", "demo", "-o", "a.png", "--job-id", "j1").exit_code == 0
    assert {each.name for each in Path().iterdir()} == {"a.png", "a-1.png"}
    told = cli("run", "demo", "-o", "-")
    assert (told.exit_code, "comfy2mqtt get" in told.stderr) == (1, True)


def test_a_file_named_jpg_gets_a_jpeg(cli: Cli, bridge: InMemoryBridge) -> None:
    ran = cli("run", "demo", "-o", "a.jpg")
    assert bridge.submitted[0].output == Output(format="jpeg")
    assert "a.jpg holds image/png" in ran.stderr  # the bridge in memory converts nothing


@pytest.mark.parametrize("name", ["file.txt/x.png", "file.txt/folder/", "/proc/none/x.png"])
def test_a_place_where_nothing_can_be_written_is_reported_before_the_job_is_sent(
    cli: Cli, bridge: InMemoryBridge, name: str
) -> None:
    Path("file.txt").write_text("")
    told = cli("run", "demo", "-o", name)
    assert (told.exit_code, bridge.submitted) == (2, [])
    assert "nothing can be written to" in told.stderr
    assert "nothing was sent" in told.stderr


def test_a_job_that_is_refused_leaves_no_folder(cli: Cli) -> None:
    assert cli("run", "none", "-o", "out").exit_code == 1
    assert not Path("out").exists()


def test_a_detached_job_is_got_later_by_the_beginning_of_its_id(
    cli: Cli, bridge: InMemoryBridge
) -> None:
    ran = cli("run", "demo", "--detach")
    job_id = ran.stdout.strip()
    assert [each.job_id for each in bridge.submitted] == [job_id]
    assert list(Path().iterdir()) == []
    got = cli("get", job_id[:8], "-o", "barn.png")
    assert got.exit_code == 0, got.stderr
    assert Path("barn.png").read_bytes() == PNG
    assert json.loads(cli("get", job_id[:8], "--json").stdout)["result"]["job_id"] == job_id


def test_a_job_that_has_not_ended_is_not_got_but_waited_for_if_asked(
    cli: Cli, bridge: InMemoryBridge
) -> None:
    bridge.held.add("demo")
    assert cli("run", "demo", "--detach", "--job-id", "j1").exit_code == 0
    told = cli("get", "j1")
    assert (told.exit_code, "has not ended: queued" in told.stderr) == (1, True)
    assert "--wait" in told.stderr
    bridge.finish("cli", "j1")
    assert cli("get", "j1", "--wait", "-o", "a.png").exit_code == 0


def test_all_about_a_job_is_shown(cli: Cli, bridge: InMemoryBridge) -> None:
    assert cli("run", "demo", "-i", "prompt=a barn", "--job-id", "job-1").exit_code == 0
    shown = cli("show", "job").stdout
    for part in ("job-1", "succeeded", "input prompt", "a barn", "image/png"):
        assert part in shown, shown
    assert json.loads(cli("show", "job-1", "--json").stdout)["state"] == "succeeded"
    assert cli("cancel", "job").stdout == "job-1: succeeded\n"
    assert cli("replay", "job", "-o", "again.png").exit_code == 0
    assert bridge.submitted[1].inputs == {"prompt": "a barn"}


def test_the_newest_jobs_come_first_and_older_ones_are_counted(
    cli: Cli, bridge: InMemoryBridge
) -> None:
    for number in range(3):
        assert cli("run", "demo", "--job-id", f"j{number}").exit_code == 0
    listed = cli("jobs", "--limit", "2")
    assert len(listed.stdout.splitlines()) == 3
    assert "and 1 older ones" in listed.stderr
    assert len(cli("jobs", "--all").stdout.splitlines()) == 4
    assert len(json.loads(cli("jobs", "--json").stdout)) == 3
    assert len(bridge.submitted) == 3


def test_nothing_is_sent_to_a_bridge_that_is_away(cli: Cli, bridge: InMemoryBridge) -> None:
    bridge.go_offline()
    told = cli("run", "demo")
    assert told.exit_code == 1
    assert "is offline: nothing was sent" in told.stderr
    assert "--wait" in told.stderr
    bridge.go_online()
    assert bridge.submitted == []


def test_a_request_that_nobody_answers_expires_and_is_taken_back(
    cli: Cli, bridge: InMemoryBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It says that it is there, and is not: as a bridge that hangs.
    monkeypatch.setattr(run_module, "ANSWER_S", 0.01)
    monkeypatch.setattr(run_module, "_TAKE_BACK_S", 0.01)
    retained = bridge.retained

    def as_if_online(pattern: str) -> list[tuple[str, bytes]]:
        return [(pattern, b"online")] if pattern == bridge.topics.state else retained(pattern)

    monkeypatch.setattr(bridge, "retained", as_if_online)
    bridge.go_offline()
    told = cli("run", "demo")
    assert (told.exit_code, "withdrawn" in told.stderr) == (1, True), told.stderr
    bridge.go_online()
    assert bridge.submitted == []


def test_sinks_go_with_a_request_and_what_became_of_them_is_reported(
    cli: Cli, bridge: InMemoryBridge, capsys: pytest.CaptureFixture[str]
) -> None:
    sinks = ("--put", "folder:photos", "--put", "mqtt:home/x", "--webhook", "https://h/done")
    ran = cli("run", "demo", *sinks, "--job-id", "j1")
    assert ran.exit_code == 0, ran.stderr
    (submitted,) = bridge.submitted
    assert [each.url for each in submitted.put or ()] == ["folder:photos", "mqtt:home/x"]
    assert submitted.webhook == Webhook(url="https://h/done")
    assert cli("run", "demo", *sinks, "--repeat", "2").exit_code == 0
    error = DeliveryFailed("the server answers 403 Forbidden").wire()
    delivered = [
        Delivered(output=0, url="folder:photos/j1-0.png"),
        Delivered(output=0, url="https://h/x", error=error),
    ]
    assert run_module._print_deliveries(result(delivered[:1])) == 0
    assert run_module._print_deliveries(result(delivered)) == 1
    told = capsys.readouterr().err
    assert "output 0 is at folder:photos/j1-0.png" in told
    assert "output 0 is not at https://h/x: the server answers 403 Forbidden" in told


def result(delivered: list[Delivered]) -> Outcome:
    return Outcome(
        job_id="j1",
        workflow="demo",
        n=1,
        state="succeeded",
        workflow_version="v1",
        timings=Timings(queued_s=0.0, load_s=0.0, run_s=0.0, deliver_s=0.0),
        attempts=1,
        delivered=delivered,
    )


def test_the_secret_of_a_clients_webhooks_is_the_same_each_time(cli: Cli, tmp_path: Path) -> None:
    first, again = (cli("webhook-secret", "alice", "--data", str(tmp_path)) for _ in range(2))
    assert first.exit_code == 0, first.stderr
    assert first.stdout == again.stdout
    assert first.stdout.startswith("whsec_")
    assert cli("webhook-secret", "bob", "--data", str(tmp_path)).stdout != first.stdout
    assert cli("webhook-secret", "a/b", "--data", str(tmp_path)).exit_code == 2
