"""Attention masks: how good, how sure, at what cost, and what a representation learns from them. `make bench-masks`.

`python -m tests.benchmarks.masks [--work DIR] [--seeds ...] [--images N] [--keep cost learning]` makes what is missing
in DIR, seed by seed and each set written whole (so it can be stopped), measures the cost of capture and, by
tests/benchmarks/pretraining.py, what masks teach, then writes docs/benchmarks/masks.{json,md} and a figure. What
`--keep` names is not measured again: its rows stay as they are.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from tailforge.catalog.sources.models import MODELS
from tailforge.tasks.models.judges import load_judges
from tests.benchmarks.masks.absent import CASES, make_planted
from tests.benchmarks.masks.images import (
    RENDER_SEED,
    Set,
    make_composed,
    make_generated,
    make_rare,
    make_renders,
    open_generator,
)
from tests.benchmarks.masks.objects import KINDS, make_objects
from tests.benchmarks.masks.overhead import measure_overhead
from tests.benchmarks.masks.page import draw_figure, write_page
from tests.benchmarks.masks.rows import Made, measure, measure_absent, measure_objects
from tests.benchmarks.pages import write_json
from tests.benchmarks.pretraining import SEEDS, measure_learning

RARE_SHARE = 3  # a search costs more than a sample: so many times fewer pictures of a rare part
RENDERS = 60  # renders of a seed
COMPOSED = 20
PLANTED = 50  # words of each case and seed, each read twice


def make_set(file: Path, make: Callable[[], Set]) -> Set:
    """The set in a file, made first if it is missing; written whole or not at all."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        beside = file.with_suffix(".tmp.npz")
        np.savez(beside, **make())  # type: ignore[arg-type]
        beside.replace(file)
        print(file, flush=True)
    with np.load(file) as data:
        return dict(data)


def make_all(work: Path, seeds: list[int], images: int) -> Made:
    """All sets of all seeds."""
    model, judges = open_generator(), load_judges(MODELS / "judges")
    few = max(1, images // RARE_SHARE)
    return Made(
        generated={
            seed: make_set(work / f"generated-{seed}.npz", lambda: make_generated(model, judges, seed, images))  # noqa: B023
            for seed in seeds
        },
        renders={
            seed: make_set(work / f"renders-{seed}.npz", lambda: make_renders(model, seed, RENDERS))  # noqa: B023
            for seed in seeds
        },
        composed={
            seed: make_set(work / f"composed-{seed}.npz", lambda: make_composed(model, seed, COMPOSED))  # noqa: B023
            for seed in seeds
        },
        rare={
            seed: make_set(work / f"rare-{seed}.npz", lambda: make_rare(judges, seed, few))  # noqa: B023
            for seed in seeds
        },
    )


def make_all_objects(work: Path, seeds: list[int]) -> dict[int, dict[str, Set]]:
    """Renders of every kind of all seeds."""
    model = open_generator()
    return {
        seed: {
            kind: make_set(
                work / f"objects-{turn}-{seed}.npz",
                lambda: make_objects(model, kind, RENDER_SEED + seed + 1000 * turn, RENDERS),  # noqa: B023
            )
            for turn, kind in enumerate(KINDS)
        }
        for seed in seeds
    }


def make_all_planted(work: Path, seeds: list[int]) -> dict[int, dict[str, Set]]:
    """Words whose part is drawn or not, of all seeds."""
    model = open_generator()
    return {
        seed: {
            case: make_set(
                work / f"planted-{turn}-{seed}.npz",
                lambda: make_planted(model, case, RENDER_SEED + seed + 2000 * (1 + turn), PLANTED),  # noqa: B023
            )
            for turn, case in enumerate(CASES)
        }
        for seed in seeds
    }


def main() -> None:
    """Make what is missing and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("work/masks"))
    parser.add_argument("--seeds", nargs="*", type=int, default=[20, 21, 22])
    parser.add_argument("--images", type=int, default=12, help="images of each part and seed")
    parser.add_argument("--keep", nargs="*", choices=("quality", "objects", "absent", "cost", "learning"), default=())
    words = parser.parse_args()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    if "quality" not in words.keep:
        made = make_all(words.work, words.seeds, words.images)
        write_json("masks", words.seeds, measure(made))
        draw_figure(made.generated[words.seeds[0]])
    if "objects" not in words.keep:
        write_json("masks", words.seeds, measure_objects(make_all_objects(words.work, words.seeds)))
    if "absent" not in words.keep:
        write_json("masks", words.seeds, measure_absent(make_all_planted(words.work, words.seeds)))
    if "learning" not in words.keep:
        learning = words.work / "pretraining"
        write_json("masks", list(SEEDS), measure_learning(learning / "store", learning))
    if "cost" not in words.keep:
        torch.set_num_threads(threads)
        write_json("masks", [0], measure_overhead())
    write_page(words.images, RENDERS, len(words.seeds))


if __name__ == "__main__":
    main()
