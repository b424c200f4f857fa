"""A small segmentation from few labelled pictures on an encoder's patch tokens; see pretraining.py."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from tailforge.tasks.methods.sampling.pixels import to_tensor
from tailforge.tasks.methods.training_loop import numpy_draws
from tailforge.tasks.models.encoders import Encoder

STEPS = 150
BATCH = 16
RATE = 3e-3  # of the head
ENCODER_SHARE = 0.1  # of the head's rate
DECAY = 0.05
HIDDEN = 128
AT_ONCE = 100

Labelled = tuple[NDArray[np.uint8], NDArray[np.bool_]]  # images [N, H, W, 3], masks [N, H, W]


def measure_segmentation(encoder: Encoder, few: Labelled, many: Labelled, seed: int, frozen: bool) -> float:
    """Mean overlap on `many` after learning from `few`; with `frozen` the head alone learns."""
    torch.manual_seed(seed)
    images, masks = to_tensor(few[0]), torch.from_numpy(few[1]).float()
    with torch.no_grad():
        tokens = encoder.tokens(images[:1])
    patch = images.shape[-1] // math.isqrt(tokens.shape[1])
    head = nn.Sequential(
        nn.LayerNorm(tokens.shape[2]), nn.Linear(tokens.shape[2], HIDDEN), nn.GELU(), nn.Linear(HIDDEN, patch * patch)
    )
    groups = [{"params": list(head.parameters()), "lr": RATE}]
    encoder.module.requires_grad_(not frozen)
    if not frozen:
        groups.append({"params": list(encoder.module.parameters()), "lr": ENCODER_SHARE * RATE})
    optimizer = torch.optim.AdamW(groups, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    for step in range(STEPS):
        rows = numpy_draws(seed, step).integers(len(images), size=BATCH)
        shown, wanted = (each.flip(-1) if step % 2 else each for each in (images[rows], masks[rows]))
        loss = F.binary_cross_entropy_with_logits(_unfold(head(encoder.tokens(shown)), patch), wanted)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    return _overlap(encoder, head, patch, many)


def _unfold(logits: Tensor, patch: int) -> Tensor:
    """Pixels [B, H, W] of patches [B, P, patch * patch]."""
    side = math.isqrt(logits.shape[1])
    squares = logits.reshape(len(logits), side, side, patch, patch)
    return squares.permute(0, 1, 3, 2, 4).reshape(len(logits), side * patch, side * patch)


@torch.no_grad()
def _overlap(encoder: Encoder, head: nn.Module, patch: int, many: Labelled) -> float:
    pixels = to_tensor(many[0])
    parts = [pixels[at : at + AT_ONCE] for at in range(0, len(pixels), AT_ONCE)]
    found = torch.cat([_unfold(head(encoder.tokens(part)), patch) > 0 for part in parts]).numpy()
    union = np.maximum((found | many[1]).sum((1, 2)), 1)
    return float(((found & many[1]).sum((1, 2)) / union).mean())
