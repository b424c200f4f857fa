"""A build that is killed again and again ends byte-equal to one that was not, and does no finished work twice."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

KILLS = 10
ROOT = Path(__file__).parent.parent.parent
pytestmark = [pytest.mark.slow, pytest.mark.flow, pytest.mark.timeout(1800)]


def start(recipe: Path, store: Path, server: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "flows.cli", "build", str(recipe), "--store", str(store)]
    return subprocess.Popen(command, cwd=ROOT, env=os.environ | {"PREFECT_API_URL": server}, stdout=subprocess.DEVNULL)


def receipts(store: Path) -> dict[str, tuple[int, bytes]]:
    """Every receipt with the moment it was written: a partition done twice would have a newer one."""
    found = {}
    for path in store.glob("artifacts/*/*/part-*.json"):
        found[str(path.relative_to(store))] = (path.stat().st_mtime_ns, path.read_bytes())
    return found


def published(store: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(store)): path.read_bytes()
        for pattern in ("shards/*.tar", "manifest.parquet", "rejects.parquet")
        for path in store.glob(f"datasets/tiny/1.0.0/{pattern}")
    }


def kill_at_a_random_moment(process: subprocess.Popen[bytes], store: Path, draws: random.Random) -> bool:
    """SIGKILL after a few more receipts and a random pause. False if the build ended before."""
    before, more = len(receipts(store)), draws.randint(0, 3)
    while process.poll() is None and len(receipts(store)) < before + more:
        time.sleep(0.02)
    time.sleep(draws.uniform(0, 0.4) if more else draws.uniform(0, 8))
    if process.poll() is not None:
        return False
    process.send_signal(signal.SIGKILL)
    process.wait()
    return True


def test_killed_builds_end_byte_equal(
    tiny_recipe: Path, tmp_path: Path, prefect_server: str, record_property: Callable[[str, object], None]
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert start(tiny_recipe, whole, prefect_server).wait() == 0
    draws, kills, finished, redone = random.Random(7), 0, {}, set()
    while kills < KILLS:
        process = start(tiny_recipe, killed, prefect_server)
        if not kill_at_a_random_moment(process, killed, draws):
            break
        kills += 1
        now = receipts(killed)
        redone |= {name for name in finished if now.get(name) != finished[name]}
        finished = now
        version = killed / "datasets" / "tiny" / "1.0.0"
        assert version.exists() == (version / "dataset.json").exists(), "half a version is visible"
    assert start(tiny_recipe, killed, prefect_server).wait() == 0
    redone |= {name for name in finished if receipts(killed).get(name) != finished[name]}
    one, two = published(whole), published(killed)
    different = {name for name in one | two if one.get(name) != two.get(name)}
    record_property("kill_runs", kills)
    record_property("kill_mismatches", len(different) + len(redone))
    assert kills == KILLS, "the build is too short to be killed so often"
    assert one
    assert not different
    assert not redone, "finished partitions were done again"
