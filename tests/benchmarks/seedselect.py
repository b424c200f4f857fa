"""SeedSelect on the embedded generator, beside its rivals and controls. `make bench-seedselect`.

`python -m tests.benchmarks.seedselect [--work DIR] [--arms ...] [--seeds ...] [--images N]` makes the images that are
missing in DIR, arm by arm, part by part and seed by seed (so it can be stopped, and several may run side by side on
different seeds), then writes docs/benchmarks/seedselect.{json,md} and a figure from all that DIR holds.
`--references DIR` only writes the reference pictures of the catalog's recipe.
"""

import argparse
import json
import resource
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from catalog.model_files import MODELS, digest_model
from schemas.engines import BestOfNEngine, SearchEngine, SeedSelectEngine, ZeroOrderEngine
from schemas.jobs import ResolvedModel, SampleSpec
from tasks.methods.clock import Clock
from tasks.methods.generator import ImageGenerator
from tasks.methods.plain_sampling import Rendered, render_plain
from tasks.methods.plan_samples import derive_seed
from tasks.methods.seed_select.aim import Aim
from tasks.methods.seed_select.engine import Goal, find_noise, render_searched
from tasks.methods.workshop import BALANCED, MATERIALS, PARTS, SURFACES, TAIL_PARTS, render, sample_scene
from tasks.models.clip import ClipScorer, load_clip
from tasks.models.text_to_image import load_generator
from tests.benchmarks.seedselect_page import COMMON, write_page

REFERENCE_SEED = 987_654  # no pool of the training recipe has it
REFERENCES = 5
SAMPLING: dict[str, Any] = {"steps": 16, "guidance": 3.0, "batch_size": 8, "checkpointing": False}
FOUND_SEEDS = 6
ARMS: dict[str, SearchEngine] = {
    "plain": SeedSelectEngine(**SAMPLING, candidates=1, iterations=0),
    "best_of_n": BestOfNEngine(**{k: v for k, v in SAMPLING.items() if k != "checkpointing"}, candidates=32),
    "zero_order": ZeroOrderEngine(
        **{k: v for k, v in SAMPLING.items() if k != "checkpointing"}, candidates=8, rounds=4, neighbours=6
    ),
    "published": SeedSelectEngine(preset="published", guidance=3.0, batch_size=4, checkpointing=False),
    "ours": SeedSelectEngine(**SAMPLING),
    "ours_bootstrapped": SeedSelectEngine(**SAMPLING, mode="bootstrapped", candidates=4, found_seeds=FOUND_SEEDS),
}


# One setting of ours changed at a time; `--arms` names them, by default they are not run.
ABLATIONS: dict[str, SearchEngine] = {
    f"ours/{name}": SeedSelectEngine(**SAMPLING | changes)
    for name, changes in {
        "centroid": {"target": "centroid"},
        "subsets of three references": {"references_per_image": 3},
        "no screening": {"candidates": 1},
        "no steps": {"iterations": 0},
        "longer steps": {"step_size": 0.1},
        "no stop": {"stop": None},
        "one view": {"views": 1},
        "adamw": {"optimizer": "adamw", "step_size": 0.1, "later_step_size": 0.01},
        "appearance": {"appearance_weight": 1.0},
        "repulsion": {"repulsion_weight": 2.0},
        "unconditional gradient": {"unconditional_gradient": True},
        "gradient of last 8 steps": {"grad_steps": 8},
    }.items()
}
ENGINES = ARMS | ABLATIONS


@dataclass(frozen=True)
class Bench:
    """The models, loaded once."""

    model: ImageGenerator
    encoder: ClipScorer


def open_bench() -> Bench:
    """The embedded generator with its own CLIP as the guide."""
    workshop = MODELS / "workshop"
    model = load_generator(ResolvedModel(path=str(workshop), digest=digest_model(workshop)))
    return Bench(model, load_clip(ResolvedModel(path=str(workshop), subfolder="clip", digest="guide")))


def render_references(part: str, count: int, seed: int) -> list[NDArray[np.uint8]]:
    """Renders of a part in materials and surfaces as they come."""
    found, index = [], 0
    while len(found) < count:
        scene = sample_scene(index, seed, BALANCED)
        if scene.part == part:
            found.append(render(scene).image)
        index += 1
    return found


def request(part: str, name: str, count: int) -> list[SampleSpec]:
    """Samples of a part, materials and surfaces in turn."""
    samples = []
    for number in range(count):
        sample_id = f"{derive_seed(f'{name}-{part}-{number}', 'benchmark'):016x}"
        material, surface = MATERIALS[number % len(MATERIALS)], SURFACES[(number + number // 6) % len(SURFACES)]
        prompt = f"a photo of a {material} {part} on a {surface}"
        samples.append(
            SampleSpec(
                sample_id=sample_id,
                seed=derive_seed(sample_id),
                prompt_index=number,
                replica=0,
                prompt=prompt,
                slots=(),
            )
        )
    return samples


@torch.no_grad()
def make_goal(bench: Bench, part: str, seed: int, engine: SearchEngine) -> Goal:
    """The aim at a part, from references of this seed and plain samples."""
    to_tensor = [torch.from_numpy(image).permute(2, 0, 1)[None].float() / 127.5 - 1
                 for image in render_references(part, REFERENCES, REFERENCE_SEED + seed)]  # fmt: skip
    references = torch.cat([bench.encoder.embed_pixels(image) for image in to_tensor])
    latents = torch.cat([bench.model.encode(image) for image in to_tensor]).mean(0)
    few = engine.model_copy(update={"steps": engine.few_steps, "batch_size": 16})
    plain = [
        bench.encoder.embed_pixels(torch.from_numpy(made.pixels).permute(2, 0, 1)[None].float() / 127.5 - 1)
        for made in render_plain(bench.model, request(part, f"aim-{seed}", engine.plain_samples), few, None, Clock())
        if made.pixels is not None
    ]
    return Goal(bench.encoder, Aim(references, torch.cat([*plain, references[:0]]), latents))


def run(bench: Bench, arm: str, part: str, seed: int, count: int) -> tuple[list[Rendered], float, float]:
    """Images of one arm, part and seed; seconds an image; for bootstrapped, of them those of finding the seeds."""
    engine = ENGINES[arm]
    goal = make_goal(bench, part, seed, engine)
    samples, found_in = request(part, f"{seed}", count), 0.0
    started = time.perf_counter()
    if isinstance(engine, SeedSelectEngine) and engine.mode == "bootstrapped":
        full = engine.model_copy(update={"mode": "full", "candidates": ARMS["ours"].candidates})
        found = find_noise(bench.model, request(part, f"seeds-{seed}", FOUND_SEEDS), full, goal, Clock())
        sure = [each for each in found if (each.record["confidence"] or 0) >= (engine.stop or 0)] or found
        goal = Goal(goal.encoder, goal.aim, None, torch.stack([each.noise for each in sure]))
        found_in = time.perf_counter() - started
    made = list(render_searched(bench.model, samples, engine, goal, None, Clock()))
    return made, (time.perf_counter() - started - found_in) / count, found_in


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
    parser.add_argument("--images", type=int, default=6, help="images of each arm, part and seed")
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
    write_page(words.work, [render_references(part, 200, REFERENCE_SEED + 100) for part in [*TAIL_PARTS, *COMMON]])
    return None


if __name__ == "__main__":
    main()
