"""Compare masks of drawn defects with what changed in the photograph.

Truth is what the published picture shows: the pixels whose colour differs visibly from that of its photograph.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from tailforge.tasks.methods.inpainting.change import to_lab
from tests.benchmarks.masks.rows import overlap
from tests.benchmarks.pages import row
from tests.benchmarks.seedselect.rows import over_seeds

VISIBLE = 2.3  # CIELAB distance that is just noticeable (Mahy et al. 1994); our choice of a truth
TOLERANCE = 0.008  # of the image's diagonal, for the boundary (Perazzi et al., CVPR 2016)
UNITS = {"pictures": "pictures", "own_change": "CIELAB distance"}

Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Published:
    """A published image [H, W, 3] with its mask [H, W], its photograph [H, W, 3] and the regions [H, W] drawn into.

    `exact`: a truth [H, W] that is known without looking at the image; None if there is none.
    """

    image: Pixels
    mask: Mask
    photograph: Pixels
    regions: Mask
    exact: Mask | None = None


def differ_visibly(image: Pixels, photograph: Pixels) -> Mask:
    """Return the pixels [H, W] whose colours differ visibly between two images [H, W, 3]."""
    return np.asarray(np.linalg.norm(to_lab(image) - to_lab(photograph), axis=-1) >= VISIBLE)


def match_boundary(found: Mask, truth: Mask) -> float:
    """Return the F-score of a mask's boundary [H, W] with that of the truth, 0..1; 1 where both are empty.

    A pixel of one boundary is right if the other has one at most `TOLERANCE` of the diagonal away, rounded up: the
    measure F of DAVIS (Perazzi et al., CVPR 2016).
    """
    if not found.any() or not truth.any():
        return float(not found.any() and not truth.any())
    reach = math.ceil(TOLERANCE * math.hypot(*truth.shape))
    across = np.arange(-reach, reach + 1)
    disk = across**2 + across[:, None] ** 2 <= reach**2
    edges = [mask & ~ndimage.binary_erosion(mask) for mask in (found, truth)]
    precision, recall = (
        float((own & ndimage.binary_dilation(other, disk)).sum() / own.sum()) for own, other in (edges, reversed(edges))
    )
    return 0.0 if precision + recall == 0 else 2 * precision * recall / (precision + recall)


def score(published: Published) -> dict[str, float]:
    """Return the figures of one picture."""
    image, photograph, outside = published.image, published.photograph, ~published.regions
    visible = differ_visibly(image, photograph)
    found = {
        "mask_iou": float(overlap(published.mask, visible)),
        "boundary_f": match_boundary(published.mask, visible),
        "outside_changed": float((image != photograph).any(axis=-1)[outside].mean()),
        "mask_share": float(published.mask.sum() / published.regions.sum()),
    }
    if published.exact is not None:
        found["exact_iou"] = float(overlap(published.mask, published.exact))
        found["exact_boundary_f"] = match_boundary(published.mask, published.exact)
    return found


def score_arm(arm: str, by_seed: Mapping[int, Sequence[Published]]) -> Iterator[dict[str, Any]]:
    """Yield the rows of an arm: means over pictures, then over seeds."""
    means: dict[str, list[float]] = defaultdict(list)
    for pictures in by_seed.values():
        scores = [score(each) for each in pictures]
        for metric in scores[0]:
            means[metric].append(float(np.mean([each[metric] for each in scores])))
    yield from (over_seeds(arm, metric, values, "share") for metric, values in means.items())
    yield row(arm, "pictures", sum(map(len, by_seed.values())), "pictures")
