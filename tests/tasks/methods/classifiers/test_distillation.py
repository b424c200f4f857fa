"""The distillation loss on numbers worked out by hand."""

import math

import pytest
import torch
from torch import Tensor

from tailforge.schemas.training.classifiers import DistillSettings
from tailforge.tasks.methods.classifiers.distillation import distillation_loss, teacher_loss

LABELS = torch.tensor([0])


def test_the_loss_of_two_classes_by_hand() -> None:
    student, teacher = torch.tensor([[0.0, 0.0]]), torch.tensor([[2 * math.log(3), 0.0]])
    # at T = 2 the teacher says 3/4 and 1/4, the student a half each
    expected = 4 * (0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5))
    assert float(distillation_loss(student, teacher, LABELS, 2.0, 0.0)) == pytest.approx(expected, rel=1e-6)
    with_labels = float(distillation_loss(student, teacher, LABELS, 2.0, 0.5))
    assert with_labels == pytest.approx(expected + 0.5 * math.log(2), rel=1e-6)


def test_it_is_the_mean_over_images_and_zero_for_equal_outputs() -> None:
    student, teacher = torch.randn(6, 5), torch.randn(6, 5)
    each = [float(distillation_loss(student[k : k + 1], teacher[k : k + 1], LABELS, 4.0, 0.0)) for k in range(6)]
    assert float(distillation_loss(student, teacher, LABELS, 4.0, 0.0)) == pytest.approx(sum(each) / 6, rel=1e-5)
    assert float(distillation_loss(teacher + 3, teacher, LABELS, 4.0, 0.0)) == pytest.approx(0, abs=1e-5)
    assert min(each) > 0


def test_the_teacher_is_asked_for_the_view_and_gets_no_gradient() -> None:
    weight = torch.ones(3, requires_grad=True)
    asked: list[Tensor] = []

    def logits(images: Tensor) -> Tensor:
        asked.append(images)
        return images.mean((2, 3)) * weight

    student = torch.zeros(2, 3, requires_grad=True)
    images = torch.rand(2, 3, 4, 4)
    teacher_loss(logits, DistillSettings())(student, images, torch.tensor([0, 1])).backward()
    assert asked[0] is images
    assert weight.grad is None
    assert student.grad is not None
    assert bool((student.grad != 0).any())
