"""A build that is killed again and again ends byte-equal to one that was not, and does no finished work twice."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.inpaint_recipes import write_defects, write_inpaint, write_parts, write_pasting
from tests.support.inversion_recipes import inversion_recipe, save_teacher
from tests.support.repository import ROOT
from tests.support.tiny_clip import save_clip
from tests.support.tiny_recipes import write_recipe

KILLS = 10
MOST_BUILDS = 8
pytestmark = [pytest.mark.slow, pytest.mark.flow, pytest.mark.timeout(1800)]


def let_search(recipe: Path) -> None:
    """Make the tiny recipe's engine search."""
    save_clip(recipe.parent / "clip")
    draws = np.random.default_rng(0)
    for concept in ("gear", "bench"):
        (recipe.parent / concept).mkdir()
        for number in range(3):
            picture = Image.fromarray(draws.integers(0, 256, (32, 32, 3), np.uint8))
            picture.save(recipe.parent / concept / f"{number}.png")
    concepts = [{"name": name, "requested": 6, "references": name} for name in ("gear", "bench")]
    engine = {"kind": "seed_select", "steps": 4, "batch_size": 2, "iterations": 4, "plain_samples": 8, "candidates": 2,
              "encoder": {"model": "clip"}}  # fmt: skip
    write_recipe(recipe.parent, concepts=concepts, engine=engine, partition_size=None)


def let_invert(recipe: Path) -> None:
    """Put a small classifier in the place of the tiny generator; six runs of one batch."""
    save_teacher(recipe.parent / "teacher")
    concepts = [{"name": name, "requested": 6} for name in ("gear", "hook", "plate", "ring")]
    inversion_recipe(recipe.parent, {"batch_size": 4, "steps": 20}, concepts=concepts)


def let_inpaint(recipe: Path) -> None:
    """Let the tiny recipe draw into renders by the embedded generator."""
    write_parts(recipe.parent / "good", 6, split=True)
    write_inpaint(recipe.parent, {"steps": 8}, concepts=[{"name": name, "requested": 16} for name in ("gear", "hook")])


def let_paste(recipe: Path) -> None:
    """Copy defects into renders, without a generator."""
    write_parts(recipe.parent / "good", 6, split=True)
    for name in ("gear", "hook"):
        write_defects(recipe.parent / f"broken {name}")
    concepts = [{"name": name, "requested": 24} for name in ("gear", "hook")]
    write_pasting(recipe.parent, {"kind": "copy_paste"}, concepts=concepts, quality={"gates": "none"})


PREPARE: dict[str, Callable[[Path], object]] = {
    "plain": lambda recipe: None,
    "seed_select": let_search,
    "natural_inversion": let_invert,
    "inpaint": let_inpaint,
    "copy_paste": let_paste,
}


def start(recipe: Path, store: Path, server: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tailforge", "build", str(recipe), "--store", str(store)]
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


@pytest.mark.parametrize("engine", PREPARE)
def test_killed_builds_end_byte_equal(
    engine: str, tiny_recipe: Path, tmp_path: Path, prefect_server: str, record_property: Callable[[str, object], None]
) -> None:
    """A fast machine ends a build before ten kills: then the next is killed, and each that ended is compared.

    A search's partition is one batch, so a search that is killed in the middle loses one batch at most; so is a run of
    an inversion.
    """
    PREPARE[engine](tiny_recipe)
    assert start(tiny_recipe, tmp_path / "whole", prefect_server).wait() == 0
    whole, draws, kills, mismatches = published(tmp_path / "whole"), random.Random(7), 0, set()
    for attempt in range(MOST_BUILDS):
        store = tmp_path / f"killed-{attempt}"
        made, redone = kill_until_it_ends(tiny_recipe, store, prefect_server, draws, KILLS - kills)
        ended = published(store)
        different = {name for name in whole | ended if whole.get(name) != ended.get(name)}
        kills, mismatches = kills + made, mismatches | different | redone
        if kills == KILLS:
            break
    record_property("kill_runs", kills)
    record_property("kill_mismatches", len(mismatches))
    assert kills == KILLS, f"{MOST_BUILDS} builds ended after {kills} kills"
    assert whole
    assert not mismatches, "files differ from those of an undisturbed build, or finished partitions were done again"


def kill_until_it_ends(recipe: Path, store: Path, server: str, draws: random.Random, most: int) -> tuple[int, set[str]]:
    """Start a build and kill it, again and again; after `most` kills let it end. Kills, and receipts written twice."""
    kills, finished, redone = 0, {}, set()
    while kills < most:
        if not kill_at_a_random_moment(start(recipe, store, server), store, draws):
            break
        kills += 1
        now = receipts(store)
        redone |= {name for name in finished if now.get(name) != finished[name]}
        finished = now
        version = store / "datasets" / "tiny" / "1.0.0"
        assert version.exists() == (version / "dataset.json").exists(), "half a version is visible"
    assert start(recipe, store, server).wait() == 0
    now = receipts(store)
    return kills, redone | {name for name in finished if now.get(name) != finished[name]}
