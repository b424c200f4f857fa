"""Hold the images that an evaluation learns from or measures, with a class per image or a class per pixel.

Letters of shapes: N images, H and W rows and columns, C channels, K classes.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

IGNORED = 255  # value in masks of pixels that count for nothing
UNKNOWN = -1  # label of an ignored pixel

Pixels = NDArray[np.uint8]
Labels = NDArray[np.int64]
Targets = NDArray[np.int64] | NDArray[np.uint8]
Rows = NDArray[np.int64] | slice


@dataclass(frozen=True, eq=False)
class Examples:
    """Images uint8 [N, H, W, C] with `targets`: classes int64 [N], or masks uint8 [N, H, W] of class numbers.

    `classes`: the number K of classes. Pixels of value IGNORED in a mask have no class.
    """

    images: Pixels
    targets: Targets
    classes: int

    def __len__(self) -> int:
        return len(self.images)

    def label(self, rows: Rows) -> Labels:
        """Return the labels of some images, int64 [n] or [n, H, W]; UNKNOWN for ignored pixels."""
        # Classes have no ignored value, so that there may be more than 255.
        found = self.targets[rows].astype(np.int64)
        return np.where(found == IGNORED, UNKNOWN, found) if self.targets.ndim > 1 else found

    def select(self, rows: Rows) -> "Examples":
        """Return the images of some rows."""
        return Examples(self.images[rows], self.targets[rows], self.classes)

    def joined(self, other: "Examples") -> "Examples":
        """Return these images, then those of `other`."""
        images = np.concatenate([self.images, other.images])
        return Examples(images, np.concatenate([self.targets, other.targets]), self.classes)

    @cached_property
    def shown(self) -> NDArray[np.bool_]:
        """Return whether an image shows a class, bool [N, K]."""
        # A mask shows every class that one of its pixels has.
        places = tuple(range(1, self.targets.ndim))
        columns = [(self.targets == each).any(places) for each in range(self.classes)]
        return np.stack(columns, axis=1) if columns else np.zeros((len(self), 0), bool)

    @cached_property
    def counts(self) -> tuple[int, ...]:
        """Return the number of images that show each class [K]."""
        return tuple(self.shown.sum(0).tolist())

    @cached_property
    def units(self) -> tuple[int, ...]:
        """Return the number of units with each class [K]: images, or pixels of masks."""
        # One image at a time, as masks of all images are large in 64 bits.
        total = np.zeros(self.classes, np.int64)
        for labels in (self.label(slice(row, row + 1)) for row in range(len(self))):
            total += np.bincount(labels[labels != UNKNOWN], minlength=self.classes)
        return tuple(total.tolist())

    @cached_property
    def digest(self) -> str:
        """Return the sha256 (hex) over pixels and targets."""
        whole = hashlib.sha256(f"{self.images.shape}".encode())
        whole.update(np.ascontiguousarray(self.images).data)
        whole.update(np.ascontiguousarray(self.targets).data)
        return whole.hexdigest()


def show_classes(labels: Sequence[int], classes: int) -> NDArray[np.bool_]:
    """Return `Examples.shown` of images with one class each: bool [N, K] of labels [N]."""
    # One true value per row.
    return np.equal.outer(np.asarray(labels, np.int64), np.arange(classes))
