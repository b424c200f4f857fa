"""How well the guide of a search tells right images from wrong ones, by the word of the independent judge.

For every rare part: plain images of one noise each, after few and after all denoising steps; the judge's word on the
finished image; scores with targets from several sets of references. The figure is the area under the curve within one
prompt: of two noises for the same words, how often the better score is the right image.
"""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from tailforge.schemas.jobs import SampleSpec
from tailforge.schemas.settings.engines import SeedSelectEngine
from tailforge.tasks.methods.sampling.clock import Clock
from tailforge.tasks.methods.sampling.pixels import to_tensor
from tailforge.tasks.methods.sampling.plain import render_plain
from tailforge.tasks.methods.seed_select.aim import Aim, choose_references
from tailforge.tasks.methods.workshop import PARTS, TAIL_PARTS
from tailforge.tasks.models.judges import Judges
from tests.benchmarks.pages import row
from tests.benchmarks.seedselect.parts import REFERENCE_SEED, REFERENCES, Bench, render_references, request

NOISES = 4  # of each prompt
PROMPTS = 36
REFERENCE_SETS = 8


def make_guide_images(bench: Bench, engine: SeedSelectEngine, work: Path) -> None:
    """Plain images of every rare part, where `work` does not hold them."""
    for part in TAIL_PARTS:
        file = work / "guide" / f"{part.replace(' ', '_')}.npz"
        if file.exists():
            continue
        samples = request(part, "guide", NOISES * PROMPTS)
        few = engine.model_copy(update={"steps": engine.few_steps, "batch_size": 16})
        made: dict[str, Any] = {
            "few": draw_plain(bench, samples, few),
            "all": draw_plain(bench, samples, engine),
            "plain": draw_plain(bench, request(part, "guide-plain", engine.plain_samples), few),
        }
        file.parent.mkdir(parents=True, exist_ok=True)
        beside = file.with_suffix(".tmp.npz")
        np.savez(beside, prompts=np.array([sample.prompt for sample in samples]), **made)
        beside.replace(file)
        print(file, flush=True)


def draw_plain(bench: Bench, samples: Sequence[SampleSpec], engine: SeedSelectEngine) -> NDArray[np.uint8]:
    """Images [N, H, W, 3] of the samples' own noise."""
    made = render_plain(bench.model, samples, engine, None, Clock())
    return np.stack([each.pixels for each in made if each.pixels is not None])


@torch.no_grad()
def guide_rows(bench: Bench, judges: Judges, work: Path) -> list[dict[str, Any]]:
    """Rows of all targets: mean over parts and reference sets; the interval is from the lowest part to the highest."""
    curves: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for part in TAIL_PARTS:
        with np.load(work / "guide" / f"{part.replace(' ', '_')}.npz") as data:
            right = judges.classify(data["all"])[:, 0] == PARTS.index(part)
            features = {name: embed(bench, data[name]) for name in ("few", "all", "plain")}
            prompts = data["prompts"]
        references = embed(bench, np.stack(render_references(part, REFERENCE_SETS * REFERENCES, REFERENCE_SEED)))
        for first in range(0, len(references), REFERENCES):
            aim = Aim(references[first : first + REFERENCES], features["plain"], references[0])
            for target, direction in targets(aim).items():
                for name in ("few", "all"):
                    scores = (functional.normalize(features[name], dim=-1) @ direction).numpy()
                    curves[target, name][part].append(curve_within(scores, right, prompts))
    return [
        _curve_row(target, name, [float(np.mean(values)) for values in by_part.values()])
        for (target, name), by_part in curves.items()
    ]


def _curve_row(target: str, name: str, parts: Sequence[float]) -> dict[str, Any]:
    return row(f"guide/{target}", f"area_{name}_steps", float(np.mean(parts)), "share", min(parts), max(parts))


def targets(aim: Aim) -> dict[str, Tensor]:
    """The two targets that a recipe can name, and the difference whitened by the plain samples' covariance."""
    everyone = choose_references(len(aim.references), None, torch.Generator())
    plain = functional.normalize(aim.plain, dim=-1)
    covariance = torch.cov(plain.T)
    shrunk = covariance + covariance.trace() / len(covariance) * torch.eye(len(covariance))
    gap = aim.units.mean(0) - aim.plain_mean
    return {
        "centroid": aim.target(everyone, "centroid"),
        "difference": aim.target(everyone, "difference"),
        "whitened": functional.normalize(torch.linalg.solve(shrunk, gap), dim=-1),
    }


def embed(bench: Bench, images: NDArray[np.uint8]) -> Tensor:
    """The guide's features [N, D]."""
    parts = [bench.encoder.embed_pixels(to_tensor(images[i : i + 64])) for i in range(0, len(images), 64)]
    return torch.cat(parts).cpu()


def curve_within(scores: NDArray[Any], right: NDArray[Any], prompts: NDArray[Any]) -> float:
    """Share of pairs of a right and a wrong image of one prompt in which the right one scores higher."""
    won, pairs = 0, 0
    for prompt in np.unique(prompts):
        own = prompts == prompt
        better = scores[own & right][:, None] > scores[own & ~right][None]
        won, pairs = won + int(better.sum()), pairs + better.size
    return won / pairs
