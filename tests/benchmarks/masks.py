"""Masks from the embedded generator's attention: of images that it makes, and of renders that it is asked about.

`python -m tests.benchmarks.masks [--images 60]` adds rows `mask_miou` (arms: every part, `head`, `tail`) to
docs/benchmarks/generator.json. A row is the mean over all images of a part, well drawn or not, of the intersection
over union of our mask and the segmenter's; the interval is the normal one, 95 %, over images. Arms `renoised/NOISE` are
renders, noised so far and read in one pass with the caption "a photo of a PART"; their masks are held against the
renderer's.
"""

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from catalog.model_files import MODELS, digest_model
from schemas.engines import PlainEngine
from schemas.jobs import ResolvedModel, SampleSpec, Slot
from schemas.quality import Annotation
from tasks.methods.clock import Clock
from tasks.methods.measure_generator import NORMAL_95, Request, plan_requests
from tasks.methods.plain_sampling import Rendered, render_plain
from tasks.methods.renoised_attention import Captioned, read_attention
from tasks.methods.soft_masks import mask_from_attention
from tasks.methods.workshop import (
    BALANCED,
    HEAD_PARTS,
    MATERIALS,
    PARTS,
    SURFACES,
    TAIL_PARTS,
    render,
    sample_scene,
)
from tasks.models.judges import load_judges
from tasks.models.text_to_image import DiffusersGenerator, load_generator
from tests.benchmarks.pages import markdown_table, row, write_json

SEED = 11
RENDER_SEED = 991  # of no training
NOISE = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)


def specify(number: int, request: Request) -> SampleSpec:
    """The request as a sample with slots."""
    part, material, surface = request.labels
    named = (("material", MATERIALS[material]), ("concept", PARTS[part]), ("surface", SURFACES[surface]))
    starts = {name: request.prompt.index(value) for name, value in named}
    slots = tuple(Slot(name=name, value=v, start=starts[name], end=starts[name] + len(v)) for name, v in named)
    return SampleSpec(
        sample_id=f"{number:016x}",
        seed=request.seed,
        prompt_index=number,
        replica=0,
        prompt=request.prompt,
        slots=slots,
    )


def intersection_over_union(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    """1 where both are empty."""
    union = (first | second).sum()
    return float((first & second).sum() / union) if union else 1.0


def measure(generator: Path, judges: Path, images: int) -> list[dict[str, object]]:
    """Rows of the benchmark."""
    requests = plan_requests(images, SEED)
    model = load_generator(ResolvedModel(path=str(generator), digest=digest_model(generator)))
    samples, annotation = [specify(n, request) for n, request in enumerate(requests)], Annotation()
    rendered = list(render_plain(model, samples, PlainEngine(), annotation.recorded, Clock()))
    scores = score_masks(rendered, judges, annotation)
    parts = np.array([request.labels[0] for request in requests])
    arms = {part: parts == number for number, part in enumerate(PARTS)}
    for name, members in (("head", HEAD_PARTS), ("tail", TAIL_PARTS)):
        arms[name] = np.isin(parts, [PARTS.index(part) for part in members])
    made = [summarise(arm, scores[chosen]) for arm, chosen in arms.items()]
    return [*made, *measure_renders(model, 2 * images)]


def score_masks(rendered: list[Rendered], judges: Path, annotation: Annotation) -> NDArray[np.float64]:
    """Intersection over union of every image; 0 for an image that failed."""
    segmenter, scores = load_judges(judges), np.zeros(len(rendered))
    for number, made in enumerate(rendered):
        if made.pixels is None or made.attention is None:
            continue
        height, width, _ = made.pixels.shape
        found = mask_from_attention(made.attention, 1, 1, height, width, annotation)
        scores[number] = intersection_over_union(found.mask == 1, segmenter.segment(made.pixels[None])[0])
    return scores


def measure_renders(model: DiffusersGenerator, count: int) -> list[dict[str, object]]:
    """Masks of renders, read back after noise, against the true ones."""
    scenes = [sample_scene(number, RENDER_SEED, BALANCED) for number in range(count)]
    renders, prefix, settings = [render(scene) for scene in scenes], "a photo of a ", Annotation()
    pictures = [
        Captioned(made.image, prefix + scene.part, ((len(prefix), len(prefix + scene.part)),), number)
        for number, (scene, made) in enumerate(zip(scenes, renders, strict=True))
    ]
    rows = []
    for noise in NOISE:
        maps = read_attention(model, pictures, noise, Annotation(kind="renoised_attention").draws)
        scores = []
        for soft, made in zip(maps, renders, strict=True):
            height, width = made.mask.shape
            found = mask_from_attention(soft.maps, 0, 1, height, width, settings)
            scores.append(intersection_over_union(found.mask == 1, made.mask))
        rows.append(summarise(f"renoised/{noise}", np.array(scores)))
    return rows


def summarise(arm: str, scores: NDArray[np.float64]) -> dict[str, object]:
    """One row."""
    mean, spread = float(scores.mean()), NORMAL_95 * float(scores.std(ddof=1)) / len(scores) ** 0.5
    return row(arm, "mask_miou", mean, "share", mean - spread, mean + spread)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=60, help="images of each part")
    parser.add_argument("--generator", type=Path, default=MODELS / "workshop")
    parser.add_argument("--judges", type=Path, default=MODELS / "judges")
    arguments = parser.parse_args()
    rows = measure(arguments.generator, arguments.judges, arguments.images)
    write_json("generator", [SEED], rows)
    print(markdown_table(rows))


if __name__ == "__main__":
    main()
