"""Types of an inversion's input and output."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn


class TeacherProtocol(Protocol):
    """A trained classifier; `mean` and `std` have one number per channel, for pixels in 0..1. `size`: height, width."""

    @property
    def module(self) -> nn.Module:
        """Return the network."""

    @property
    def mean(self) -> tuple[float, ...]:
        """Return the mean of each channel, for pixels in 0..1."""

    @property
    def std(self) -> tuple[float, ...]:
        """Return the standard deviation of each channel, for pixels in 0..1."""

    @property
    def size(self) -> tuple[int, int]:
        """Return height and width of the images."""

    def logits(self, images: Tensor) -> Tensor:
        """Return logits [N, classes] of normalised images [N, channels, height, width]."""
        ...


@dataclass(frozen=True)
class Inverted:
    """One image; `pixels` and their measurements are None if `error` says why there is no image.

    `logits` are the teacher's on the saved 8-bit image, and so is `agrees_saved`; `agrees` is about the image before it
    was rounded. `losses` are those of its whole batch at `step`, the step after which it was taken.
    """

    label: int
    pixels: NDArray[np.uint8] | None  # [height, width, 3]; grey repeated
    logits: NDArray[np.float32] | None  # [classes]
    alpha: tuple[float, ...] | None  # one scale per channel; None for form pixels
    losses: dict[str, float] | None
    agrees: bool | None
    agrees_saved: bool | None
    step: int | None
    provenance: dict[str, Any]
    error: str | None = None
