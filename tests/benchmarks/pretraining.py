"""What attention masks are worth to a representation: three uses, each without masks, with boxes, with masks.

`python -m tests.benchmarks.pretraining [--store DIR] [--work DIR] [--uses ...] [--arms ...] [--seeds ...]` pre-trains
an encoder for each use, arm and seed that is missing in DIR by the call behind `tailforge pretrain`, probes it and
writes what it found whole (so it can be stopped, and several may run side by side), then adds the rows to
docs/benchmarks/masks.json; tests/benchmarks/masks/__main__.py writes the page. The store is built where it lacks the
version: the recipe `workshop` with `WANTED` images of each part. Arm `truth` has the independent segmenter's masks.
"""

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tailforge.catalog.reading.open_dataset import open_dataset
from tailforge.catalog.registry import list_versions
from tailforge.catalog.sources.models import MODELS
from tailforge.catalog.store import Store
from tailforge.flows.training.pretrain_representation import pretrain_representation
from tailforge.tasks.methods.masks.codec import encode_mask
from tailforge.tasks.methods.pretraining.probes import Split, probe_linear, probe_neighbours, read_features
from tailforge.tasks.methods.workshop import HEAD_PARTS, MATERIALS, Rendering, Scene, render, sample_scene
from tailforge.tasks.models.encoders import load_encoder
from tailforge.tasks.models.judges import load_judges
from tests.benchmarks.pages import write_json
from tests.benchmarks.pretraining_segmentation import measure_segmentation
from tests.benchmarks.seedselect.rows import over_seeds

DATASET = "workshop"
WANTED = 75
SHAPE: dict[str, Any] = {"width": 64, "heads": 2}  # what a CPU can pay for
USES: dict[str, dict[str, Any]] = {
    "contrastive": SHAPE | {"steps": 260, "batch": 32, "ema_decay": 0.95, "jitter": 0.5},
    "masked": SHAPE | {"steps": 320, "batch": 32, "mask_ratio": 0.5},
    "caption": SHAPE | {"steps": 200},
}
ARMS = ("none", "box", "attention", "truth")
UNTRAINED = "random"
ALL = (*ARMS, UNTRAINED)
SEEDS = (0, 1, 2)
PROBE_SEED = 5151  # of no training
PROBED = 800  # renders to learn from, and as many to ask about
LABELLED = 40  # renders with masks that the segmentation learns from
SEGMENTED = 300


