"""Choose the regions of an image: random shapes, components of masks, or shapes with the statistics of masks.

The choice follows seeds alone. Every region keeps to the part, a mask of the photograph.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tailforge.schemas.settings.drawing import ReferenceRegions, RegionSettings, ShapeRegions
from tailforge.tasks.methods.inpainting.shapes import (
    ELONGATIONS,
    LINE,
    Form,
    Pose,
    Region,
    draw_shape,
    find_on_part,
    measure_pose,
)
from tailforge.tasks.methods.masks.components import split_components

# Changes of a reference's statistics, our choice: deviation of the logarithm of area and elongation, of the angle in
# radians, and of the place as a share of the part.
AREA, ELONGATION, ANGLE, PLACE = 0.2, 0.15, 0.15, 0.1
NO_REGION = "no region of the masks is on the part"  # error of a sample
TRIES = 8  # places to try for a region that no other covers


def choose_regions(settings: RegionSettings, part: Region, masks: Sequence[Region], seed: int) -> list[Region]:
    """Return the regions of an image, [H, W] each, inside `part` [H, W] and without common pixels.

    `masks`: the reference masks, [h, w] of any size each. There is at least one region unless no mask meets the part.
    """
    # Each kind proposes regions; those of masks come together, from one mask.
    draws = np.random.default_rng(seed)
    if not isinstance(settings, ShapeRegions | ReferenceRegions):
        return _fit_mask(masks[int(draws.integers(len(masks)))], part)

    count = int(draws.integers(settings.count[0], settings.count[1] + 1))
    found: list[Region] = []
    taken = np.zeros_like(part)
    for _ in range(TRIES * count):
        if isinstance(settings, ReferenceRegions):
            form, pose = _vary_reference(masks, part, draws)
        else:
            form, pose = _draw_pose(settings, part, draws)
        region = draw_shape(form, pose, part.shape, draws) & part & ~taken

        # A region may touch another, but not be lost in it.
        if region.any():
            found.append(region)
            taken |= region
        if len(found) == count:
            break
    return found


def _draw_pose(settings: ShapeRegions, part: Region, draws: np.random.Generator) -> tuple[Form, Pose]:
    """Return a random shape and its pose: any pixel of the part as centre, the area's logarithm uniform."""
    form: Form = settings.shapes[int(draws.integers(len(settings.shapes)))]
    low, high = (np.log(share * part.sum()) for share in settings.area)
    longest = ELONGATIONS[form]

    # The centre is a pixel of the part, so that the region has a pixel there.
    rows, columns = np.nonzero(part)
    place = int(draws.integers(len(rows)))
    centre = (float(rows[place]), float(columns[place]))
    area, elongation = float(np.exp(draws.uniform(low, high))), float(draws.uniform(*longest))
    return form, Pose(max(area, 1.0), elongation, float(draws.uniform(0, np.pi)), centre)


def _vary_reference(masks: Sequence[Region], part: Region, draws: np.random.Generator) -> tuple[Form, Pose]:
    """Return the shape and pose of a random component of the masks, slightly changed and on the part."""
    # The component's area is a share of its mask's image, and its place a share of the image's sides.
    mask = masks[int(draws.integers(len(masks)))]
    components = split_components(mask)
    known = measure_pose(components[int(draws.integers(len(components)))])
    area = known.area / mask.size * part.size * np.exp(draws.normal(0, AREA))
    elongation = max(known.elongation * np.exp(draws.normal(0, ELONGATION)), 1.0)
    angle = known.angle + draws.normal(0, ANGLE)

    # The same place in the photograph, then the nearest pixel of the part.
    shares = np.array(known.centre) / mask.shape + draws.normal(0, PLACE, 2)
    form: Form = "scratch" if elongation >= LINE else "blob"
    return form, Pose(max(float(area), 1.0), float(elongation), float(angle), find_on_part(shares * part.shape, part))


def _fit_mask(mask: Region, part: Region) -> list[Region]:
    """Return the components of a mask at the part's size, inside the part."""
    height, width = part.shape
    scaled: NDArray[np.bool_] = np.asarray(Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST))
    return split_components(scaled & part)
