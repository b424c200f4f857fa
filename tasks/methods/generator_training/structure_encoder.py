"""Train the encoder in whose space images are compared: a small convolutional network on latents, or on pixels.

It has GroupNorm, since BatchNorm would mix the statistics of real and predicted images. It learns without labels, to
find the other view of an image among views of others (SimCLR, arXiv 2002.05709, on latents). In the game its trunk
stays fixed and its last stage plays. Its shape and training are Tailforge's own.
Letters of shapes: N images, B of a batch, C channels, H and W rows and columns, D features.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tailforge.tasks.methods.training_loop import torch_draws

VERSION = "structure-encoder.1"
TEMPERATURE = 0.2
BATCH = 64
RATE = 1e-3
LARGEST_SHIFT = 0.15  # of the side
LARGEST_NOISE = 0.4  # predictions are blurred and grainy; features should not depend on that


class StructureEncoder(nn.Module):
    """A trunk and a last stage; features are the means over all places."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1), _Block(width, width), _Block(width, 2 * width, stride=2)
        )
        self.last = nn.Sequential(_Block(2 * width, 4 * width, stride=2), nn.Conv2d(4 * width, 4 * width, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Return features [B, 4 width] of images [B, C, H, W]."""
        # Channels must come first. With channels last, torch 2.13 crashes on a CPU in the backward pass of a GroupNorm
        # whose input needs no gradient, such as the last stage's behind a frozen trunk.
        planes = images.contiguous(memory_format=torch.contiguous_format)
        found: Tensor = self.last(self.trunk(planes)).mean((2, 3))
        return found


class _Block(nn.Module):
    """Two convolutions beside a shortcut, with norms before them."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.norms = nn.ModuleList([nn.GroupNorm(8, inputs), nn.GroupNorm(8, outputs)])
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride=stride)

    def forward(self, images: Tensor) -> Tensor:
        """Return [B, outputs, H / stride, W / stride] of [B, inputs, H, W]."""
        # The sum of two signals of equal variance is scaled back to that variance.
        found = self.first(F.silu(self.norms[0](images)))
        found = self.second(F.silu(self.norms[1](found)))
        joined: Tensor = (self.shortcut(images) + found) / 2**0.5
        return joined


def fit_encoder(encoder: StructureEncoder, images: Tensor, steps: int, seed: int) -> list[float]:
    """Train on images [N, C, H, W] of any device to tell their views apart; return the losses of all steps."""
    # A head that is thrown away learns with the encoder.
    encoder.train().requires_grad_(True)
    head = _head(encoder, seed).to(images.device)
    optimizer = torch.optim.AdamW([*encoder.parameters(), *head.parameters()], lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, steps))

    losses = []
    for step in range(steps):
        # Two views of each image of the step.
        draws = torch_draws(seed, step)
        rows = torch.randperm(len(images), generator=draws)[:BATCH].to(images.device)
        views = torch.cat([_draw_view(images[rows], draws) for _ in range(2)])

        # One step towards views that find each other.
        loss = _agree(head(encoder(views)))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        losses.append(float(loss.detach()))

    encoder.eval().requires_grad_(False)
    return losses


def _head(encoder: StructureEncoder, seed: int) -> nn.Module:
    """Return the head of two layers on which views are compared (SimCLR, section 4.2)."""
    width = encoder.last[1].out_channels
    assert isinstance(width, int)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 64))


def _draw_view(images: Tensor, draws: torch.Generator) -> Tensor:
    """Return a view of images [B, C, H, W]: shifted, half of them mirrored, with noise of a random strength."""
    # Shift each image by its own draw; the border repeats.
    count, side = len(images), images.shape[-1]
    most = max(1, round(LARGEST_SHIFT * side))
    moved = []
    for image in images:
        down, right = (int(torch.randint(-most, most + 1, (), generator=draws)) for _ in range(2))
        shifted = F.pad(image[None], (most,) * 4, mode="replicate")[0]
        moved.append(shifted[:, most + down : most + down + image.shape[1], most + right : most + right + side])
    views = torch.stack(moved)

    # Mirror, then add noise.
    mirrored = (torch.rand(count, generator=draws) < 0.5).to(images.device)
    views = torch.where(mirrored.view(-1, 1, 1, 1), views.flip(-1), views)
    strength = LARGEST_NOISE * torch.rand((count, 1, 1, 1), generator=draws)
    return views + (strength * torch.randn(images.shape, generator=draws)).to(images.device)


def _agree(features: Tensor) -> Tensor:
    """Return the cross entropy, a scalar, of finding each other view in features [2 B, D], the first views first."""
    # Cosines with all other views; a view is no candidate for itself.
    unit = F.normalize(features, dim=-1)
    scores = unit @ unit.T / TEMPERATURE
    scores = scores.masked_fill(torch.eye(len(unit), dtype=torch.bool, device=unit.device), -torch.inf)

    # The other view is half the batch away.
    half = len(unit) // 2
    wanted = torch.cat([torch.arange(half, 2 * half), torch.arange(half)]).to(unit.device)
    return F.cross_entropy(scores, wanted)
