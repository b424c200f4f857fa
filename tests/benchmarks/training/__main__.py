"""Is a structure loss worth it when a generator is adapted to few images? `make bench-training`.

`python -m tests.benchmarks.training [--work DIR] [--seeds ...] [--sizes ...] [--arms ...]` makes what is missing in DIR
(a cell is written whole, so it can be stopped, and several may run side by side), then writes docs/benchmarks/training.
A source that has never seen two parts is adapted to 20, 100 and 400 renders of them, by every arm from the same first
weights in the same order of images.
"""

import argparse
import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tailforge.catalog.sources.models import MODELS
from tailforge.schemas.settings.fields import ModelSource
from tailforge.tasks.methods.classifiers.pictures import Pictures
from tailforge.tasks.methods.workshop import MATERIALS, PARTS, SURFACES
from tailforge.tasks.models.judges import Judges, load_judges
from tailforge.tasks.models.pipeline_folders import draw_images, open_pipeline
from tests.benchmarks.seedselect.rows import features_of
from tests.benchmarks.training import sets
from tests.benchmarks.training.measures import measure, summarise, train_and_test
from tests.benchmarks.training.page import write_results

SIZES = (20, 100, 400)
SEEDS = (0, 1, 2)
STEPS = 100
LONGER = 1.2  # steps that the plain arm makes in the time of the others (time_overhead below)
GENERATED = 80
SAMPLING_STEPS, GUIDANCE = 10, 3.0
SET_SEED = 500  # of the training images; those of a size are the same for all arms and seeds of training
LEARNING: dict[str, Any] = {
    "batch": 16,
    "learning_rate": 5e-4,
    "ema_decay": 0.95,
    "weighting": "min_snr_plus_one",
    "threads": 1,
}
LONG: dict[str, Any] = {"steps": 300, "learning_rate": 1e-3, "schedule": "cosine"}  # as in adapt-workshop
STRUCTURED = ("instance", "frozen", "sadm", "random_encoder")
GAME: dict[str, Any] = {"share": 0.2, "encoder_steps": 100}
ARMS: dict[str, dict[str, Any]] = {
    "denoising": {},
    "denoising/longer": {"learning": {"steps": round(STEPS * LONGER)}},
    **{name: {"structure": {**GAME, "arm": name}} for name in STRUCTURED},
    "denoising/grouped": {"learning": {"shared_noise": 16}, "structure": {"play_every": 2}},
    "sadm/grouped": {"learning": {"shared_noise": 16}, "structure": {**GAME, "arm": "sadm"}},
    "lora": {"weights": "lora", "learning": {"learning_rate": 2e-3}},
    "denoising/long": {"learning": LONG},
    "sadm/long": {"learning": LONG, "structure": {**GAME, "arm": "sadm"}},
    "sadm/strong": {"learning": LONG, "structure": {**GAME, "arm": "sadm", "share": 1.0}},
}
CONTROLS = ("source", "real")  # the source as it is; real images in place of generated ones


