"""Define the labelled images from which classifiers learn."""

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Classes = NDArray[np.int64]


@dataclass(frozen=True)
class Pictures:
    """Labelled images: `images` uint8 [N, H, W, C] and `labels` int64 [N]."""

    images: Pixels
    labels: Classes

    def __len__(self) -> int:
        return len(self.images)

    @cached_property
    def digest(self) -> str:
        """Return the sha256 (hex) over pixels and labels."""
        whole = hashlib.sha256(f"{self.images.shape}".encode())
        whole.update(np.ascontiguousarray(self.images).data)
        whole.update(np.ascontiguousarray(self.labels).data)
        return whole.hexdigest()
