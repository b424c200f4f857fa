"""The image sets of the benchmark of worth: real photographs whose tail is cut, and what is held back of it."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.benchmarks.pages import ROOT

DATA = ROOT.parent / "shared" / "data"
CUT_SEED = 20


@dataclass(frozen=True)
class ImageSet:
    """A Parquet file with the columns split, label and image, and how many training images of which classes are kept.

    `kept`: training images per cut class. `few`: most training images of a rare class. `steps`: of the generator's
    training. `validation`: images per class that are taken from the training split for validation, where the file has
    none.
    """

    name: str
    file: str
    kept: Mapping[str, int]
    rare: tuple[str, ...]
    few: int
    network: Mapping[str, object]
    steps: int = 1800
    validation: int = 0
    mirrored: tuple[str, ...] = ("flip",)

    def find_file(self) -> Path | None:
        """Return the file of TAILFORGE_DATA or of the folder beside the project; None if it is not there."""
        path = Path(os.environ.get("TAILFORGE_DATA") or DATA) / f"{self.file}.parquet"
        return path if path.is_file() else None


TAIL = ("Diode-Multi", "Soiling", "Hot-Spot-Multi", "Hot-Spot")
TAIL_COUNT = 123  # training images of the largest of them
MODULES = {"height": 40, "width": 24, "grey": True}
CIFAR_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def _infrared(name: str, count: int | None) -> ImageSet:
    kept = {} if count is None else dict.fromkeys(TAIL, count)
    few = count or TAIL_COUNT
    return ImageSet(name, "solar_infrared", kept, TAIL, few, MODULES, mirrored=("flip", "flip_vertical"))


def _long_tail(most: int, least: int) -> dict[str, int]:
    """Return exponentially falling counts over the classes, as long-tailed CIFAR has them (arXiv 1906.07413)."""
    last = len(CIFAR_CLASSES) - 1
    return {name: round(most * (least / most) ** (place / last)) for place, name in enumerate(CIFAR_CLASSES)}


SETS = {
    each.name: each
    for each in (
        _infrared("infrared-10", 10),
        _infrared("infrared-20", 20),
        _infrared("infrared", None),
        ImageSet(
            "cifar10-lt",
            "cifar10",
            _long_tail(4500, 45),
            CIFAR_CLASSES[-3:],
            few=130,
            network={"height": 32, "width": 32},
            steps=2400,
            validation=100,
        ),
    )
}


def write_tables(chosen: ImageSet, folder: Path) -> tuple[Path, Path]:
    """Write real.parquet and held_back.parquet to a folder, and return both. The cut follows from CUT_SEED alone."""
    real, held = folder / "real.parquet", folder / "held_back.parquet"
    if held.exists():
        return real, held
    file = chosen.find_file()
    assert file is not None, f"{chosen.file}.parquet is not there; TAILFORGE_DATA names its folder"
    table = pq.read_table(file).select(["split", "label", "image"])
    splits, labels = (np.array(table[name].to_pylist(), object) for name in ("split", "label"))

    # Take validation images from the training split where the file has none.
    for place, name in enumerate(sorted(set(labels)) if chosen.validation else ()):
        own = np.flatnonzero((splits == "train") & (labels == name))
        splits[np.random.default_rng((CUT_SEED, place)).permutation(own)[: chosen.validation]] = "validation"

    # Cut the tail.
    draws = np.random.default_rng(CUT_SEED)
    dropped = np.zeros(len(table), bool)
    for name, count in chosen.kept.items():
        own = np.flatnonzero((splits == "train") & (labels == name))
        dropped[draws.permutation(own)[count:]] = True

    # Of the cut images, only those of rare classes are the exchange rate's.
    table = table.set_column(0, "split", pa.array(splits.tolist()))
    back = dropped & np.isin(labels, chosen.rare)
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(table.filter(pa.array(~dropped)), real)
    pq.write_table(table.filter(pa.array(back)), held)
    return real, held
