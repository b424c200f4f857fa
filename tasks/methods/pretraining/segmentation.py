"""What an encoder knows of outlines: it is tuned on a few images with masks, and asked for the masks of others.

A head of two layers turns every patch token into a logit for each pixel of the patch. Head and encoder learn together,
the encoder more slowly. The choices are ours.
"""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from tasks.methods.pixels import to_tensor
from tasks.methods.pretraining.encoders import Tokens
from tasks.methods.pretraining.probes import READ_AT_ONCE
from tasks.methods.pretraining.regions import Areas
from tasks.methods.training_loop import numpy_draws, warm_up_then_cosine
from tasks.methods.views import Pixels

VERSION = "segmentation.1"
STEPS, BATCH, WARM_UP = 150, 16, 10
RATE, DECAY, HIDDEN = 3e-3, 0.05, 128  # of the head
ENCODER_RATE = 0.3  # of the head's learning rate


def probe_segmentation(
    module: nn.Module,
    tokens: Tokens,
    training: tuple[Pixels, Areas],
    test: tuple[Pixels, Areas],
    seed: int,
    steps: int = STEPS,
) -> NDArray[np.float64]:
    """Intersection over union [N] of each test image's mask, 1 where both are empty, after tuning `module` in place.

    `training` and `test`: square images [N, H, W, 3] and masks [N, H, W]; `tokens` reads patch tokens of `module`.
    """
    pixels, masks = to_tensor(training[0]), torch.from_numpy(training[1]).float()
    torch.manual_seed(seed)
    patches, width = tokens(pixels[:1]).shape[1:]
    head = _head(width, masks[0].numel() // patches)
    groups = [{"params": [*head.parameters()], "scale": 1.0}, {"params": [*module.parameters()], "scale": ENCODER_RATE}]
    optimizer = torch.optim.AdamW(groups, lr=0.0, weight_decay=DECAY)
    rate = warm_up_then_cosine(RATE, steps, WARM_UP)
    for step in range(steps):
        rows = torch.from_numpy(numpy_draws(seed, step).integers(len(pixels), size=BATCH))
        image, mask = (each[rows].flip(-1) if step % 2 else each[rows] for each in (pixels, masks))
        loss = F.binary_cross_entropy_with_logits(_to_pixels(head(tokens(image))), mask)
        for group in optimizer.param_groups:
            group["lr"] = rate(step) * group["scale"]
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return _overlaps(head, tokens, test)


@torch.no_grad()
def _overlaps(head: nn.Module, tokens: Tokens, test: tuple[Pixels, Areas]) -> NDArray[np.float64]:
    parts = (to_tensor(test[0][at : at + READ_AT_ONCE]) for at in range(0, len(test[0]), READ_AT_ONCE))
    found = torch.cat([_to_pixels(head(tokens(part))) > 0 for part in parts]).numpy()
    both, either = (found & test[1]).sum((1, 2)), (found | test[1]).sum((1, 2))
    return np.where(either > 0, both / np.maximum(either, 1), 1.0)


def _head(width: int, pixels: int) -> nn.Sequential:
    return nn.Sequential(nn.LayerNorm(width), nn.Linear(width, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, pixels))


def _to_pixels(logits: Tensor) -> Tensor:
    """[B, H, W] of the logits [B, P, pixels of a patch] of square images and patches."""
    side, patch = round(logits.shape[1] ** 0.5), round(logits.shape[2] ** 0.5)
    whole = logits.view(-1, side, side, patch, patch).transpose(2, 3)
    return whole.reshape(-1, side * patch, side * patch)
