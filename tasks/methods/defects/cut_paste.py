"""Copy a patch of a photograph to another place of the same photograph, with changed colours.

Source: Li, Sohn, Yoon and Pfister, "CutPaste: Self-Supervised Learning for Anomaly Detection and Localization", CVPR
2021. There the patch is a rectangle anywhere; here it has the shape of the region, so that all methods draw into the
same places. Letters of shapes: H and W rows and columns.
"""

import numpy as np
from numpy.typing import NDArray

from tailforge.tasks.methods.defects.drawn import Drawn, Mask, Pixels, check_region, composite

JITTER = 0.1  # largest change of brightness, contrast and saturation, as in the paper
LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
TRIES = 20  # places drawn; the one whose pixels differ most from the region's is kept


def cut_paste(source: Pixels, region: Mask, seed: int) -> Drawn:
    """Draw a patch of the photograph [H, W, 3] into its region [H, W].

    The patch is as large as the region's bounding box, perhaps mirrored, and lies elsewhere in the photograph. Of 20
    drawn places the most different one is used, which is our choice: most places of a plain surface look alike. Errors:
    ValueError for a photograph or region of another shape or type, or an empty region.
    """
    check_region(source, region)
    draws = np.random.default_rng(seed)
    rows, columns = np.nonzero(region)
    window = np.s_[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    covered = region[window]
    height, width = covered.shape

    # Cut a patch elsewhere.
    own, best, gap = source[window].astype(np.float64), source[window].astype(np.float64), -1.0
    tops = draws.integers(source.shape[0] - height + 1, size=TRIES)
    lefts = draws.integers(source.shape[1] - width + 1, size=TRIES)
    for top, left in zip(tops, lefts, strict=True):
        patch = source[top : top + height, left : left + width].astype(np.float64)
        found = float(np.abs(patch - own)[covered].mean())
        if found > gap:
            best, gap = patch, found

    # Mirror it and change its colours, then paste it.
    turned = best[:, ::-1] if draws.random() < 0.5 else best
    drawn = source.astype(np.float64)
    drawn[window] = _jitter(turned, draws)
    return composite(source, drawn, region)


def _jitter(patch: NDArray[np.float64], draws: np.random.Generator) -> NDArray[np.float64]:
    """Return a patch [H, W, 3] with other brightness, contrast and saturation, in this order."""
    brightness, contrast, saturation = draws.uniform(1.0 - JITTER, 1.0 + JITTER, size=3)
    bright = patch * brightness
    grey = (bright @ LUMA).mean()
    contrasted = grey + (bright - grey) * contrast
    luma = (contrasted @ LUMA)[:, :, None]
    changed: NDArray[np.float64] = luma + (contrasted - luma) * saturation
    return changed
