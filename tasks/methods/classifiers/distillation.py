"""Compute the loss of a student that learns the softened outputs of a teacher.

Source: "Distilling the Knowledge in a Neural Network" (arXiv 1503.02531), section 2. The teacher reads the same
augmented views as the student. Its weights and statistics stay unchanged.

Letters of shapes: N images, C channels, H and W rows and columns.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from tailforge.schemas.training.classifiers import DistillSettings
from tailforge.tasks.methods.classifiers.train import LossOf

VERSION = "distillation.1"


def distillation_loss(
    student: Tensor, teacher: Tensor, labels: Tensor, temperature: float, label_weight: float
) -> Tensor:
    """Return the loss (scalar) T^2 KL(teacher || student) at temperature T plus the weighted cross entropy.

    Both terms are means over the images. `student` and `teacher` are logits [N, classes], `labels` are [N]. T^2 keeps
    the gradient's size about equal for every T.
    """
    # KL divergence of both softmaxes at temperature T.
    soft = F.kl_div(
        F.log_softmax(student.float() / temperature, 1),
        F.log_softmax(teacher.float() / temperature, 1),
        reduction="batchmean",
        log_target=True,
    )
    loss = temperature**2 * soft

    # The true labels count at temperature 1.
    return loss + label_weight * F.cross_entropy(student.float(), labels) if label_weight else loss


def teacher_loss(teacher_logits: Callable[[Tensor], Tensor], settings: DistillSettings) -> LossOf:
    """Return the loss function of a training step. The teacher maps views [N, C, H, W] to logits [N, classes]."""

    def loss_of(logits: Tensor, images: Tensor, labels: Tensor) -> Tensor:
        # No gradient reaches the teacher.
        with torch.no_grad():
            wanted = teacher_logits(images)
        return distillation_loss(logits, wanted, labels, settings.temperature, settings.label_weight)

    return loss_of
