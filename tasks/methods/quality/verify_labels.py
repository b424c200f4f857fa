"""What an independent classifier says of labelled images: its probability of the label. Choices of ours."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from tailforge.tasks.methods.natural_inversion.contract import TeacherProtocol
from tailforge.tasks.methods.natural_inversion.saving import PixelScale

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


@torch.inference_mode()
def label_probabilities(verifier: TeacherProtocol, images: Sequence[NDArray[np.uint8]], label: int) -> list[float]:
    """Probability of `label` for each RGB image [height, width, 3], resized to what the verifier reads.

    An image is judged alone, so that its score does not depend on the others. NaN where the logits are not finite.
    """
    scale = PixelScale(verifier.mean, verifier.std, next(verifier.module.parameters()).device)
    return [float(verifier.logits(_prepare(image, verifier, scale)).float().softmax(1)[0, label]) for image in images]


def _prepare(image: NDArray[np.uint8], verifier: TeacherProtocol, scale: PixelScale) -> Tensor:
    levels = torch.from_numpy(np.array(image)).to(scale.mean.device, torch.float32).permute(2, 0, 1)[None]
    if len(verifier.mean) == 1:
        levels = (levels * levels.new_tensor(LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)
    if tuple(levels.shape[-2:]) != verifier.size:
        levels = functional.interpolate(levels, verifier.size, mode="bilinear", antialias=True)
    return scale.from_levels(levels)
