"""Commands that are stopped end at once, with one line, leave no process behind, and go on when given again."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tailforge.catalog.store import Store
from tests.flows.conftest import Command, build
from tests.support.stopped_commands import ROOT, STOPPED, require_stopped, start_command
from tests.support.workers import end_build, larger_recipe, made_samples, start_build

pytestmark = [pytest.mark.flow, pytest.mark.timeout(900)]

HEAR = "from tailforge.flows.terminal.stopping import hear_signals"
INT, TERM = signal.SIGINT, signal.SIGTERM


def temporaries(store: Path) -> list[Path]:
    return [path for path in store.rglob(".tmp-*") if path.exists()]


@pytest.mark.parametrize("number", [INT, TERM, signal.SIGHUP])
def test_a_command_is_stopped_while_it_begins(tiny_recipe: Path, tmp_path: Path, number: signal.Signals) -> None:
    command = start_command("build", tiny_recipe, "--store", tmp_path / "store")
    maps = Path(f"/proc/{command.process.pid}/maps")
    command.wait_for(lambda: "_pydantic_core" in maps.read_text())  # the first library of many
    require_stopped(command, number)


@pytest.mark.slow
def test_a_build_is_stopped_while_its_server_starts(tiny_recipe: Path, tmp_path: Path) -> None:
    command = start_command("build", tiny_recipe, "--store", tmp_path / "store", env={"PREFECT_API_URL": ""})
    command.wait_for(command.children)
    require_stopped(command, INT, group=True)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "group", "twice"), [(INT, True, False), (TERM, False, False), (INT, True, True)])
def test_a_build_is_stopped_while_it_draws_and_goes_on(
    tiny_recipe: Path, tmp_path: Path, command: Command, prefect_server: str, number: signal.Signals, group: bool,
    twice: bool,
) -> None:  # fmt: skip
    larger_recipe(tiny_recipe)
    store = tmp_path / "store"
    started = start_command("build", tiny_recipe, "--store", store, env={"PREFECT_API_URL": ""})
    started.wait_for(lambda: len(made_samples(store)) >= 2)
    require_stopped(started, number, group=group, twice=twice)
    assert not temporaries(store)
    kept = len(made_samples(store))
    made = build(command, tiny_recipe, store)
    assert made["finished_before"]["samples"] >= kept
    assert made["new"]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_build_is_stopped_while_it_publishes(tiny_recipe: Path, tmp_path: Path, prefect_server: str) -> None:
    """As often as it takes to meet the moment; a version is there whole or not at all."""
    store, met = tmp_path / "store", False
    versions = store / "datasets" / "tiny"
    for _ in range(8):
        started = start_command("build", tiny_recipe, "--store", store)
        started.wait_for(lambda: list(versions.glob(".tmp-*/*")) or (versions / "1.0.0").exists())
        require_stopped(started, TERM)
        assert not temporaries(store)
        if met := not (versions / "1.0.0").exists():
            break
        assert (versions / "1.0.0" / "dataset.json").exists()
        shutil.rmtree(versions)  # it was too late: the next try publishes again what is finished
    assert met
    code, _, err = end_build(start_build(tiny_recipe, store))
    assert code == 0, err
    assert (versions / "1.0.0" / "dataset.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("number", [INT, TERM])
def test_a_build_on_processes_leaves_no_worker(
    tiny_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    monkeypatch.setenv("TAILFORGE_LEASES", str(tmp_path / "leases"))
    larger_recipe(tiny_recipe)
    store, words = tmp_path / "store", ["--runner", "processes", "--devices", "cpu:0,cpu:1"]
    started = start_command("build", tiny_recipe, "--store", store, *words)
    started.wait_for(lambda: len(made_samples(store)) >= 1)
    assert len([child for child in started.children() if "multiprocessing.spawn" in " ".join(child.cmdline())]) == 2
    require_stopped(started, number, group=True)


def test_a_signal_that_is_ignored_stays_ignored(tmp_path: Path) -> None:
    code = f"import signal; {HEAR}\nwith hear_signals(): signal.raise_signal(1)"
    words = [sys.executable, "-c", code]
    ignored = subprocess.run(words, cwd=ROOT, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    assert ignored.returncode == 0
    assert subprocess.run(words, cwd=ROOT, stderr=subprocess.DEVNULL).returncode == 129


def test_a_signal_is_heard_while_the_library_is_imported_that_finds_children() -> None:
    # A module that is being imported is known to Python, and lacks what is further down in it.
    half = "import signal, sys, types; sys.modules['psutil'] = types.ModuleType('psutil')"
    code = f"{half}\n{HEAR}\nwith hear_signals(): signal.raise_signal(15)"
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    assert (ended.returncode, ended.stderr) == (143, f"{STOPPED}\n")


@pytest.mark.parametrize("words", [["list"], ["list", "--json"], ["--help"]])
def test_a_reader_that_goes_away_ends_a_command_quietly(tmp_path: Path, words: list[str]) -> None:
    Store.open(str(tmp_path / "store"), create=True)
    reading, writing = os.pipe()
    os.close(reading)
    program = [sys.executable, "-m", "tailforge", *words]
    env = os.environ | {"TAILFORGE_STORE": str(tmp_path / "store")}
    ended = subprocess.run(program, cwd=ROOT, env=env, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (141, "")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "closed", "code"),
    [
        (["plan", "workshop"], "2>&-", 0),
        (["plan", "workshop"], ">&- 2>&- <&-", 0),
        (["list"], "2>&-", 2),
        (["list", "--no-such"], "2>&-", 2),
    ],
)
def test_a_closed_stream_is_passed_over(tmp_path: Path, words: list[str], closed: str, code: int) -> None:
    program = f"{sys.executable} -m tailforge.flows.cli.main {' '.join(words)} --store {tmp_path}/store {closed}"
    ended = subprocess.run(program, shell=True, cwd=ROOT, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (code, "")
    assert ("gear" in ended.stdout) == (closed == "2>&-" and code == 0)


@pytest.mark.slow
def test_a_build_whose_lines_nobody_reads_ends_quietly(tiny_recipe: Path, tmp_path: Path, prefect_server: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    program = [sys.executable, "-m", "tailforge", "build", str(tiny_recipe), "--store", str(tmp_path / "store")]
    ended = subprocess.run(program, cwd=ROOT, stdout=writing, stderr=writing, timeout=400)
    os.close(writing)
    assert ended.returncode == 141


@pytest.mark.slow
def test_a_users_server_is_told_that_a_run_was_stopped(tiny_recipe: Path, tmp_path: Path, prefect_server: str) -> None:
    from prefect.client.orchestration import get_client

    larger_recipe(tiny_recipe)
    started = start_command("build", tiny_recipe, "--store", tmp_path / "store")
    started.wait_for(lambda: made_samples(tmp_path / "store"))
    with get_client(sync_client=True) as client:
        running = {run.id for run in client.read_flow_runs() if run.state is not None and run.state.is_running()}
        require_stopped(started, TERM)
        states = [client.read_flow_run(run).state for run in running]
    assert [state.name for state in states if state is not None and "stopped" in (state.message or "")] == ["Cancelled"]
