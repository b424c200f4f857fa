"""Choose and prepare the images that a ControlNet reads (Zhang et al. 2023, arXiv 2302.05543).

Edges are those of Canny's detector. Its thresholds 100 and 200 are Tailforge's choice. Depth maps and masks are only
brought to the size of the images.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from tailforge.catalog.images.resizing import Size, resize_colours, resize_image
from tailforge.catalog.pictures import PHOTOGRAPHS, open_picture, show_rgb
from tailforge.schemas.documents.shown import describe_failure
from tailforge.schemas.errors import ModelError, PictureError
from tailforge.schemas.extras import import_extra
from tailforge.schemas.jobs import SampleSpec
from tailforge.schemas.options import Fit

CANNY = 100, 200  # thresholds of the gradient, in 8-bit levels
SALT = 0x636F6E74726F6C  # separates this draw from others of the same seed


@dataclass(frozen=True)
class ControlImages:
    """The images that samples follow: `files`, with name and sha256 of each in `folder`."""

    kind: Literal["edges", "depth", "masks"]
    folder: Path
    files: tuple[tuple[str, str], ...]
    fit: Fit

    def choose(self, seed: int) -> tuple[str, str]:
        """Return name and sha256 of the image for a sample's seed. All images are equally likely."""
        return self.files[int(np.random.default_rng([SALT, seed]).integers(len(self.files)))]

    def draw(self, samples: Sequence[SampleSpec], size: Size) -> tuple[Tensor, list[dict[str, Any]]]:
        """Return the images of samples, [B, 3, height, width] in 0..1, and a record of each. Errors: ModelError."""
        chosen = [self.choose(sample.seed) for sample in samples]
        images = torch.from_numpy(np.stack([self.read(name, size) for name, _ in chosen])).permute(0, 3, 1, 2) / 255
        return images, [{"control": {"image": name, "sha256": sha256}} for name, sha256 in chosen]

    def read(self, name: str, size: Size) -> NDArray[np.uint8]:
        """Return what the ControlNet reads, uint8 [height, width, 3]. Errors: ModelError for a lost image."""
        try:
            image = open_picture((self.folder / name).read_bytes(), PHOTOGRAPHS, show_rgb)
        except (OSError, PictureError) as error:
            raise ModelError(
                f"generator.control.images: {self.folder / name} cannot be read: {describe_failure(error)}; put the "
                "image back"
            ) from error
        if self.kind == "edges":
            return find_edges(np.asarray(resize_image(image, size, self.fit)))
        resized = resize_colours(image, size, self.fit) if self.kind == "masks" else resize_image(image, size, self.fit)
        return np.asarray(resized, np.uint8)


def find_edges(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return Canny's edges of an image, white on black: uint8 [height, width, 3] of [height, width, 3].

    Errors: MissingExtraError without OpenCV.
    """
    cv2 = import_extra("cv2", "generator.control.kind edges")
    grey = np.asarray(Image.fromarray(pixels).convert("L"))
    edges: NDArray[np.uint8] = cv2.Canny(grey, *CANNY)
    return np.repeat(edges[:, :, None], 3, axis=2)
