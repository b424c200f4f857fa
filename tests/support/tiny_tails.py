"""Small tails whose components are known."""

import torch
from torch import Tensor, nn

from tailforge.tasks.methods.regional_primitives.demands import Subject
from tailforge.tasks.methods.regional_primitives.patches import PatchGrid

SIZE = 9


class PlantedTail:
    """Copies features to pixels: channel k of the one cell is read by every patch of `fields[k]`, and by no other.

    So u(S) = f0 + the channels whose field meets S, exactly: component k has the field fields[k] and nothing else is.
    """

    def __init__(self, grid: PatchGrid, fields: list[tuple[int, ...]]) -> None:
        numbers = grid.numbers()
        self.source = torch.full((3, grid.height, grid.width), len(fields))  # the last channel is always 0
        for patch in range(grid.count):
            readers = [k for k, field in enumerate(fields) if patch in field]
            spots = torch.nonzero((numbers == patch).flatten())[:, 0]
            for colour in range(3):
                for i, spot in enumerate(spots.tolist()):
                    if readers:
                        self.source[colour].view(-1)[spot] = readers[(i + colour) % len(readers)]

    def __call__(self, features: Tensor) -> Tensor:
        flat = features.flatten(1)
        return torch.cat([flat, flat.new_zeros(len(flat), 1)], 1)[:, self.source]


def planted_subject(grid: PatchGrid, fields: list[tuple[int, ...]], seed: int = 0) -> Subject:
    """In double precision; channel k of f - f0 is what component k holds."""
    generator = torch.Generator().manual_seed(seed)
    size = (1, len(fields), 1, 1)
    baseline = torch.randn(size, generator=generator, dtype=torch.float64)
    change = torch.rand(size, generator=generator, dtype=torch.float64) + 0.5
    return Subject(PlantedTail(grid, fields), baseline + change, baseline, torch.ones(size, dtype=torch.float64))


def conv_subject(activation: nn.Module, size: int = 8, seed: int = 0) -> Subject:
    """A decoder of two convolutions with random weights and many more features than pixels."""
    torch.manual_seed(seed)
    tail = nn.Sequential(nn.Conv2d(12, 24, 3, padding=1), activation, nn.Conv2d(24, 3, 1)).double()
    features = torch.randn(16, 12, size, size, dtype=torch.float64)
    tail.requires_grad_(False)
    return Subject(tail, features[:1], features.mean(0, keepdim=True), features.std((0, 2, 3))[None, :, None, None])
