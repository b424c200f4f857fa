"""Convert the teacher's normalised input to the 8-bit image that is saved, and back, without stretching."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class PixelScale:
    """The teacher's own mean and standard deviation of each channel."""

    def __init__(self, mean: Sequence[float], std: Sequence[float], device: torch.device) -> None:
        self.mean = torch.tensor(mean, device=device).view(-1, 1, 1)
        self.std = torch.tensor(std, device=device).view(-1, 1, 1)

    def to_levels(self, images: Tensor) -> Tensor:
        """Return integers 0..255, as floats, of normalised images [..., C, H, W]."""
        return ((images * self.std + self.mean).clamp(0, 1) * 255).round()

    def from_levels(self, levels: Tensor) -> Tensor:
        """Return normalised images [..., C, H, W] of levels 0..255 of the same shape."""
        return (levels / 255 - self.mean) / self.std

    def save_through(self, images: Tensor) -> Tensor:
        """Return images [..., C, H, W] exactly as they are read back after saving; the gradient passes unchanged."""
        saved: Tensor = _StraightThrough.apply(  # type: ignore[no-untyped-call]
            images, self.from_levels(self.to_levels(images.detach()))
        )
        return saved

    def to_pixels(self, images: Tensor) -> NDArray[np.uint8]:
        """Return uint8 [N, H, W, 3] of normalised images [N, C, H, W]; a grey channel is repeated."""
        # Three channels, channels last, as image files hold them.
        levels = self.to_levels(images.detach()).to(torch.uint8).cpu()
        return levels.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).contiguous().numpy()

    def from_pixels(self, pixels: NDArray[np.uint8]) -> Tensor:
        """Return normalised images [N, C, H, W] of uint8 [N, H, W, 3]."""
        levels = torch.from_numpy(pixels).to(self.mean.device, torch.float32).permute(0, 3, 1, 2)
        return self.from_levels(levels[:, : len(self.mean)])


class _StraightThrough(torch.autograd.Function):
    """Value of the second argument, gradient to the first."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, saved: Tensor) -> Tensor:
        return saved

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None
