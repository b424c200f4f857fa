"""Find the connected components and the holes of a region."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Region = NDArray[np.bool_]


def split_components(region: Region) -> list[Region]:
    """Return the 8-connected components of a region [H, W], [H, W] each, from the top left."""
    labels, count = ndimage.label(region, np.ones((3, 3)))
    return [np.asarray(labels == number) for number in range(1, count + 1)]


def keep_components(region: Region, min_share: float) -> tuple[Region, list[int]]:
    """Drop 8-connected components under `min_share` of the largest; return the region and the kept areas."""
    # Areas of the components, without label 0, which is outside.
    labels, count = ndimage.label(region, np.ones((3, 3)))
    areas = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    if count == 0:
        return region, []
    kept = np.flatnonzero(areas >= min_share * areas.max()) + 1
    return np.isin(labels, kept), [int(areas[label - 1]) for label in kept]


def fill_holes(region: Region, max_pixels: float) -> Region:
    """Fill the region's 4-connected holes of at most `max_pixels` pixels; one at the border is no hole."""
    labels, count = ndimage.label(~region)
    small = np.bincount(labels.ravel(), minlength=count + 1) <= max_pixels
    # Label 0 is the region itself; background at the border is outside.
    small[np.concatenate([[0], labels[0], labels[-1], labels[:, 0], labels[:, -1]])] = False
    filled: Region = region | small[labels]
    return filled
