"""Compute class-activation maps: where the teacher sees a label (Grad-CAM, Selvaraju et al. 2017, equations 1 and 2).

On a network that ends in average pooling and one linear layer, this is the map of Zhou et al. 2016, up to scale.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from tailforge.tasks.methods.natural_inversion.contract import TeacherProtocol
from tailforge.tasks.methods.natural_inversion.saving import PixelScale
from tailforge.tasks.methods.natural_inversion.taps import Tap, examine

COARSEST = 4  # pixels; smaller maps do not localise

Maps = NDArray[np.float16]


def class_activation(teacher: TeacherProtocol, pixels: NDArray[np.uint8], labels: Sequence[int]) -> Maps:
    """Return float16 [N, 1, height, width] in 0..1 of images uint8 [N, height, width, 3] of the teacher's size.

    The largest value of a map is 1; a map is 0 if nothing supports the label.
    """
    # The smallest feature map that still localises.
    taps = examine(teacher).taps
    tap = next((tap for tap in reversed(taps) if min(tap.size) >= COARSEST), taps[0])
    device = next(teacher.module.parameters()).device
    images = PixelScale(teacher.mean, teacher.std, device).from_pixels(pixels).requires_grad_()
    features, logits = _watch(teacher, tap, images)

    # Equation 1: the weight of a channel is the mean gradient of the label's logit.
    chosen = logits.gather(1, torch.tensor(list(labels), device=device).unsqueeze(1)).sum()
    (gradient,) = torch.autograd.grad(chosen, features)
    weights = gradient.mean(dim=(2, 3), keepdim=True)

    # Equation 2: weighted sum of the channels, positive part, at image size.
    maps = functional.relu((weights * features.detach()).sum(1, keepdim=True))
    maps = functional.interpolate(maps, tuple(images.shape[-2:]), mode="bilinear", align_corners=False)
    maps = maps / maps.amax(dim=(2, 3), keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
    result: Maps = maps.cpu().numpy().astype(np.float16)
    return result


def _watch(teacher: TeacherProtocol, tap: Tap, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the tap's map, still part of the graph, and the logits."""
    calls: list[Tensor] = []

    def hook(module: torch.nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        calls.append(output)

    handle = teacher.module.get_submodule(tap.name).register_forward_hook(hook)
    try:
        logits = teacher.logits(images)
    finally:
        handle.remove()
    return calls[tap.call].float(), logits.float()
