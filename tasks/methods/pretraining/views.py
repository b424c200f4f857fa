"""Make random views of images and regions by albumentations: one geometry for both, colours for the image alone."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tailforge.schemas.training.pretraining import PretrainSettings
from tailforge.tasks.methods.packing.transforms import load_transforms
from tailforge.tasks.methods.pretraining.regions import Areas

VERSION = "region-views.1"
VIEW_STREAM = 2  # separate from the order of an epoch and from the other draws of a step
ASPECT = (3 / 4, 4 / 3)

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class View:
    """`pixels` uint8 [B, H, W, 3] and, if the images have regions, their `areas` [B, R, H, W] in the view."""

    pixels: Pixels
    areas: Areas | None


class RegionViews:
    """Views of square images of `size_px`; `grey`: share of them without colour. Not for two threads at once.

    Errors: MissingExtraError.
    """

    def __init__(self, size_px: int, settings: PretrainSettings, grey: float = 0.0) -> None:
        strength, crop = settings.jitter, settings.smallest_crop
        self._seed = settings.seed
        A = load_transforms("a view of a training image")
        self._pipeline = A.Compose(
            [
                A.RandomResizedCrop((size_px, size_px), scale=(crop, 1.0), ratio=ASPECT),
                *([A.HorizontalFlip(p=0.5)] if settings.flip else []),
                *([A.RandomRotate90(p=1.0)] if settings.turn else []),
                *([A.ColorJitter(strength, strength, strength, strength / 4, p=0.8)] if strength else []),
                *([A.ToGray(p=grey)] if grey else []),
            ]
        )

    def draw(self, pixels: Pixels, areas: Areas | None, step: int, number: int = 0) -> View:
        """Return view `number` of every image [B, H, W, 3] of a batch; seed, step and number decide them all."""
        # One stream per view, so a resumed training sees the same views.
        draws = np.random.default_rng((self._seed, VIEW_STREAM, step, number))
        self._pipeline.set_random_seed(int(draws.integers(2**32)))
        if areas is None:
            return View(np.stack([self._pipeline(image=image)["image"] for image in pixels]), None)

        # The regions travel as channels of one mask through the same geometry.
        masks = areas.transpose(0, 2, 3, 1).astype(np.uint8)
        made = [self._pipeline(image=image, mask=mask) for image, mask in zip(pixels, masks, strict=True)]
        turned = np.stack([each["mask"] for each in made]).transpose(0, 3, 1, 2)
        return View(np.stack([each["image"] for each in made]), turned.astype(bool))
