"""SeedSelect on the embedded generator, beside its rivals and controls. `make bench-seedselect`.

`python -m tests.benchmarks.seedselect [--work DIR] [--arms ...] [--seeds ...] [--images N]` makes the images that are
missing in DIR, arm by arm, part by part and seed by seed (so it can be stopped, and several may run side by side on
different seeds), measures the guide and the memory, then writes docs/benchmarks/seedselect.{json,md} and a figure from
all that DIR holds.
`--references DIR` only writes the reference pictures of the catalog's recipe.
"""

import argparse
import json
import resource
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from tailforge.catalog.sources.models import MODELS
from tailforge.schemas.settings.engines import BestOfNEngine, SearchEngine, SeedSelectEngine, ZeroOrderEngine
from tailforge.tasks.methods.sampling.clock import Clock
from tailforge.tasks.methods.sampling.rendered import Rendered
from tailforge.tasks.methods.seed_select.engine import Seeds, find_noise, render_searched
from tailforge.tasks.methods.workshop import PARTS, TAIL_PARTS
from tailforge.tasks.models.judges import load_judges
from tests.benchmarks.seedselect.guide import guide_rows, make_guide_images
from tests.benchmarks.seedselect.memory import memory_rows
from tests.benchmarks.seedselect.page import write_page
from tests.benchmarks.seedselect.parts import (
    REFERENCE_SEED,
    REFERENCES,
    Bench,
    make_goal,
    open_bench,
    render_references,
    request,
)
from tests.benchmarks.seedselect.rows import COMMON

SAMPLING: dict[str, Any] = {"steps": 16, "guidance": 3.0, "batch_size": 8, "checkpointing": False}
ARMS: dict[str, SearchEngine] = {
    "plain": SeedSelectEngine(**SAMPLING, candidates=1, iterations=0),
    "best_of_n": BestOfNEngine(**{k: v for k, v in SAMPLING.items() if k != "checkpointing"}, candidates=40),
    "zero_order": ZeroOrderEngine(
        **{k: v for k, v in SAMPLING.items() if k != "checkpointing"}, candidates=8, rounds=5, neighbours=6
    ),
    "published": SeedSelectEngine(preset="published", guidance=3.0, batch_size=4, checkpointing=False),
    "ours": SeedSelectEngine(**SAMPLING),
    "ours_bootstrapped": SeedSelectEngine(**SAMPLING, mode="bootstrapped", rounds=5, iterations=10),
}


# One setting of ours changed at a time; `--arms` names them, by default they are not run.
CHANGES: dict[str, dict[str, Any]] = {
    "centroid": {"target": "centroid"},
    "subsets of three references": {"references_per_image": 3},
    "no screening": {"candidates": 1},
    "one finalist": {"finalists": 1},
    "no steps": {"iterations": 0},
    "longer steps": {"step_size": 0.1},
    "no stop": {"stop": None},
    "one view": {"views": 1},
    "adamw": {"optimizer": "adamw", "step_size": 0.1, "later_step_size": 0.01},
    "appearance": {"appearance_weight": 1.0},
    "repulsion": {"repulsion_weight": 2.0},
    "unconditional gradient": {"unconditional_gradient": True},
    "gradient of last 8 steps": {"grad_steps": 8},
}
ABLATIONS: dict[str, SearchEngine] = {
    f"ours/{name}": SeedSelectEngine(**SAMPLING | changes) for name, changes in CHANGES.items()
}
OTHER_PROMPTS = "ours_bootstrapped/noises of other prompts"
ABLATIONS |= {OTHER_PROMPTS: ARMS["ours_bootstrapped"]}
ENGINES = ARMS | ABLATIONS


def run(bench: Bench, arm: str, part: str, seed: int, count: int) -> tuple[list[Rendered], float, float]:
    """Images of one arm, part and seed; processor seconds an image, and of finding the seeds."""
    engine = ENGINES[arm]
    goal = make_goal(bench, part, seed, engine)
    samples, found_in = request(part, f"{seed}", count), 0.0
    started = time.process_time()  # other work on the machine does not count
    if isinstance(engine, SeedSelectEngine) and engine.mode == "bootstrapped":
        wanted = request(part, f"seeds-{seed}", count)
        found = find_noise(bench.model, wanted, engine.model_copy(update={"mode": "full"}), goal, Clock())
        prompts = ["" if arm == OTHER_PROMPTS else sample.prompt for sample in wanted]
        goal = replace(goal, seeds=Seeds(torch.stack([each.noise for each in found]), prompts))
        found_in = time.process_time() - started
    made = list(render_searched(bench.model, samples, engine, goal, None, Clock()))
    return made, (time.process_time() - started - found_in) / count, found_in


def save(file: Path, made: Sequence[Rendered], seconds: float, found_in: float) -> None:
    """One arm, part and seed, written whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_suffix(".tmp.npz")
    pixels = [np.zeros((64, 64, 3), np.uint8) if row.pixels is None else row.pixels for row in made]
    np.savez(
        beside,
        images=np.stack(pixels),
        provenance=json.dumps([row.provenance for row in made]),
        seconds=seconds,
        found_in=found_in,
        peak_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    )
    beside.replace(file)


def write_references(folder: Path) -> None:
    """The pictures that catalog/recipes/workshop_rare.yaml names."""
    for part in TAIL_PARTS:
        own = folder / part.replace(" ", "_")
        own.mkdir(parents=True, exist_ok=True)
        for number, image in enumerate(render_references(part, REFERENCES, REFERENCE_SEED)):
            Image.fromarray(image).save(own / f"{number}.png")


def main() -> None:
    """Make what is missing and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("work/seedselect"))
    parser.add_argument("--arms", nargs="*", choices=list(ENGINES), default=list(ARMS))
    parser.add_argument("--parts", nargs="*", choices=list(PARTS), default=[*TAIL_PARTS, *COMMON])
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--images", type=int, default=8, help="images of each arm, part and seed")
    parser.add_argument("--references", type=Path)
    words = parser.parse_args()
    if words.references:
        return write_references(words.references)
    bench = open_bench()
    for arm in words.arms:
        for part in words.parts:
            for seed in words.seeds:
                file = words.work / arm.replace("/", "__") / f"{part.replace(' ', '_')}-{seed}.npz"
                if not file.exists():
                    save(file, *run(bench, arm, part, seed, words.images))
                    print(file, flush=True)
    make_guide_images(bench, SeedSelectEngine(**SAMPLING), words.work)
    extra = [*guide_rows(bench, load_judges(MODELS / "judges"), words.work), *memory_rows(words.work)]
    renders = [render_references(part, 200, REFERENCE_SEED + 100) for part in [*TAIL_PARTS, *COMMON]]
    write_page(words.work, renders, extra)
    return None


if __name__ == "__main__":
    main()
