"""Convert 8-bit pictures to tensors."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def to_tensor(images: NDArray[np.uint8], device: torch.device | str = "cpu") -> Tensor:
    """Convert uint8 [B, H, W, 3] to float32 [B, 3, H, W] in [-1, 1]; copies. Channels stay last (faster on CPUs)."""
    levels = torch.from_numpy(np.array(images)).to(device).permute(0, 3, 1, 2)
    # 0..255 to -1..1, in place.
    return levels.to(torch.float32).div_(127.5).sub_(1.0)
