"""Random views of training images by albumentations: a crop of the reflected border, and a mirror image if wanted."""

import numpy as np
from numpy.typing import NDArray

from tailforge.tasks.methods.packing.transforms import load_transforms
from tailforge.tasks.methods.training_loop import numpy_draws

REFLECT = 4  # OpenCV's BORDER_REFLECT_101; black borders would enter the BatchNorm statistics of a teacher

Pixels = NDArray[np.uint8]


class Views:
    """Views of images of one size [height, width, channels]. Not for two threads at once. Errors: MissingExtraError."""

    def __init__(self, height: int, width: int, padding: int, flip: bool) -> None:
        A = load_transforms("a view of a training image")
        transforms = [A.Pad(padding=padding, border_mode=REFLECT), A.RandomCrop(height, width)] if padding else []
        self._pipeline = A.Compose([*transforms, *([A.HorizontalFlip(p=0.5)] if flip else [])])

    def draw(self, images: Pixels, seed: int, step: int) -> Pixels:
        """Return one view of each image [N, height, width, channels]; seed and step decide them all."""
        # One stream per step, so a resumed training sees the same views.
        self._pipeline.set_random_seed(int(numpy_draws(seed, step).integers(2**32)))
        return np.stack([self._pipeline(image=image)["image"] for image in images])
