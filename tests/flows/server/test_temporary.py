"""The Prefect server of a build that is given none: lost and started again, never left behind, past every proxy."""

import os
import re
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import yaml
from prefect.settings.models.server.ephemeral import ServerEphemeralSettings

from tailforge.flows.server.temporary import PATIENCE_S, start_patience
from tests.flows.conftest import Command, build
from tests.support.photographs import write_photographs
from tests.support.stopped_commands import Started, start_command
from tests.support.tiny_recipes import write_recipe
from tests.support.workers import ONE_THREAD, larger_recipe, made_samples

pytestmark = [pytest.mark.flow, pytest.mark.timeout(900)]
NO_SERVER = ONE_THREAD | {"PREFECT_API_URL": ""}
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY", "all_proxy")
NOWHERE = "http://127.0.0.1:9"


def find_servers(command: Started) -> list[psutil.Process]:
    """Prefect servers that a command started."""
    found = []
    for child in command.children():
        with suppress(psutil.Error):  # it has just ended
            found += [child] if "prefect.server.api.server:create_app" in child.cmdline() else []
    return found


def lose_server(command: Started) -> None:
    """SIGKILL to the server, when there is one."""
    command.wait_for(lambda: find_servers(command))
    find_servers(command)[0].kill()


@pytest.mark.slow
def test_a_build_goes_on_when_its_server_is_lost(tiny_recipe: Path, tmp_path: Path) -> None:
    larger_recipe(tiny_recipe)
    store = tmp_path / "store"
    command = start_command("build", tiny_recipe, "--store", store, env=NO_SERVER)
    command.wait_for(lambda: len(made_samples(store)) >= 1)
    lose_server(command)
    assert command.end() == 0, command.lines
    lost = [line for line in command.lines if "starting another one" in line]
    assert lost == ["the Prefect server of this command was lost (exit code -9); starting another one"]
    assert not command.said("Traceback")
    assert (store / "datasets" / "tiny" / "1.0.0" / "dataset.json").exists()


@pytest.mark.slow
def test_a_build_whose_servers_are_lost_again_and_again_ends(
    tiny_recipe: Path, tmp_path: Path, command: Command, prefect_server: str
) -> None:
    larger_recipe(tiny_recipe)
    store = tmp_path / "store"
    started = start_command("build", tiny_recipe, "--store", store, env=NO_SERVER)
    started.wait_for(lambda: len(made_samples(store)) >= 1)
    for count in range(4):
        started.wait_for(lambda count=count: sum("another one" in line for line in started.lines) == count)  # type: ignore[misc]
        lose_server(started)
    assert started.end() == 1
    assert started.lines[-1].startswith("error: the Prefect server of this command was lost ")
    assert ", 4 times; " in started.lines[-1]
    assert started.lines[-1].endswith("finished work is kept: run the same command to go on")
    assert not started.said("Traceback")
    kept = len(made_samples(store))
    assert build(command, tiny_recipe, store)["finished_before"]["samples"] >= kept >= 1


@pytest.mark.slow
@pytest.mark.parametrize("inside_build", [False, True])
def test_a_training_goes_on_when_its_server_is_lost(tiny_recipe: Path, tmp_path: Path, inside_build: bool) -> None:
    folder = tiny_recipe.parent
    write_photographs(folder / "photographs", {"gear": 9, "bench": 3}, size=(32, 32))
    learning = {"steps": 20, "batch": 4, "learning_rate": 1e-3, "threads": 1}
    training = {
        "images": {"folder": "photographs"},
        "learning": learning,
        "validation": {"every": 20, "images": 2, "steps": 2},
    }
    if inside_build:
        write_recipe(folder, generator={"base": "generator", "adapt": training})
        words = ["build", tiny_recipe, "--store", tmp_path / "store"]
    else:
        (folder / "train.yaml").write_text(
            yaml.safe_dump(training | {"kind": "generator", "name": "adapted", "base": {"model": "generator"}})
        )
        words = ["train", folder / "train.yaml", "--work", tmp_path / "work", "--models", tmp_path / "models"]

    command = start_command(*words, env=NO_SERVER)
    command.wait_for(lambda: any(tmp_path.rglob("latents.npy")))
    lose_server(command)
    children = command.children()
    assert command.end() == 0, command.lines
    lost = [line for line in command.lines if "starting another one" in line]
    assert lost == ["the Prefect server of this command was lost (exit code -9); starting another one"]
    assert not command.said("Traceback")
    assert psutil.wait_procs(children, timeout=30)[1] == []


@pytest.mark.slow
def test_a_killed_command_leaves_no_server(tiny_recipe: Path, tmp_path: Path) -> None:
    command = start_command("build", tiny_recipe, "--store", tmp_path / "store", env=NO_SERVER)
    command.wait_for(lambda: command.said("prompts"))  # the flow runs
    servers = find_servers(command)
    command.process.kill()
    command.end()
    assert len(servers) == 1
    assert psutil.wait_procs(servers, timeout=30)[1] == []


