"""Small random classifiers of the usual shapes, with BatchNorm statistics as after training, for tests of inversion."""

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from tailforge.tasks.methods.cifar_resnet import BasicBlock


@dataclass
class TinyTeacher:
    module: nn.Module
    mean: tuple[float, ...] = (0.5, 0.45, 0.4)
    std: tuple[float, ...] = (0.25, 0.2, 0.3)
    size: tuple[int, int] = (16, 16)
    passes: int = 0

    def logits(self, images: Tensor) -> Tensor:
        self.passes += 1
        output = self.module(images)
        logits: Tensor = getattr(output, "logits", output)
        return logits


class CifarResNet(nn.Module):
    """Four stages at full, half, quarter and eighth size, named as in the published code."""

    def __init__(self, widths: tuple[int, ...] = (4, 8, 12, 16), classes: int = 10, blocks: int = 2) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, widths[0], 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.stages = len(widths)
        width = widths[0]
        for stage, wide in enumerate(widths):
            made = [BasicBlock(width, wide, 1 if stage == 0 else 2), *(BasicBlock(wide, wide, 1),) * (blocks - 1)]
            setattr(self, f"layer{stage + 1}", nn.Sequential(*made))
            width = wide
        self.linear = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.bn1(self.conv1(x)))
        for stage in range(self.stages):
            x = getattr(self, f"layer{stage + 1}")(x)
        logits: Tensor = self.linear(x.mean((2, 3)))
        return logits


class PreActivationBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1, self.bn2 = nn.BatchNorm2d(inputs), nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False) if inputs != outputs else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(x))
        shortcut = x if self.shortcut is None else self.shortcut(y)
        out: Tensor = shortcut + self.conv2(self.relu(self.bn2(self.conv1(y))))
        return out


class WideResNet(nn.Module):
    def __init__(self, widths: tuple[int, int, int] = (6, 8, 10)) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, 1, 1, bias=False)
        inputs = (4, *widths)
        self.group1, self.group2, self.group3 = (
            nn.Sequential(PreActivationBlock(before, wide, 1 if place == 0 else 2), PreActivationBlock(wide, wide, 1))
            for place, (before, wide) in enumerate(zip(inputs, widths, strict=False))
        )
        self.bn = nn.BatchNorm2d(widths[-1])
        self.linear = nn.Linear(widths[-1], 10)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.bn(self.group3(self.group2(self.group1(self.conv1(x))))))
        logits: Tensor = self.linear(x.mean((2, 3)))
        return logits


class SqueezeBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn = nn.BatchNorm2d(outputs)
        self.squeeze = nn.Conv2d(outputs, 2, 1)
        self.excite = nn.Conv2d(2, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.bn(self.conv(x)))
        scale = torch.sigmoid(self.excite(functional.relu(self.squeeze(x.mean((2, 3), keepdim=True)))))
        return x * scale


class SharedActivation(nn.Module):
    """One ReLU and one pooling module used at every size."""

    def __init__(self, channels: int = 1, classes: int = 10) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(channels, 6, 3, padding=1), nn.Conv2d(6, 8, 3, padding=1)
        self.bn1, self.bn2 = nn.BatchNorm2d(6), nn.BatchNorm2d(8)
        self.relu, self.pool = nn.ReLU(), nn.MaxPool2d(2)
        self.linear = nn.Linear(8, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.relu(self.bn1(self.conv1(x))))
        x = self.pool(self.relu(self.bn2(self.conv2(x))))
        logits: Tensor = self.linear(x.mean((2, 3)))
        return logits


def vgg(
    widths: tuple[tuple[int, ...], ...] = ((4,), (6,), (8, 8), (10, 10), (10, 10)), inplace: bool = True
) -> nn.Module:
    """VGG with BatchNorm; the numbers are those of VGG-11 made thin."""
    layers: list[nn.Module] = []
    width = 3
    for stage in widths:
        for wide in stage:
            layers += [nn.Conv2d(width, wide, 3, padding=1), nn.BatchNorm2d(wide), nn.ReLU(inplace=inplace)]
            width = wide
        layers.append(nn.MaxPool2d(2))
    features = nn.Sequential(*layers)
    return nn.Sequential(features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10))


def squeeze_net() -> nn.Module:
    stages = [SqueezeBlock(3, 4, 1), SqueezeBlock(4, 6, 2), SqueezeBlock(6, 8, 2)]
    return nn.Sequential(*stages, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))


def calibrate(module: nn.Module, channels: int = 3, side: int = 16) -> nn.Module:
    """Set the running statistics from smooth random pictures, as training would."""
    random = torch.Generator().manual_seed(1)
    module.train()
    with torch.no_grad():
        for _ in range(12):
            module(smooth_pictures(32, channels, side, random))
    return module.eval()


def smooth_pictures(count: int, channels: int, side: int, random: torch.Generator) -> Tensor:
    coarse = torch.randn(count, channels, 4, 4, generator=random)
    return functional.interpolate(coarse, (side, side), mode="bilinear")


def tiny_teacher(classes: int = 10, side: int = 16) -> TinyTeacher:
    """A ResNet of three stages; each class has logits of mean 0 and deviation 5 on smooth pictures, as if trained."""
    torch.manual_seed(0)
    module = CifarResNet((4, 6, 8), classes, blocks=1)
    calibrate(module, side=side)
    with torch.no_grad():
        logits = module(smooth_pictures(256, 3, side, torch.Generator().manual_seed(2)))
        factor = 5 / logits.std(0)
        module.linear.weight.mul_(factor.unsqueeze(1))
        module.linear.bias.copy_((module.linear.bias - logits.mean(0)) * factor)
    return TinyTeacher(module, size=(side, side))


def count_hooks(module: nn.Module) -> int:
    return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in module.modules())


def state_digest(module: nn.Module) -> str:
    """sha256 of all weights and buffers."""
    whole = hashlib.sha256()
    for name, value in module.state_dict().items():
        whole.update(name.encode() + value.numpy().tobytes())
    return whole.hexdigest()
