"""Knowledge distillation: a student learns the softened outputs of a teacher.

"Distilling the Knowledge in a Neural Network" (arXiv 1503.02531); the teacher sees the same augmented view as the
student, and its weights and statistics stay as they are.
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
    """T^2 KL(teacher || student) at temperature T, mean over the images, plus the weighted cross entropy.

    `student` and `teacher` are logits [N, classes]. T^2 keeps the gradient's size about the same for every T.
    """
    soft = F.kl_div(
        F.log_softmax(student.float() / temperature, 1),
        F.log_softmax(teacher.float() / temperature, 1),
        reduction="batchmean",
        log_target=True,
    )
    loss = temperature**2 * soft
    return loss + label_weight * F.cross_entropy(student.float(), labels) if label_weight else loss


def teacher_loss(teacher_logits: Callable[[Tensor], Tensor], settings: DistillSettings) -> LossOf:
    """The loss of a training step, with the teacher asked for its logits of the step's views."""

    def loss_of(logits: Tensor, images: Tensor, labels: Tensor) -> Tensor:
        with torch.no_grad():
            wanted = teacher_logits(images)
        return distillation_loss(logits, wanted, labels, settings.temperature, settings.label_weight)

    return loss_of
