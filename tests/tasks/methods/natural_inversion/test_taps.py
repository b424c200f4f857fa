"""What is found in a teacher: one tap a resolution for every usual shape of network, and BatchNorm inputs by group."""

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    MobileNetV2Config,
    MobileNetV2ForImageClassification,
    RegNetConfig,
    RegNetForImageClassification,
    ResNetConfig,
    ResNetForImageClassification,
)

from tailforge.schemas.errors import ModelError
from tailforge.tasks.methods.natural_inversion.taps import Probe, Record, Tap, choose_taps, examine
from tests.support.tiny_teachers import (
    CifarResNet,
    SharedActivation,
    TinyTeacher,
    WideResNet,
    calibrate,
    count_hooks,
    squeeze_net,
    tiny_teacher,
    vgg,
)


def taps_of(module: nn.Module, side: int, channels: int = 3) -> tuple[Tap, ...]:
    return examine(TinyTeacher(module, (0.5,) * channels, (0.5,) * channels, (side, side))).taps


def square(name: str, channels: int, side: int, call: int = 0) -> Tap:
    return Tap(name, channels, (side, side), call)


def test_a_cifar_resnet_has_the_published_taps() -> None:
    assert taps_of(CifarResNet(), 32) == (
        square("layer1", 4, 32), square("layer2", 8, 16), square("layer3", 12, 8), square("layer4", 16, 4),
    )  # fmt: skip


@pytest.mark.parametrize("inplace", [False, True])
def test_a_vgg_has_the_last_activation_before_each_pool(inplace: bool) -> None:
    assert taps_of(vgg(inplace=inplace), 32) == (
        square("0.2", 4, 32), square("0.6", 6, 16), square("0.13", 8, 8), square("0.20", 10, 4),
        square("0.27", 10, 2),
    )  # fmt: skip


@pytest.mark.parametrize("side", [32, 30])
def test_a_pre_activation_network_has_the_ends_of_its_groups(side: int) -> None:
    half, quarter = side // 2, -(-side // 4)
    assert taps_of(WideResNet(), side) == (
        square("group1", 6, side), square("group2", 8, half), square("bn", 10, quarter),
    )  # fmt: skip


def test_side_branches_are_no_taps() -> None:
    assert taps_of(squeeze_net(), 16) == (square("0", 4, 16), square("1", 6, 8), square("2", 8, 4))


def test_a_module_used_twice_is_told_apart_by_its_call() -> None:
    module = calibrate(SharedActivation(), 1, 8)
    taps = taps_of(module, 8, channels=1)
    assert taps == (square("relu", 6, 8, call=0), square("relu", 8, 4, call=1))
    teacher = TinyTeacher(module, (0.5,), (0.5,), (8, 8))
    with Probe(teacher, examine(teacher)) as probe:
        found = probe(torch.randn(3, 2, 1, 8, 8), features=True)
    assert [tuple(feature.shape) for feature in found.features] == [(3, 2, 6, 8, 8), (3, 2, 8, 4, 4)]


@pytest.mark.parametrize("kind", ["basic", "bottleneck"])
def test_resnet_of_transformers(kind: str) -> None:
    config = ResNetConfig(embedding_size=4, hidden_sizes=[8, 12, 16, 20], depths=[1, 2, 1, 1], layer_type=kind)
    assert taps_of(ResNetForImageClassification(config), 64) == (
        square("resnet.embedder.embedder", 4, 32),
        *(square(f"resnet.encoder.stages.{stage}", 8 + 4 * stage, 16 >> stage) for stage in range(4)),
    )


def test_regnet_of_transformers() -> None:
    config = RegNetConfig(embedding_size=4, hidden_sizes=[8, 12, 16, 20], depths=[1, 2, 1, 1], groups_width=4)
    taps = taps_of(RegNetForImageClassification(config), 64)
    assert [(tap.channels, tap.size[0]) for tap in taps] == [(4, 32), (8, 16), (12, 8), (16, 4), (20, 2)]
    assert [tap.name for tap in taps[1:]] == [f"regnet.encoder.stages.{stage}" for stage in range(4)]


def test_mobilenet_of_transformers() -> None:
    taps = taps_of(MobileNetV2ForImageClassification(MobileNetV2Config(depth_multiplier=0.25)), 64)
    assert [tap.size[0] for tap in taps] == [32, 16, 8, 4, 2]


def test_taps_of_a_list_of_records() -> None:
    records = [
        Record("stem", 64, 3, (8, 8)),
        Record("stage.block.first", 64, 5, (8, 8)),  # still at the old size, inside the step down
        Record("stage.block.second", 64, 5, (4, 4)),
        Record("side", 0, 7, (1, 1)),  # a larger map follows
        Record("stage.block", 64, 5, (4, 4)),
        Record("stage", 64, 5, (4, 4)),
    ]
    assert choose_taps(records) == (square("stem", 3, 8), square("stage", 5, 4))
    assert choose_taps(records[1:]) == (square("stage.block.first", 5, 8), square("stage", 5, 4))


def test_statistics_are_those_of_each_group_and_of_the_input() -> None:
    teacher = tiny_teacher()
    anatomy = examine(teacher)
    images = torch.randn(5, 3, 3, 16, 16)
    with Probe(teacher, anatomy) as probe:
        together = probe(images, statistics=True)
        alone = probe(images[:, 1:2], statistics=True)
    assert [name for name, _, _ in together.statistics] == list(anatomy.norms)
    for (_, mean, variance), (_, own_mean, own_variance) in zip(together.statistics, alone.statistics, strict=True):
        torch.testing.assert_close(mean[1], own_mean[0])
        torch.testing.assert_close(variance[1], own_variance[0])
    stem: Tensor = teacher.module.conv1(images[:, 2]).detach()  # type: ignore[operator]
    torch.testing.assert_close(together.statistics[0][1][2].detach(), stem.mean((0, 2, 3)))
    torch.testing.assert_close(together.statistics[0][2][2].detach(), stem.var((0, 2, 3), correction=0))
    torch.testing.assert_close(together.logits[:, 1:2], alone.logits)


def test_hooks_are_gone_afterwards_and_after_an_error() -> None:
    teacher = tiny_teacher()
    anatomy = examine(teacher)
    probe = Probe(teacher, anatomy)
    with probe:
        assert count_hooks(teacher.module) > 0
        with pytest.raises(RuntimeError):
            probe(torch.zeros(2, 1, 5, 16, 16), statistics=True)
    assert count_hooks(teacher.module) == 0
    teacher.mean = teacher.std = (0.5,)
    with pytest.raises(RuntimeError):
        examine(teacher)
    assert count_hooks(teacher.module) == 0


def test_a_teacher_without_batchnorm_is_refused() -> None:
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False), nn.Flatten(),
                          nn.Linear(4 * 14 * 14, 10))  # fmt: skip
    with pytest.raises(ModelError, match=r"Sequential has 0 BatchNorm layers .*ResNet.*plain, seed_select"):
        examine(TinyTeacher(plain))


def test_only_grey_and_colour_are_drawn() -> None:
    with pytest.raises(ModelError, match="reads 4 channels"):
        examine(TinyTeacher(CifarResNet(), (0.5,) * 4, (0.5,) * 4))


def test_a_network_that_returns_a_map_is_no_classifier() -> None:
    segmenter = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    with pytest.raises(ModelError, match=r"returns \[2, 4, 14, 14\].*logits"):
        examine(TinyTeacher(segmenter))
