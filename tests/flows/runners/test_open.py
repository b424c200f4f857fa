"""Worker processes: equal bytes, a lost worker, devices that one build has at a time."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tailforge.flows.runners.device_leases import lease_devices, take_device
from tailforge.schemas.errors import DeviceError, UserError
from tests.flows.conftest import Command
from tests.support.workers import (
    ROOT,
    count_loads,
    end_build,
    larger_recipe,
    made_samples,
    published,
    start_build,
    wait_for,
)

HOLD = """
import sys
from tailforge.flows.runners.device_leases import lease_devices
with lease_devices(sys.argv[1:], None, "build other"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def _leases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leases of these tests alone: other builds of the machine have theirs."""
    monkeypatch.setenv("TAILFORGE_LEASES", str(tmp_path / "leases"))


def hold(*devices: str) -> subprocess.Popen[str]:
    """A process that has these devices until it is killed."""
    command = [sys.executable, "-c", HOLD, *devices]
    holder = subprocess.Popen(command, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    return holder


def end(holder: subprocess.Popen[str]) -> None:
    holder.kill()
    holder.communicate()


def worker_pids(build: subprocess.Popen[str]) -> list[int]:
    """Processes of the build's pool; `spawn` names them so."""
    children = psutil.Process(build.pid).children()
    return [child.pid for child in children if "multiprocessing.spawn" in " ".join(child.cmdline())]


def test_a_device_belongs_to_one_build_until_its_process_ends() -> None:
    holder = hold("cpu:0")
    try:
        with pytest.raises(DeviceError, match=rf"device cpu:0 belongs to process {holder.pid} \(build other, since"):
            lease_devices(["cpu:0", "cpu:1"], None, "mine").__enter__()
        with lease_devices(["cpu:1"], None, "mine") as leased:
            assert leased == ["cpu:1"]
    finally:
        end(holder)
    with lease_devices(["cpu:0"], None, "mine") as leased:
        assert leased == ["cpu:0"]


@pytest.mark.parametrize("note", ["", "[]", "[" * 100_000, '{"pid": 1}'])
def test_a_note_that_anybody_may_have_written_is_no_reason_to_fail(tmp_path: Path, note: str) -> None:
    holder = hold("cpu:0")
    try:
        (tmp_path / "leases" / "cpu:0.build.lock").write_text(note)
        with pytest.raises(DeviceError, match="device cpu:0 belongs to another process"):
            lease_devices(["cpu:0"], None, "mine").__enter__()
    finally:
        end(holder)


def test_a_build_that_names_no_device_takes_free_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    with lease_devices(["cpu:1"], None, "first"):
        with lease_devices([], None, "second") as leased:
            assert leased == ["cpu:0", "cpu:2"]
            with pytest.raises(DeviceError, match=r"cpu:0 .*second.*cpu:1 .*first.*cpu:2 .*second"):
                lease_devices([], None, "third").__enter__()
        with lease_devices([], 1, "fourth") as leased:
            assert leased == ["cpu:0"]


def test_each_worker_has_a_device_of_its_own() -> None:
    first, kept = take_device(["cpu:0", "cpu:1"])
    second, also = take_device(["cpu:0", "cpu:1"])
    assert [first, second] == ["cpu:0", "cpu:1"]
    kept.close()
    again, last = take_device(["cpu:0", "cpu:1"])
    assert again == "cpu:0"
    also.close()
    last.close()


@pytest.mark.parametrize(
    ("wanted", "said"), [(["7"], "this machine has"), (["cpu:one"], "this machine has"), (["cpu:0", "cpu:0"], "twice")]
)
def test_devices_that_cannot_be_are_refused(wanted: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        lease_devices(wanted, None, "mine").__enter__()


def test_options_that_do_not_go_together(command: Command, tiny_recipe: Path, tmp_path: Path) -> None:
    code, _, err = command("build", tiny_recipe, "--store", tmp_path / "store", "--devices", "0")
    assert code == 2
    assert "--devices needs --runner processes, not threads" in err


def test_a_build_is_refused_a_device_that_another_has(command: Command, tiny_recipe: Path, tmp_path: Path) -> None:
    holder = hold("cpu:0")
    try:
        words = ["--runner", "processes", "--devices", "cpu:0"]
        code, _, err = command("build", tiny_recipe, "--store", tmp_path / "store", *words)
    finally:
        end(holder)
    assert code == 1
    assert f"device cpu:0 belongs to process {holder.pid} (build other, since" in err
    assert "wait for its end or name others by --devices" in err


@pytest.mark.parametrize("address", [None, "ray://head:10001", "auto"])
def test_a_cluster_needs_an_address(command: Command, tiny_recipe: Path, tmp_path: Path, address: str | None) -> None:
    words = ["--ray-address", address] if address else []
    code, _, err = command("build", tiny_recipe, "--store", tmp_path / "store", "--runner", "ray", *words)
    assert code == 2
    assert f"--ray-address {address or 'is missing'}" in err


@pytest.mark.slow
@pytest.mark.flow
@pytest.mark.timeout(900)
def test_a_killed_worker_changes_no_byte(tiny_recipe: Path, tmp_path: Path, prefect_server: str) -> None:
    larger_recipe(tiny_recipe)
    words, store = ["--runner", "processes", "--devices", "cpu:0,cpu:1"], tmp_path / "processes"
    build = start_build(tiny_recipe, store, *words)
    wait_for(build, lambda: len(made_samples(store)) >= 3)
    os.kill(worker_pids(build)[0], signal.SIGKILL)
    code, _, err = end_build(build)
    assert code == 0, err
    assert "a worker died (BrokenProcessPool): going on" in err
    assert set(count_loads(store).values()) == {1}

    code, _, err = end_build(start_build(tiny_recipe, tmp_path / "threads"))
    assert code == 0, err
    assert published(store) == published(tmp_path / "threads") != {}


@pytest.mark.slow
@pytest.mark.flow
@pytest.mark.timeout(900)
def test_a_killed_build_leaves_no_worker(tiny_recipe: Path, tmp_path: Path, prefect_server: str) -> None:
    larger_recipe(tiny_recipe)
    words, store = ["--runner", "processes", "--devices", "cpu:0"], tmp_path / "processes"
    build = start_build(tiny_recipe, store, *words)
    wait_for(build, lambda: len(made_samples(store)) >= 1)
    workers = [psutil.Process(pid) for pid in worker_pids(build)]
    build.kill()
    end_build(build)
    assert len(workers) == 1
    assert psutil.wait_procs(workers, timeout=30)[1] == []
    code, _, err = end_build(start_build(tiny_recipe, store, *words))
    assert code == 0, err
