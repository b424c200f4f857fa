"""Roll and flip images at random, alike for a whole batch; batches side by side get their own jitter."""

from typing import NamedTuple

import torch
from torch import Generator, Tensor


class Jitter(NamedTuple):
    """Circular shifts down and to the right, then a mirror image where `mirrored` is 1; int64 [K] each."""

    down: Tensor
    right: Tensor
    mirrored: Tensor

    def apply(self, images: Tensor) -> Tensor:
        """Return the jittered images [B, K, C, H, W]."""
        # For every pixel of the result, the row and column that it comes from.
        height, width = images.shape[-2:]
        rows = _count(height, self.down) - self.down.view(-1, 1)
        columns = self._mirror(_count(width, self.right), width) - self.right.view(-1, 1)
        return _pick(images, rows % height, columns % width)

    def undo(self, features: Tensor, size: tuple[int, int]) -> Tensor:
        """Move feature maps [B, K, c, h, w] of jittered images of `size` back, to the nearest position."""
        # The shifts in cells of the feature maps.
        height, width = features.shape[-2:]
        down = (self.down * height / size[0]).round().long()
        right = (self.right * width / size[1]).round().long()
        rows = _count(height, down) + down.view(-1, 1)
        columns = self._mirror((_count(width, right) + right.view(-1, 1)) % width, width)
        return _pick(features, rows % height, columns)

    def _mirror(self, columns: Tensor, width: int) -> Tensor:
        return torch.where(self.mirrored.view(-1, 1) == 1, width - 1 - columns, columns)


def draw_jitter(steps: int, reach: int, flip: bool, random: Generator) -> Tensor:
    """Draw two jitters per step, int64 [steps, 2, 3], on the CPU: shifts in -reach..reach, mirrored or not."""
    shifts = torch.randint(-reach, reach + 1, (steps, 2, 2), generator=random)
    coins = torch.randint(0, 2 if flip else 1, (steps, 2, 1), generator=random)
    return torch.cat([shifts, coins], dim=2)


def _count(length: int, like: Tensor) -> Tensor:
    return torch.arange(length, device=like.device).expand(len(like), length)


def _pick(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return images[b, k, c, rows[k, i], columns[k, j]] as [B, K, C, H, W]."""
    # One flat index per batch, as gather reads one dimension.
    batch, groups, channels, height, width = images.shape
    index = (rows.unsqueeze(2) * width + columns.unsqueeze(1)).view(1, groups, 1, height * width)
    return images.flatten(3).gather(3, index.expand(batch, -1, channels, -1)).view(images.shape)
