"""Run the product's own commands for the benchmark of worth."""

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Road:
    """What is built and compared for one set.

    `builds`: words of `tailforge build` by version, the default version first, then its rivals. `evaluated`: words of
    `tailforge evaluate` beside versions, store and seeds.
    """

    builds: dict[str, Sequence[object]]
    evaluated: Sequence[object]


def follow(road: Road, folder: Path, seeds: int, workers: int) -> None:
    """Build and evaluate the versions of a set in its folder, and write the record to evaluation.json."""
    store = folder / "store"
    for words in road.builds.values():
        run("build", *words, "--store", store)

    first, *others = road.builds
    rivals = [word for name in others for word in ("--against", name)]
    made = run(
        "evaluate", first, *rivals, "--store", store, *road.evaluated,
        "--seeds", seeds, "--workers", workers, "--json",
    )  # fmt: skip
    (folder / "evaluation.json").write_text(made)


def run(*words: object) -> str:
    """Run a command of the product and return what it prints. A failure ends the benchmark."""
    command = [sys.executable, "-m", "tailforge", *map(str, words)]
    print("$ tailforge", *words[:2], flush=True)
    threads = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=threads)
    return done.stdout
