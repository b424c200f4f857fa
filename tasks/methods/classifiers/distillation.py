"""Distil knowledge: a student learns the softened outputs of a teacher.

Source: "Distilling the Knowledge in a Neural Network" (arXiv 1503.02531). The teacher sees the same augmented view as
the student; its weights and statistics stay unchanged.
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
    """Return T^2 KL(teacher || student) at temperature T, mean over the images, plus the weighted cross entropy.

    `student` and `teacher` are logits [N, classes]. T^2 keeps the gradient's size about equal for every T.
    """
    # Both softmaxes at temperature T.
    soft = F.kl_div(
        F.log_softmax(student.float() / temperature, 1),
        F.log_softmax(teacher.float() / temperature, 1),
        reduction="batchmean",
        log_target=True,
    )
    loss = temperature**2 * soft
    return loss + label_weight * F.cross_entropy(student.float(), labels) if label_weight else loss


def teacher_loss(teacher_logits: Callable[[Tensor], Tensor], settings: DistillSettings) -> LossOf:
    """Return the loss of a training step; the teacher computes logits [N, classes] of the step's views."""

    def loss_of(logits: Tensor, images: Tensor, labels: Tensor) -> Tensor:
        with torch.no_grad():
            wanted = teacher_logits(images)
        return distillation_loss(logits, wanted, labels, settings.temperature, settings.label_weight)

    return loss_of