@pytest.mark.slow
@pytest.mark.parametrize("known", ["", "example.org"])
def test_loopback_goes_past_a_proxy(tiny_recipe: Path, tmp_path: Path, known: str) -> None:
    """Both to the server that the build starts and to that of a user."""
    env = dict.fromkeys(PROXIES, NOWHERE) | {"NO_PROXY": known, "no_proxy": known}
    command = start_command("build", tiny_recipe, "--store", tmp_path / "store", env=NO_SERVER | env)
    assert command.end() == 0, command.lines


@pytest.mark.slow
def test_a_users_server_on_loopback_goes_past_a_proxy(tiny_recipe: Path, tmp_path: Path, prefect_server: str) -> None:
    env = dict.fromkeys(PROXIES, NOWHERE)
    words = ["--runner", "processes", "--devices", "cpu:0"]
    leases = {"TAILFORGE_LEASES": str(tmp_path / "leases"), "PREFECT_API_URL": prefect_server}
    command = start_command("build", tiny_recipe, "--store", tmp_path / "store", *words, env=ONE_THREAD | env | leases)
    assert command.end() == 0, command.lines


@pytest.mark.slow
def test_a_server_that_does_not_answer_is_named_at_once(tiny_recipe: Path, tmp_path: Path) -> None:
    address = {"PREFECT_API_URL": f"{NOWHERE}/api"}
    command = start_command("build", tiny_recipe, "--store", tmp_path / "store", env=ONE_THREAD | address)
    assert command.end() == 1
    assert command.lines[-1].startswith(f"error: the Prefect server at {NOWHERE}/api does not answer: ")
    assert "start it, or correct or unset PREFECT_API_URL" in command.lines[-1]
    assert [line for line in command.lines if not line.startswith("at work on ")] == command.lines[-1:]


@pytest.mark.slow
def test_a_home_that_cannot_be_written_is_named(tiny_recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    home = {"PREFECT_HOME": str(tmp_path / "file" / "home")}
    command = start_command("build", tiny_recipe, "--store", tmp_path / "store", env=NO_SERVER | home)
    assert command.end() == 1, command.lines
    assert command.lines[-1].startswith(f"error: PREFECT_HOME {home['PREFECT_HOME']} cannot be written: ")
    assert "set PREFECT_HOME to a folder that you can write" in command.lines[-1]
    assert not command.said("Traceback")


@pytest.mark.slow
def test_two_commands_at_once_prepare_one_new_home(tiny_recipe: Path, tmp_path: Path) -> None:
    """Both servers find a database without tables."""
    home = {"PREFECT_HOME": str(tmp_path / "home")}
    stores = [tmp_path / "one", tmp_path / "two"]
    commands = [start_command("build", tiny_recipe, "--store", store, env=NO_SERVER | home) for store in stores]
    assert [command.end() for command in commands] == [0, 0], [command.lines for command in commands]
    assert not any(command.said("was lost") for command in commands)
    assert all((store / "datasets" / "tiny" / "1.0.0" / "dataset.json").exists() for store in stores)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("database", "patience", "why"),
    [
        (b"no database" * 100, "180", r"it ended \(exit code 3\) after \d+ s: .*\bfile is not a database"),
        (b"", "1", r"it did not answer in \d s"),
    ],
)
def test_a_server_that_does_not_start_says_why(
    tiny_recipe: Path, tmp_path: Path, database: bytes, patience: str, why: str
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "prefect.db").write_bytes(database)
    env = {"PREFECT_HOME": str(home), "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": patience}
    command = start_command("build", tiny_recipe, "--store", tmp_path / "store", env=NO_SERVER | env)
    assert command.end() == 1
    start = re.escape(f"error: no Prefect server could be started in PREFECT_HOME {home}: ")
    assert re.match(f"{start}{why}; repair that, or set PREFECT_API_URL", command.lines[-1]), command.lines
    assert not command.said("Traceback")


def test_a_busy_machine_has_time_to_start_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also for a program that calls the build itself, and so has no defaults of the command line."""
    name = "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS"
    monkeypatch.delenv(name)
    assert start_patience(ServerEphemeralSettings()) == PATIENCE_S
    monkeypatch.setenv(name, "20")
    assert start_patience(ServerEphemeralSettings()) == 20


@pytest.mark.slow
@pytest.mark.parametrize("state", ["XDG_STATE_HOME", "HOME"])
def test_a_state_folder_that_cannot_be_made_is_replaced(tiny_recipe: Path, tmp_path: Path, state: str) -> None:
    (tmp_path / "file").write_text("")
    env = {"XDG_STATE_HOME": "", "PREFECT_HOME": "", "TMPDIR": str(tmp_path)} | {state: str(tmp_path / "file")}
    command = start_command("build", tiny_recipe, "--store", tmp_path / "store", env=NO_SERVER | env)
    assert command.end() == 0, command.lines
    assert (tmp_path / f"tailforge-{os.getuid()}/prefect/prefect.db").exists()
