"""Builds as processes of their own, whose workers can be killed: what the tests of runners share."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.support.repository import ROOT
from tests.support.tiny_recipes import write_recipe

ONE_THREAD = {"OMP_NUM_THREADS": "1"}  # bytes on a processor depend on how many threads share a batch
ENDS_S = 400.0


def larger_recipe(recipe: Path) -> None:
    """Give the tiny recipe partitions enough for two workers, in one round."""
    concepts = [{"name": "gear", "requested": 20}, {"name": "bench", "requested": 16}]
    write_recipe(recipe.parent, concepts=concepts, engine={"kind": "plain", "steps": 8, "batch_size": 4})


def start_build(recipe: Path, store: Path, *words: str, env: Mapping[str, str] = ONE_THREAD) -> subprocess.Popen[str]:
    """`tailforge build --json`, with what it prints to be read."""
    command = [sys.executable, "-m", "tailforge", "build", str(recipe), "--store", str(store), "--json", *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=ROOT, env=os.environ | env, text=True, **pipes)  # type: ignore[call-overload]


def end_build(build: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Exit code, standard output and standard error."""
    try:
        out, err = build.communicate(timeout=ENDS_S)
    except subprocess.TimeoutExpired:
        build.kill()
        out, err = build.communicate()
        raise AssertionError(f"the build did not end: {out}{err}") from None
    return build.returncode, out, err


def wait_for(build: subprocess.Popen[str], what: Callable[[], bool]) -> None:
    """Until something holds while the build runs. Errors: AssertionError if the build ends before."""
    until = time.monotonic() + ENDS_S
    while not what():
        assert build.poll() is None, f"the build ended too early: {end_build(build)}"
        assert time.monotonic() < until
        time.sleep(0.02)


def made_samples(store: Path) -> list[dict[str, object]]:
    """Receipts of the partitions that are drawn."""
    return [json.loads(path.read_text()) for path in store.glob("artifacts/samples/*/part-*.json")]


def count_loads(store: Path) -> dict[tuple[str, int], int]:
    """By worker process: how often it loaded the model that it loaded most often."""
    loads: dict[tuple[str, int], int] = {}
    for receipt in made_samples(store):
        worker = receipt["details"]["worker"]  # type: ignore[index]
        key = (worker["host"], worker["process"])
        loads[key] = max(loads.get(key, 0), worker["most_loads"])
    return loads


def published(store: Path) -> dict[str, bytes]:
    """The files of the first version that hold its samples."""
    patterns = ("shards/*.tar", "manifest.parquet", "rejects.parquet")
    folder = store / "datasets" / "tiny" / "1.0.0"
    return {str(path.relative_to(folder)): path.read_bytes() for pattern in patterns for path in folder.glob(pattern)}
