"""What is a version worth to a model of real photographs? `make bench-worth`.

`python -m tests.benchmarks.worth [--work DIR] [--sets ...] [--seeds N]` makes what is missing in DIR, then writes
docs/benchmarks/worth. Per set, the product's own commands train a generator on the training split (for the workshop
they search that of the catalog), build a version that fills the tail, and evaluate it beside rival versions. Every
command goes on where it was stopped. Figures of sets that are not run stay on the page.
"""

import argparse
from pathlib import Path
from typing import Any

import yaml

from tests.benchmarks.worth import workshop
from tests.benchmarks.worth.commands import Road, follow, run
from tests.benchmarks.worth.page import RARE, write_results
from tests.benchmarks.worth.sets import SETS, ImageSet, write_tables

REQUESTED = 200  # images per rare class
LEARNING: dict[str, Any] = {
    "batch": 64,
    "learning_rate": 0.001,
    "schedule": "cosine",
    "ema_decay": 0.995,
    "weighting": "min_snr_plus_one",
    "balance": "root",
    "threads": 1,
}
CAPTION = "a photo of a {}"
OPTIONS = ("--steps", "400", "--shares", "0.25,0.5", "--augmentations", "10")


def main() -> None:
    """Make what is missing, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("work/worth"))
    parser.add_argument("--sets", nargs="*", default=list(RARE), choices=list(RARE))
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--workers", type=int, default=1)
    words = parser.parse_args()
    for name in words.sets:
        folder = words.work.resolve() / name
        folder.mkdir(parents=True, exist_ok=True)
        if name == workshop.NAME:
            road = workshop.lay_workshop(folder)
        elif SETS[name].find_file() is not None:
            road = lay_photographs(SETS[name], folder)
        else:
            print(f"{name}: {SETS[name].file}.parquet is not there, skipped; TAILFORGE_DATA names its folder")
            continue
        follow(road, folder, words.seeds, words.workers)
    write_results(words.work.resolve(), range(words.seeds), words.sets)


def lay_photographs(chosen: ImageSet, folder: Path) -> Road:
    """Cut the photographs of a set, and train its generator."""
    real, held = write_tables(chosen, folder)
    train, builds = write_recipes(chosen, folder)
    run("train", train, "--models", folder / "models", "--work", folder / "work")

    # The exchange rate needs real images that were held back.
    curve = ("--learning-curve", "--held-back", held) if chosen.kept else ()
    groups = ("--few", chosen.few, "--many", max(chosen.few, 100))
    return Road({each.stem: (each,) for each in builds}, ("--real", real, *OPTIONS, *groups, *curve))


def write_recipes(chosen: ImageSet, folder: Path) -> tuple[Path, list[Path]]:
    """Write the recipes of the training and of the versions: the default one first, then its rivals."""
    training = {
        "kind": "generator",
        "name": chosen.name,
        "network": dict(chosen.network),
        "images": {"folder": "real.parquet", "split": "train", "class_caption": CAPTION.format("{class}")},
        "learning": LEARNING | {"steps": chosen.steps} | dict.fromkeys(chosen.mirrored, True),
        "validation": {"every": 300, "held_out": 0.02, "images": 24, "guidance": 2.0},
    }
    recipe: dict[str, Any] = {
        "description": f"Images for the tail of {chosen.name}, for the benchmark of worth.",
        "license": "CC-BY-4.0",
        "seed": 1,
        "generator": {"model": f"models/{chosen.name}"},
        "engine": {"kind": "plain", "steps": 24, "guidance": 4.0, "batch_size": 32},
        "concepts": [{"name": name, "requested": REQUESTED} for name in chosen.rare],
        "prompts": {"templates": [CAPTION.format("{concept}")]},
        "splits": {"train": 1.0},
        "sharding": {"image_format": "png"},
    }
    names = {"train": training, f"{chosen.name}-ours": recipe}
    for name, content in names.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump({"name": name, **content}, sort_keys=False))
    train, *build = (folder / f"{name}.yaml" for name in names)
    return train, build


if __name__ == "__main__":
    main()
