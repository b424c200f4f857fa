"""Fits the confidence of masks on the workshop, whose true masks are known. Prints what mask_confidence.py holds.

`python -m tests.benchmarks.masks.calibration [--renders 600]`. Renders, of all parts equally often, are noised to each
step that sampling records and read in one pass with their whole caption, so early and late halves are those of
sampling; no judge and no generated image has a part in it. masks/__main__.py measures the calibration on generated
images.
"""

import argparse

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import optimize

from tailforge.catalog.sources.models import MODELS, digest_model
from tailforge.schemas.jobs import ResolvedModel
from tailforge.schemas.settings.annotation import Annotation
from tailforge.tasks.methods.masks.confidence import (
    BIAS,
    WEIGHTS,
    Parts,
    list_drawn_features,
    list_features,
    list_instance_features,
)
from tailforge.tasks.methods.masks.instances import Claim, measure_component
from tailforge.tasks.methods.masks.soft_masks import Word, measure_levels, outline_words, soften_words
from tailforge.tasks.methods.sampling.rendered import cut_batches
from tailforge.tasks.methods.workshop import BALANCED, render, sample_scene
from tailforge.tasks.models.diffusers_generator import DiffusersGenerator
from tailforge.tasks.models.text_to_image import load_generator
from tests.benchmarks.masks.absent import DRAWN, NOTHING, caption_part, plant
from tests.benchmarks.masks.objects import KINDS, list_truths, make_objects, outline_objects, overlap_with
from tests.benchmarks.masks.sampled_reading import BATCH, read_like_sampling

SEED = 4242  # of no training and no other benchmark
WORDS = 40  # with a drawn part, and as many without one
PLANTED = 50  # added to SEED for words of parts that are drawn or not
PENALTY = 1e-3  # on the squared weights of standardised features
ROUNDS = 200


def measure_renders(model: DiffusersGenerator, count: int) -> tuple[list[Parts], NDArray[np.float64]]:
    """What the annotation says of `count` masks, and their true overlaps; renders without a mask are left out."""
    parts, overlaps = [], []
    for first in range(0, count, BATCH):
        scenes = [sample_scene(number, SEED, BALANCED) for number in range(first, min(first + BATCH, count))]
        renders = [render(scene) for scene in scenes]
        pictures = [caption_part(made.image, scene, scene.part) for made, scene in zip(renders, scenes, strict=True)]
        for read, made in zip(read_like_sampling(model, pictures), renders, strict=True):
            settings = Annotation()
            softened = soften_words(read.maps, [Word(0, 1)], made.image, settings)
            (found,) = outline_words(softened, settings, read.agreement).outlines
            if found.region.any():
                parts.append(found.parts)
                overlaps.append((found.region & made.mask).sum() / (found.region | made.mask).sum())
    return parts, np.array(overlaps)


def measure_instances(model: DiffusersGenerator, count: int) -> tuple[list[dict[str, float]], NDArray[np.float64]]:
    """Features of every component of `count` renders of each kind, and its overlap with a true object of its word."""
    features, overlaps = [], []
    for turn, kind in enumerate(KINDS):
        made = make_objects(model, kind, SEED + turn, count)
        for truth, (words, found) in zip(made["truth"], outline_objects(made, min_instance=0.0), strict=True):
            claims = [
                Claim(each.word.category, each.soft, outline.region)
                for each, outline in zip(words, found.outlines, strict=True)
            ]
            for each in found.instances:
                features.append(list_instance_features(*measure_component(claims, each.word, each.region)))
                overlaps.append(overlap_with(each.region, list_truths(truth, kind)[each.word]).max())
    return features, np.array(overlaps)


