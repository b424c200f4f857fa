"""Convert 8-bit pictures to tensors and back."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def to_tensor(images: NDArray[np.uint8], device: torch.device | str = "cpu") -> Tensor:
    """Convert uint8 [B, H, W, 3] to float32 [B, 3, H, W] in [-1, 1]; copies. Channels stay last (faster on CPUs)."""
    levels = torch.from_numpy(np.array(images)).to(device).permute(0, 3, 1, 2)
    # 0..255 to -1..1, in place.
    return levels.to(torch.float32).div_(127.5).sub_(1.0)


def to_pixels(images: Tensor) -> NDArray[np.uint8]:
    """Convert images [B, 3, height, width] in -1..1 to uint8 [B, height, width, 3]; non-finite values become 0."""
    # -1..1 to 0..255, channels last.
    scaled = (images * 0.5 + 0.5).clamp(0, 1).nan_to_num(0.0).permute(0, 2, 3, 1)
    return (scaled.cpu().numpy() * 255).round().astype(np.uint8)
