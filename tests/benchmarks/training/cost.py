"""What a structure loss costs: processor time of a step beside plain steps in the same process, and memory."""

import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tailforge.schemas.training.generator import GeneratorTraining
from tailforge.tasks.methods.generator_training.batches import EpochSampler, Examples
from tailforge.tasks.methods.generator_training.devices import OneDevice
from tailforge.tasks.methods.generator_training.plan import plan_learning
from tailforge.tasks.methods.generator_training.structure_encoder import StructureEncoder
from tailforge.tasks.methods.generator_training.structure_game import StructureGame
from tailforge.tasks.methods.generator_training.train import DenoiserLearner
from tailforge.tasks.models.trainable_generator import TrainableGenerator
from tests.benchmarks.pages import row
from tests.benchmarks.training import sets

ROUNDS = 10
BATCH = 16
ARMS: dict[str, dict[str, Any]] = {
    "denoising": {"arm": "none"},
    "frozen": {"arm": "frozen", "relative_to": "images"},
    "sadm": {"arm": "sadm", "relative_to": "images"},
    "sadm/source": {"arm": "sadm", "relative_to": "source"},
    "sadm/source, every step": {"arm": "sadm", "relative_to": "source", "play_every": 1},
}


def make_learner(folder: Path, arm: str) -> tuple[DenoiserLearner, EpochSampler]:
    """A learner of the arm on random latents of the embedded size."""
    generator = TrainableGenerator(sets.resolve(folder), torch.device("cpu"))
    recipe = GeneratorTraining.model_validate(
        {
            "kind": "generator",
            "name": "cost",
            "base": "catalog:workshop",
            "images": {"folder": "none"},
            "learning": {"steps": 1000, "batch": BATCH},
            "structure": {"warm_up": 0.0, **ARMS[arm]},
        }
    )
    network = generator.prepare(recipe, keeps_source=recipe.structure.relative_to == "source")
    game = None
    if recipe.structure.arm != "none":
        encoder = StructureEncoder(4, recipe.structure.encoder_width)
        game = StructureGame(encoder, recipe.structure, lambda latents: latents, OneDevice())
    latents = np.random.default_rng(0).normal(size=(64, 4, 16, 16)).astype(np.float32)
    examples = Examples(latents, ["a photo of a brass pulley on a wooden bench"] * 64, np.arange(64))
    learning = recipe.learning
    learner = DenoiserLearner(network, plan_learning(learning, recipe.structure.play_every), game, OneDevice())
    return learner, EpochSampler(examples, learning.batch, learning.prompt_dropout, learning.seed)


def measure_cost(folder: Path) -> list[dict[str, Any]]:
    """Rows of time and memory of every arm; a round takes two steps of each, so that one of two plays."""
    torch.set_num_threads(1)
    made = {arm: make_learner(folder, arm) for arm in ARMS}
    spent: dict[str, list[float]] = {arm: [] for arm in ARMS}
    draws = np.random.default_rng(1)
    for turn in range(ROUNDS + 2):
        for number in draws.permutation(len(ARMS)):
            arm = list(ARMS)[number]
            learner, sampler = made[arm]
            started = time.process_time()
            for _ in range(2):
                learner.advance(sampler)
            if turn >= 2:
                spent[arm].append(time.process_time() - started)
    rows = []
    for arm, seconds in spent.items():
        ratios = [value / plain - 1 for value, plain in zip(seconds, spent["denoising"], strict=True)]
        low, _, high = statistics.quantiles(ratios, n=4)
        rate = 2 * BATCH / statistics.median(seconds)
        rows.append(row(f"cost/{arm}", "images_per_second", rate, "images a processor second"))
        rows.append(row(f"cost/{arm}", "peak_memory_mb", _peak_memory(folder, arm), "MiB"))
        if arm != "denoising":
            rows.append(row(f"cost/{arm}", "time_overhead", statistics.median(ratios), "share", low, high))
    return rows


def _peak_memory(folder: Path, arm: str) -> float:
    """Of a process of its own that makes four steps."""
    command = [sys.executable, "-m", "tests.benchmarks.training.cost", str(folder), arm]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


if __name__ == "__main__":
    torch.set_num_threads(1)
    one, data = make_learner(Path(sys.argv[1]), sys.argv[2])
    for _ in range(4):
        one.advance(data)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