def fit_rivalry(model: DiffusersGenerator, count: int) -> float:
    """Return the weight of rivalry in a mask's confidence, from `count` renders of two different parts.

    By cross entropy with the overlaps. The other weights stay, since masks without a rival have none of it.
    """
    known, rivalries, overlaps = [], [], []
    made = make_objects(model, KINDS[1], SEED + 1, count)
    for truth, (_, found) in zip(made["truth"], outline_objects(made), strict=True):
        for outline, own in zip(found.outlines, truth, strict=True):
            if outline.region.any():
                features = list_features(outline.parts)
                known.append(BIAS + sum(WEIGHTS[name] * value for name, value in features.items()))
                rivalries.append(outline.rivalry)
                overlaps.append(overlap_with(outline.region, own[None])[0])

    def loss(weight: float) -> float:
        logits = np.array(known) + weight * np.array(rivalries)
        return float((np.logaddexp(0, logits) - np.array(overlaps) * logits).mean())

    return float(optimize.minimize_scalar(loss, bounds=(-30.0, 0.0), method="bounded").x)


def measure_drawn(model: DiffusersGenerator, count: int) -> tuple[list[dict[str, float]], NDArray[np.float64]]:
    """Features of `count` words whose part is drawn and of as many whose part is not, and 1 or 0."""
    features, drawn = [], []
    for turn, case in enumerate((DRAWN, NOTHING)):
        pictures = [plant(case, number, SEED + PLANTED + turn)[0] for number in range(count)]
        for batch in cut_batches(pictures, BATCH):
            for picture, read in zip(batch, read_like_sampling(model, batch), strict=True):
                assert read.agreement is not None
                (softened,) = soften_words(read.maps, [Word(0, 1)], picture.pixels, Annotation())
                features.append(list_drawn_features(measure_levels(softened.soft), read.agreement[0]))
                drawn.append(float(case == DRAWN))
    return features, np.array(drawn)


def fit(features: list[dict[str, float]], overlaps: NDArray[np.float64]) -> tuple[dict[str, float], float]:
    """Weights and bias of a logistic function of the features, by cross entropy with the overlaps."""
    names = list(features[0])
    rows = np.array([list(each.values()) for each in features])
    mean, spread = rows.mean(0), rows.std(0) + 1e-9
    inputs, target = torch.from_numpy((rows - mean) / spread), torch.from_numpy(overlaps)
    weights = torch.zeros(len(names) + 1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=ROUNDS)

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        logits = inputs @ weights[1:] + weights[0]
        total = torch.nn.functional.binary_cross_entropy_with_logits(logits, target)
        total = total + PENALTY * (weights[1:] ** 2).sum()
        total.backward()  # type: ignore[no-untyped-call]
        return total

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    found = weights.detach().numpy()
    scaled = found[1:] / spread
    return dict(zip(names, map(float, scaled), strict=True)), float(found[0] - scaled @ mean)


def main() -> None:
    """Fit and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--renders", type=int, default=600)
    count = parser.parse_args().renders
    folder = MODELS / "workshop"
    model = load_generator(ResolvedModel(path=str(folder), digest=digest_model(folder)))
    parts, overlaps = measure_renders(model, count)
    weights, bias = fit([list_features(each) for each in parts], overlaps)
    agreements = [each.agreement for each in parts if each.agreement is not None]
    print(f"{len(parts)} masks, mean overlap {overlaps.mean():.3f}, standard deviation {overlaps.std():.3f}")
    print("WEIGHTS =", {name: round(value, 4) for name, value in weights.items()})
    print("BIAS =", round(bias, 4))
    print("USUAL_AGREEMENT =", round(float(np.mean(agreements)), 3))
    print("RIVALRY =", round(fit_rivalry(model, count // len(KINDS)), 2))

    features, overlaps = measure_instances(model, count // len(KINDS))
    weights, bias = fit(features, overlaps)
    print(f"{len(features)} instances, mean overlap {overlaps.mean():.3f}")
    print("INSTANCE_WEIGHTS =", {name: round(value, 4) for name, value in weights.items()})
    print("INSTANCE_BIAS =", round(bias, 4))

    features, drawn = measure_drawn(model, WORDS)
    weights, bias = fit(features, drawn)
    print(f"{len(features)} words, share drawn {drawn.mean():.3f}")
    print("DRAWN_WEIGHTS =", {name: round(value, 4) for name, value in weights.items()})
    print("DRAWN_BIAS =", round(bias, 4))


if __name__ == "__main__":
    main()