class Bench:
    """What all cells are measured with."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.source = sets.open_source(work)
        self.judges: Judges = load_judges(MODELS / "judges")
        _, self.real_pool = sets.open_set(work, "real", sets.new_parts(sets.REAL), sets.REAL_SEED)
        self.real = features_of(self.judges, self.real_pool.images)
        self.real_pictures = Pictures(np.asarray(self.real_pool.images), sets.materials(self.real_pool))
        self.requests = sets.prompts_of(GENERATED, SURFACES)

    def make(self, arm: str, size: int, seed: int) -> None:
        """One cell, unless it is there."""
        name = f"{arm.replace('/', '-')}-{size}-{seed}"
        file = self.work / "cells" / f"{name}.json"
        if file.exists():
            return
        started = time.process_time()
        images, training = self._images(arm, size, seed, name)
        spent = time.process_time() - started
        file.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(file.with_suffix(".npz"), images=images[:24])
        found = {**self.measure(images, size, seed), **training}
        beside = file.with_suffix(".tmp")
        beside.write_text(json.dumps({"arm": arm, "size": size, "seed": seed, "processor_s": spent, **found}))
        beside.replace(file)
        print(f"{name}: {spent:.0f} s, {summarise(found)}", flush=True)

    def measure(self, images: NDArray[np.uint8], size: int, seed: int) -> dict[str, Any]:
        """All figures of generated images."""
        _, pool = sets.open_set(self.work, f"new-{size}", sets.new_parts(size), SET_SEED + size)
        halves = self.real[::2], self.real[1::2]
        generated = features_of(self.judges, images)
        labels = np.array([label for _, label in self.requests])
        parts = np.array([list(PARTS).index(sets.NEW[label // len(MATERIALS)]) for label in labels])
        return {
            **measure(generated, halves[0], halves[1], features_of(self.judges, pool.images)),
            "trained_on_generated": train_and_test(
                images, labels, self.real_pictures, len(sets.NEW) * len(MATERIALS), seed
            ),
            "success": float((self.judges.classify(images)[:, 0] == parts).mean()),
        }

    def _images(self, arm: str, size: int, seed: int, name: str) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        file, _ = sets.open_set(self.work, f"new-{size}", sets.new_parts(size), SET_SEED + size)
        if arm == "real":
            return self._others(seed), {}
        if arm == "source":
            return self._draw(Path(self.source.model), seed), {}
        settings = json.loads(json.dumps(ARMS[arm]))
        settings["learning"] = {"steps": STEPS, **LEARNING, **settings.get("learning", {}), "seed": seed}
        source = ModelSource(model=self.source.model)
        run = self.work / "runs" / name
        encoder = self.work / "encoders" / f"{size}-{seed}{'-random' * (arm == 'random_encoder')}"
        if arm.split("/")[0] in STRUCTURED and encoder.exists():  # the same for all arms, as its key says
            shutil.copytree(encoder, run / "encoder", dirs_exist_ok=True)
        folder, measures = sets.train(self.work, name, source, file, **settings)
        if arm.split("/")[0] in STRUCTURED:
            shutil.copytree(run / "encoder", encoder, dirs_exist_ok=True)
        drawn = self._draw(folder, seed)
        for made in (folder, run):
            shutil.rmtree(made)
        return drawn, {"figures": measures["figures"], "game_ended": measures["game_ended"]}

    def _draw(self, folder: Path, seed: int) -> NDArray[np.uint8]:
        """One picture a prompt; the same noises for all arms of a seed."""
        seeds = [int(value) for value in np.random.default_rng((seed, 77)).integers(2**31, size=GENERATED)]
        prompts = [prompt for prompt, _ in self.requests]
        return draw_images(open_pipeline(folder), prompts, seeds, SAMPLING_STEPS, GUIDANCE)

    def _others(self, seed: int) -> NDArray[np.uint8]:
        """Real images that are neither learnt nor compared with, of the classes that are asked for."""
        _, pool = sets.open_set(self.work, f"others-{seed}", sets.new_parts(8 * GENERATED), 7000 + seed)
        rows_of: dict[int, list[int]] = {}
        for row, label in enumerate(sets.materials(pool)):
            rows_of.setdefault(int(label), []).append(row)
        return np.stack([pool.images[rows_of[label].pop()] for _, label in self.requests])


def main() -> None:
    """Make the cells, then the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("work/training"))
    parser.add_argument("--seeds", nargs="*", type=int, default=SEEDS)
    parser.add_argument("--sizes", nargs="*", type=int, default=SIZES)
    parser.add_argument("--arms", nargs="*", default=[*CONTROLS, *ARMS])
    parser.add_argument("--cells-only", action="store_true")
    words = parser.parse_args()
    torch.set_num_threads(1)
    bench = Bench(words.work)
    for seed in words.seeds:
        for size in words.sizes:
            for arm in words.arms:
                bench.make(arm, size, seed)
    if not words.cells_only:
        write_results(words.work, words.seeds)


if __name__ == "__main__":
    main()
