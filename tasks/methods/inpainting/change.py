"""Find what was drawn: the share of a drawing that is kept, and the labels of the part that visibly changed.

The change of a pixel is its distance in CIELAB (CIE 1976, D65). An autoencoder alone changes pixels, too. So a drawing
is compared with the photograph after the autoencoder, and counts where it changes the average over neighbours by more
than the autoencoder does. Elsewhere the photograph stays, and the finished image differs from it by what was drawn.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage, stats

from tailforge.tasks.methods.inpainting.shapes import Region
from tailforge.tasks.methods.inpainting.windows import Window
from tailforge.tasks.methods.masks.components import fill_holes, keep_components, split_components
from tailforge.tasks.methods.masks.confidence import Parts
from tailforge.tasks.methods.masks.levels import count_levels, split_levels

# sRGB to XYZ (IEC 61966-2-1), and the white point D65.
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
WHITE = np.array([0.9505, 1.0, 1.089])
NOTICEABLE = 2.3  # just noticeable distance (Mahy et al. 1994)
SMOOTHING = 0.7  # deviation of the average over neighbours, in pixels; our choice
OWN_CHANGE = 0.95  # share of a region's pixels that the autoencoder alone changes by less; our choice
LEAST_DRAWN = 0.1  # share of the regions that must change; our choice
UNDRAWN = "nothing was drawn"  # beginning of a mask's error

Change = NDArray[np.float32]


@dataclass(frozen=True)
class ChangedRegion:
    """The label of one image: `components` [H, W] each, the scores of all together, and an expected overlap 0..1."""

    components: list[Region]
    parts: Parts
    confidence: float
    drawn: float  # share of the regions that changed

    @property
    def is_empty(self) -> bool:
        """Return whether nothing was drawn."""
        return self.drawn < LEAST_DRAWN or not self.components


def to_lab(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Convert sRGB pixels [..., 3] to CIELAB [..., 3]: L 0..100, a and b."""
    # Undo the transfer function, then go to XYZ relative to white.
    values = pixels.astype(np.float64) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    relative = linear @ TO_XYZ.T / WHITE

    # The cube root, linear near black.
    f = np.where(relative > (6 / 29) ** 3, np.cbrt(relative), relative / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], axis=-1)


def measure_change(photograph: NDArray[np.uint8], image: NDArray[np.uint8], regions: Sequence[Region]) -> Change:
    """Return the change of each pixel [H, W] between two images [H, W, 3]; 0 outside the regions [H, W]."""
    whole = np.any(regions, axis=0)
    distance = np.zeros(whole.shape, np.float32)
    distance[whole] = np.linalg.norm(to_lab(photograph[whole]) - to_lab(image[whole]), axis=-1)
    return distance


def average_change(change: Change, regions: Sequence[Region]) -> Change:
    """Return a change [H, W] averaged over neighbours in the regions [H, W]; 0 outside of them."""
    # Neighbours outside the regions do not count.
    whole = np.any(regions, axis=0)
    weights = ndimage.gaussian_filter(whole.astype(np.float64), SMOOTHING)
    smooth = ndimage.gaussian_filter(change.astype(np.float64), SMOOTHING) / np.maximum(weights, 1e-9)
    return np.where(whole, smooth, 0).astype(np.float32)


def share_drawing(
    photograph: NDArray[np.uint8], alone: NDArray[np.uint8], drawn: NDArray[np.uint8], regions: Sequence[Region]
) -> tuple[Change, float]:
    """Return the share of a drawing [H, W, 3] per pixel, [H, W] in 0..1, and the autoencoder's own change.

    `alone`: the photograph [H, W, 3] after the autoencoder alone. Its own change is the one that most pixels of the
    regions [H, W] stay below. A drawing that changes a pixel by less than half of it has no share; from it on it has
    all. Both bounds are our choice, made on defects whose exact masks are known.
    """
    # What the autoencoder changes, and what the drawing changes beside it.
    own = average_change(measure_change(photograph, alone, regions), regions)
    change = average_change(measure_change(alone, drawn, regions), regions)

    # The share rises between the bounds, so that no seam shows.
    bound = float(np.quantile(own[np.any(regions, axis=0)], OWN_CHANGE))
    return np.clip(2 * change / max(bound, NOTICEABLE) - 1, 0, 1), bound


def label_change(
    change: Change,
    regions: Sequence[Region],
    threshold: float,
    min_component: float,
    max_hole: float,
) -> ChangedRegion:
    """Return the changed components of the regions [H, W], and their scores.

    `min_component` and `max_hole`: as in Annotation, for each region.
    """
    # Each region alone, so that a small defect beside a large one stays.
    whole, components = np.any(regions, axis=0), []
    for region in regions:
        changed, areas = keep_components((change >= threshold) & region, min_component)
        closed = (changed | fill_holes(changed, max_hole * sum(areas))) & region
        components += split_components(closed)
    if not components:
        return ChangedRegion([], Parts(), 0.0, 0.0)

    # The soft mask is half at the threshold; the overlap with it is the confidence.
    mask, soft = np.any(components, axis=0), np.clip(change / (2 * max(threshold, 1e-6)), 0, 1)
    overlap = float(np.minimum(soft, mask).sum() / np.maximum(soft, mask).sum())
    sizes = [int(component.sum()) for component in components]
    parts = Parts(
        area=float(mask.mean()),
        contrast=float(soft[mask].mean() - (soft[~mask].mean() if not mask.all() else 0.0)),
        separability=split_levels(count_levels(soft[whole]))[1],
        presence=float(soft.max() / soft.mean()),
        components=len(components),
        largest_share=max(sizes) / sum(sizes),
    )
    return ChangedRegion(components, parts, overlap, float(mask.sum() / whole.sum()))


def spread_attention(
    soft: NDArray[np.float32], place: tuple[int, int, int, int], size: tuple[int, int], window: Window
) -> NDArray[np.float32]:
    """Return a map of attention [h, w] for the window's pixels, [height, width].

    The map is of the generator's image of this `size`, in which the window is at `place`; see `Layout`.
    """
    # To the generator's pixels, without its borders, to the photograph's pixels.
    top, left, height, width = place
    image = Image.fromarray(soft.astype(np.float32)).resize((size[1], size[0]), Image.Resampling.BILINEAR)
    inner = image.crop((left, top, left + width, top + height))
    return np.asarray(inner.resize((window.width, window.height), Image.Resampling.BILINEAR), np.float32)


def agree_with(attention: NDArray[np.float32], mask: Region) -> float | None:
    """Return how well a map of attention [h, w] agrees with a mask [h, w], 0..1; None for a mask without an outside.

    It is the probability that a pixel of the mask has more attention than another (area under the ROC curve).
    """
    inside, outside = int(mask.sum()), int((~mask).sum())
    if not inside or not outside:
        return None
    # Mann and Whitney's U from the ranks of the mask's pixels.
    ranks = stats.rankdata(attention.ravel())[mask.ravel()]
    return float((ranks.sum() - inside * (inside + 1) / 2) / (inside * outside))
