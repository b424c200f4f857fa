"""Choose the noise in the regions of an image: the best of several, compared with known defects.

A candidate is drawn with few steps and put into its photograph. The guide, an image encoder, looks at the crop around
each region alone, and scores the crop by its cosine with a target t. For the mean m of the known defects' features and
the feature p of the photograph's own crop, all of length 1,

    t = m / |m|                  centroid, as SeedSelect has it (arXiv 2304.14530)
    t = (m - p) / |m - p|        difference, our choice: p holds the part, its colour and the light

Candidates differ in the cells of the regions alone, so the rest of an image starts from one noise.

Letters of shapes: B images, C channels, D features, R known defects; H and W of a photograph in pixels.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn.functional import normalize

from tailforge.schemas.jobs import SampleSpec
from tailforge.schemas.settings.inpaint import RegionSearch
from tailforge.tasks.methods.inpainting.shapes import Region
from tailforge.tasks.methods.inpainting.windows import Pixels
from tailforge.tasks.methods.sampling.pixels import to_tensor
from tailforge.tasks.methods.seed_select.aim import ImageEncoder
from tailforge.tasks.methods.seed_select.search import candidate_seed, rounded

AROUND = 1.5  # side of a crop, as a multiple of the region's longer side; our choice
SMALLEST = 16  # side of the smallest crop in pixels; our choice
WORST = -2.0  # score of a drawing that is not finite: below any cosine

Draw = Callable[[Sequence[int]], list[Pixels | None]]  # the images [H, W, 3] of a batch by the seeds of their noise


@dataclass(frozen=True)
class Guide:
    """The encoder, the unit features [R, D] of a concept's known defects, and the settings of the search."""

    encoder: ImageEncoder
    defects: Tensor
    settings: RegionSearch

    def target(self, photograph: Pixels, regions: Sequence[Region]) -> Tensor:
        """Return the unit vector [D] that crops of a photograph [H, W, 3] are compared with."""
        # The mean of the known defects, without what the photograph has as well.
        mean = self.defects.mean(0)
        if self.settings.target == "difference":
            mean = normalize(mean, dim=-1) - embed_crops(self.encoder, [cut_crop(photograph, each) for each in regions])
        return normalize(mean, dim=-1)


@dataclass(frozen=True)
class Choice:
    """The chosen candidate of an image by its number, the seed of its noise, and the scores of all candidates."""

    number: int
    seed: int
    scores: tuple[float, ...]


def cut_crop(image: Pixels, region: Region) -> Pixels:
    """Return the square of an image [H, W, 3] around a region [H, W]; smaller where the image is smaller."""
    # The region's box, and a square around its centre that ends at the image's borders.
    (box,) = ndimage.find_objects(region.astype(np.uint8))
    longest = max(each.stop - each.start for each in box)
    # At least SMALLEST, so that a spot is seen in its surroundings.
    side = max(round(AROUND * longest), SMALLEST)

    # Moved into the image where it reaches over a border.
    inside = []
    for each, limit in zip(box, region.shape, strict=True):
        start = min(max((each.start + each.stop - side) // 2, 0), max(limit - side, 0))
        inside.append(slice(start, min(start + side, limit)))
    return np.ascontiguousarray(image[tuple(inside)])


def embed_crops(encoder: ImageEncoder, crops: Sequence[Pixels]) -> Tensor:
    """Return the mean unit feature [D] of crops [h, w, 3], again of length 1."""
    return normalize(embed_each(encoder, crops).mean(0), dim=-1)


@torch.inference_mode()
def embed_each(encoder: ImageEncoder, crops: Sequence[Pixels]) -> Tensor:
    """Return the unit features [N, D] of N crops [h, w, 3] of any sizes."""
    # One by one: crops have sizes of their own, which the encoder scales.
    features = [encoder.embed_pixels(to_tensor(crop[None])) for crop in crops]
    return normalize(torch.cat(features).float(), dim=-1)


def choose_seeds(
    guide: Guide,
    samples: Sequence[SampleSpec],
    photographs: Sequence[tuple[Pixels, Sequence[Region]]],
    draw: Draw,
) -> list[Choice]:
    """Return the choice of each sample of a batch. `photographs`: those of the samples [H, W, 3] with their regions."""
    targets = [guide.target(*each) for each in photographs]

    # Candidate 0 is the image's own noise; of equal scores the first counts.
    scores = []
    for number in range(guide.settings.candidates):
        images = draw([candidate_seed(sample, number) for sample in samples])
        looked = zip(images, photographs, targets, strict=True)
        scores.append([score(guide.encoder, image, regions, target) for image, (_, regions), target in looked])

    # The best candidate of each sample, over all scores of it.
    choices = []
    for sample, own in zip(samples, zip(*scores, strict=True), strict=True):
        best = int(np.argmax(own))
        choices.append(Choice(best, candidate_seed(sample, best), own))
    return choices


def score(encoder: ImageEncoder, image: Pixels | None, regions: Sequence[Region], target: Tensor) -> float:
    """Return the cosine of an image's crops [H, W, 3] with a target [D]; WORST for an image that is not finite."""
    if image is None:
        return WORST
    # A sample's crops count together, one per region.
    found = float(embed_crops(encoder, [cut_crop(image, region) for region in regions]) @ target)
    return found if np.isfinite(found) else WORST


def describe_choice(choice: Choice, guide: Guide, network_calls: int) -> dict[str, object]:
    """Return the facts of a choice for the image's provenance. `network_calls`: of search and drawing."""
    return {
        "candidate": choice.number,
        "candidate_score": rounded(choice.scores[choice.number]),
        "own_score": rounded(choice.scores[0]),
        "known_defects": len(guide.defects),
        "forward_evaluations": network_calls,
        "backward_evaluations": 0,
    }