class Probes:
    """Renders of the common parts, of equal shares, that no generator and no encoder learnt from."""

    def __init__(self) -> None:
        weights = dict.fromkeys(HEAD_PARTS, 1.0)
        scenes = [sample_scene(number, PROBE_SEED, weights) for number in range(2 * PROBED)]
        drawn = [render(scene) for scene in scenes]
        self.images = np.stack([made.image for made in drawn])
        self.labels = {"part": _number(scenes, "part", HEAD_PARTS), "material": _number(scenes, "material", MATERIALS)}
        self.few, self.many = self._stack(drawn[:LABELLED]), self._stack(drawn[-SEGMENTED:])

    @staticmethod
    def _stack(drawn: list[Rendering]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        return np.stack([made.image for made in drawn]), np.stack([made.mask for made in drawn])

    def measure(self, folder: Path, seed: int) -> dict[str, float]:
        """All figures of the encoder in `folder`."""
        features = read_features(load_encoder(folder).tokens, self.images)
        found: dict[str, float] = {}
        for name, labels in self.labels.items():
            learnt, asked = Split(features[:PROBED], labels[:PROBED]), Split(features[PROBED:], labels[PROBED:])
            found[f"probe_{name}"] = float((probe_linear(learnt, asked) == asked.labels).mean())
            found[f"knn_{name}"] = float((probe_neighbours(learnt, asked) == asked.labels).mean())
        for name, frozen in (("segmentation_miou", False), ("segmentation_frozen_miou", True)):
            found[name] = measure_segmentation(load_encoder(folder), self.few, self.many, seed, frozen)
        return found


def _number(scenes: list[Scene], field: str, names: tuple[str, ...]) -> NDArray[np.int64]:
    return np.array([names.index(getattr(scene, field)) for scene in scenes], np.int64)


def open_store(store: Path) -> None:
    """Build the version where the store lacks it."""
    if store.is_dir() and list_versions(Store.open(str(store)), DATASET):
        return
    from tailforge.flows.build.run import run_build

    run_build(DATASET, str(store), [f"concepts.{part}.requested={WANTED}" for part in HEAD_PARTS], None)


def write_truth(store: Path, folder: Path) -> None:
    """The segmenter's masks of all training images, as `tailforge pretrain --masks FOLDER` reads them."""
    folder.mkdir(parents=True, exist_ok=True)
    segmenter = load_judges(MODELS / "judges")
    for sample in open_dataset(str(store), name=DATASET):
        mask = segmenter.segment(np.asarray(sample["image"])[None])[0]
        png = encode_mask(np.where(mask, sample["cls"] + 1, 0).astype(np.uint8))
        (folder / f"{sample['key']}.png").write_bytes(png)


def make_cell(store: Path, work: Path, probes: Probes, use: str, arm: str, seed: int) -> None:
    """One use, arm and seed, unless it is there; written whole."""
    name = f"{use}-{arm}-{seed}"
    file = work / f"{name}.json"
    if file.exists():
        return
    started = time.process_time()
    settings = USES[use] | {"seed": seed} | ({"steps": 1, "learning_rate": 1e-9} if arm == UNTRAINED else {})
    masks = {"truth": str(work / "truth"), UNTRAINED: "none"}.get(arm, arm)
    folder = work / "encoders" / name
    report = pretrain_representation(DATASET, str(store), use, masks, folder, settings)
    found = probes.measure(folder, seed)
    seconds = time.process_time() - started
    beside = file.with_suffix(".tmp")
    beside.write_text(json.dumps({"use": use, "arm": arm, "seed": seed, "seconds": seconds, **found}))
    beside.replace(file)
    print(f"{name}: {seconds:.0f} s, loss {report['losses']}, {found}", flush=True)


def measure_learning(
    store: Path, work: Path, uses: Sequence[str] = tuple(USES), arms: Sequence[str] = ALL, seeds: Sequence[int] = SEEDS
) -> list[dict[str, Any]]:
    """Make what is missing; the rows of all that there is."""
    open_store(store)
    if "truth" in arms:
        write_truth(store, work / "truth")
    probes = Probes()
    for seed in seeds:
        for use in uses:
            for arm in arms:
                make_cell(store, work, probes, use, arm, seed)
    return collect_rows(work)


def collect_rows(work: Path) -> list[dict[str, Any]]:
    """Means over seeds, with intervals; every row names its seeds."""
    values: dict[tuple[str, str], dict[int, float]] = defaultdict(dict)
    for file in sorted(work.glob("*.json")):
        cell = json.loads(file.read_text())
        for metric, value in cell.items():
            if metric.startswith(("probe_", "knn_", "segmentation_")):
                values[f"{cell['use']}/{cell['arm']}", metric][cell["seed"]] = value
    rows = [
        over_seeds(arm, metric, list(found.values()), "overlap" if "iou" in metric else "share")
        | {"seeds": sorted(found)}
        for (arm, metric), found in values.items()
    ]
    return [*rows, *_compare(values)]


def _compare(values: Mapping[tuple[str, str], Mapping[int, float]]) -> list[dict[str, Any]]:
    """Attention masks less each control, seed by seed: runs of a seed share their first weights and their order."""
    rows = []
    for (arm, metric), found in values.items():
        use, _, masks = arm.partition("/")
        for control in ("none", "box") if masks == "attention" else ():
            other = values.get((f"{use}/{control}", metric), {})
            seeds = sorted(set(found) & set(other))
            leads = [found[seed] - other[seed] for seed in seeds]
            if leads:
                rows.append(over_seeds(f"{arm} - {control}", metric, leads, "difference") | {"seeds": seeds})
    return rows


def main() -> None:
    """Write the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path, default=Path("work/pretraining/store"))
    parser.add_argument("--work", type=Path, default=Path("work/pretraining"))
    parser.add_argument("--uses", nargs="*", choices=list(USES), default=list(USES))
    parser.add_argument("--arms", nargs="*", choices=ALL, default=ALL)
    parser.add_argument("--seeds", nargs="*", type=int, default=SEEDS)
    words = parser.parse_args()
    torch.set_num_threads(1)
    rows = measure_learning(words.store, words.work, words.uses, words.arms, words.seeds)
    write_json("masks", words.seeds, rows)


if __name__ == "__main__":
    main()
