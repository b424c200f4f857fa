"""Build untrained networks of teachers and students.

Sources: "Deep Residual Learning" (arXiv 1512.03385) and "Designing Network Design Spaces" (arXiv 2003.13678), both in
the implementations of transformers.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from transformers import (
    PreTrainedConfig,
    RegNetConfig,
    RegNetForImageClassification,
    ResNetConfig,
    ResNetForImageClassification,
)

from tailforge.schemas.training.classifiers import TeacherModel
from tailforge.tasks.methods.cifar_resnet import CifarResNet
from tailforge.tasks.methods.classifiers.train import Classifier

GROUP_WIDTH = 16  # channels per group of a RegNet's convolutions
SMALL_PX = 64  # longest side of a small image, in pixels


class StudentPreset(NamedTuple):
    """Widths and depths of the stages of a transformers ResNet. It reads small images `enlarge` times larger."""

    widths: tuple[int, ...]
    depths: tuple[int, ...]
    enlarge: int


# The stem of the transformers ResNet reduces each side to a quarter. With images four times larger, its stages have
# the resolutions of the ResNet-18 usual for CIFAR.
STUDENTS = {
    "resnet-small": StudentPreset((32, 64, 128), (1, 1, 1), enlarge=1),
    "resnet18": StudentPreset((64, 128, 256, 512), (2, 2, 2, 2), enlarge=4),
}


def build_student(preset: str, names: Sequence[str], channels: int, size: tuple[int, int], seed: int) -> Classifier:
    """Return an untrained student of the preset for images of `size` (height, width), in pixels."""
    # The seed decides the weights at the start.
    widths, depths, enlarge = STUDENTS[preset]
    torch.manual_seed(seed)
    model = ResNetForImageClassification(_resnet_config(widths, depths, names, channels))
    return Classifier(model, enlarge if max(size) <= SMALL_PX else 1)


def build_teacher(model: TeacherModel, names: Sequence[str], channels: int, seed: int) -> Classifier:
    """Return an untrained teacher of the recipe's architecture."""
    # The seed decides the weights at the start.
    torch.manual_seed(seed)
    if model.architecture == "cifar_resnet":
        return Classifier(CifarResNet(model.widths, model.depths, len(names), channels))
    if model.architecture == "resnet":
        config = _resnet_config(model.widths, model.depths, names, channels)
        return Classifier(ResNetForImageClassification(config))
    return Classifier(RegNetForImageClassification(_regnet_config(model, names, channels)))


def _resnet_config(
    widths: Sequence[int], depths: Sequence[int], names: Sequence[str], channels: int
) -> PreTrainedConfig:
    # Basic blocks of two 3 x 3 convolutions, as in ResNet-18 and ResNet-34.
    return ResNetConfig(
        num_channels=channels,
        embedding_size=widths[0],
        hidden_sizes=list(widths),
        depths=list(depths),
        layer_type="basic",
        **_labels(names),
    )


def _regnet_config(model: TeacherModel, names: Sequence[str], channels: int) -> PreTrainedConfig:
    # Blocks of type X, without squeeze and excitation. The first stage keeps the stem's resolution.
    return RegNetConfig(
        num_channels=channels,
        embedding_size=model.widths[0],
        hidden_sizes=list(model.widths),
        depths=list(model.depths),
        groups_width=GROUP_WIDTH,
        layer_type="x",
        downsample_in_first_stage=False,
        **_labels(names),
    )


def _labels(names: Sequence[str]) -> dict[str, dict[int, str] | dict[str, int]]:
    return {"id2label": dict(enumerate(names)), "label2id": {name: place for place, name in enumerate(names)}}
