"""Make random views of training images with albumentations: crops of the padded image, and optional mirror images.

Source: section 4.2 of arXiv 1512.03385, with reflection in place of zeros at the border.
"""

import numpy as np

from tailforge.tasks.methods.classifiers.pictures import Pixels
from tailforge.tasks.methods.packing.transforms import load_transforms
from tailforge.tasks.methods.training_loop import numpy_draws

# OpenCV's BORDER_REFLECT_101. Black borders would change the BatchNorm statistics of a teacher.
REFLECT = 4


class Views:
    """A source of random views of images [H, W, C] of one size. One thread may use it at a time.

    `padding`: pixels of border per side. Errors: MissingExtraError without albumentations.
    """

    def __init__(self, height: int, width: int, padding: int, flip: bool) -> None:
        # Pad and crop shift the image by at most the padding.
        A = load_transforms("a view of a training image")
        transforms = [A.Pad(padding=padding, border_mode=REFLECT), A.RandomCrop(height, width)] if padding else []
        self._pipeline = A.Compose([*transforms, *([A.HorizontalFlip(p=0.5)] if flip else [])])

    def draw(self, images: Pixels, seed: int, step: int) -> Pixels:
        """Return one view of each image [N, H, W, C], in the same shape. Seed and step decide all views."""
        # One random stream per step, so a restored run draws the same views.
        self._pipeline.set_random_seed(int(numpy_draws(seed, step).integers(2**32)))
        return np.stack([self._pipeline(image=image)["image"] for image in images])
