"""Change training images at random with albumentations, and draw the augmentations that a search compares.

The space of the search is our choice: small changes that keep the class in most photographs.
"""

import numpy as np

from tailforge.schemas.evaluation import Augmentation
from tailforge.tasks.methods.classifiers.views import REFLECT
from tailforge.tasks.methods.evaluation.examples import Examples
from tailforge.tasks.methods.packing.transforms import load_transforms
from tailforge.tasks.methods.training_loop import numpy_draws

SEARCH_STREAM = 11  # separates the random numbers of the search from all others


class AugmentedViews:
    """A source of random views of images [H, W, C] of one size. One thread may use it at a time.

    Errors: MissingExtraError without albumentations.
    """

    def __init__(self, height: int, width: int, augmentation: Augmentation) -> None:
        A = load_transforms("the training of a model")

        # Geometry first, then values, as the pixels of a reflected border are the image's own.
        steps = []
        if augmentation.padding:
            steps += [A.Pad(padding=augmentation.padding, border_mode=REFLECT), A.RandomCrop(height, width)]
        steps += [A.HorizontalFlip(p=0.5)] if augmentation.flip else []
        steps += [A.VerticalFlip(p=0.5)] if augmentation.flip_vertical else []

        # Values: light, noise, and a box that hides a part.
        if augmentation.contrast:
            steps.append(A.RandomBrightnessContrast(augmentation.contrast, augmentation.contrast, p=1.0))
        if augmentation.noise:
            steps.append(A.GaussNoise(std_range=(0.0, augmentation.noise), p=1.0))
        if augmentation.erase:
            side = (augmentation.erase, augmentation.erase)
            steps.append(A.CoarseDropout((1, 1), hole_height_range=side, hole_width_range=side, p=0.5))
        self._pipeline = A.Compose(steps)

    def draw(self, batch: Examples, seed: int, step: int) -> Examples:
        """Return one view of each image, in the same shape; masks move with them. Seed and step decide all views."""
        # One random stream per step, so that a step has the same views again.
        self._pipeline.set_random_seed(int(numpy_draws(seed, step).integers(2**32)))
        masked = batch.targets.ndim > 1
        views = [
            self._pipeline(image=image, **({"mask": target} if masked else {}))
            for image, target in zip(batch.images, batch.targets, strict=True)
        ]

        # albumentations drops the axis of a single channel.
        images = np.stack([view["image"].reshape(batch.images.shape[1:]) for view in views])
        targets = np.stack([view["mask"] for view in views]) if masked else batch.targets
        return Examples(images, targets, batch.classes)


def draw_augmentations(count: int, seed: int) -> list[Augmentation]:
    """Return `count` different augmentations of the search, drawn at random, without the default one."""
    # The arm without augmentation has the default.
    draws = np.random.default_rng((seed, SEARCH_STREAM))
    found: list[Augmentation] = []
    while len(found) < count:
        # Each change is off in a part of the draws.
        drawn = Augmentation(
            padding=int(draws.integers(0, 5)),
            flip=bool(draws.integers(2)),
            flip_vertical=bool(draws.integers(2)),
            contrast=float(draws.choice([0.0, 0.1, 0.2, 0.3])),
            noise=float(draws.choice([0.0, 0.02, 0.05])),
            erase=float(draws.choice([0.0, 0.0, 0.25, 0.4])),
        )
        if drawn not in (*found, Augmentation()):
            found.append(drawn)
    return found
