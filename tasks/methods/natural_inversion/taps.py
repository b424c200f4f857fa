"""Find a teacher's BatchNorm layers and the feature maps (taps) that the pyramid reads, one per resolution.

The rule that chooses the taps is ours. On the CIFAR ResNets of the published code it finds the published ones.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.hooks import RemovableHandle

from tailforge.schemas.errors import ModelError
from tailforge.tasks.methods.natural_inversion.contract import TeacherProtocol

DRY_IMAGES = 2


@dataclass(frozen=True)
class Tap:
    """A feature map: the output of the module `name` in its call number `call` (from 0) of a pass."""

    name: str
    channels: int
    size: tuple[int, int]
    call: int = 0


@dataclass(frozen=True)
class Anatomy:
    """The structure of the teacher, seen in one pass. `norms`: BatchNorm layers; `taps`: large to small."""

    norms: tuple[str, ...]
    taps: tuple[Tap, ...]
    classes: int
    channels: int


def freeze(module: nn.Module) -> None:
    """Switch training behaviour and the gradients of all weights off."""
    module.eval().requires_grad_(False)


def require_batchnorm(module: nn.Module) -> None:
    """Check that a BatchNorm layer holds running statistics. Errors: ModelError naming the class if none does."""
    if not any(_holds_statistics(part) for part in module.modules()):
        raise _no_batchnorm(module)


def examine(teacher: TeacherProtocol) -> Anatomy:
    """Pass two black images through the teacher with a hook on every module, and return its structure.

    The hooks are removed afterwards. Errors: ModelError for a teacher without BatchNorm on feature maps, with other
    than 1 or 3 channels, or without logits [N, classes].
    """
    freeze(teacher.module)
    channels = len(teacher.mean)
    if channels not in (1, 3):
        raise ModelError(f"{_kind(teacher.module)} reads {channels} channels; natural_inversion makes images of 1 or 3")

    # One pass, in which every module notes its feature maps and BatchNorm inputs.
    device = next(teacher.module.parameters()).device
    book = _Book()
    handles = [part.register_forward_hook(book.note(name)) for name, part in teacher.module.named_modules() if name]
    try:
        with torch.no_grad():
            logits = teacher.logits(torch.zeros(DRY_IMAGES, channels, *teacher.size, device=device))
    finally:
        for handle in handles:
            handle.remove()

    # A teacher that does not fit fails here, before any training.
    if logits.ndim != 2 or len(logits) != DRY_IMAGES:
        raise ModelError(f"{_kind(teacher.module)} returns {list(logits.shape)} for {DRY_IMAGES} images; a classifier "
                         "returns logits [images, classes]")  # fmt: skip
    if not book.norms:
        raise _no_batchnorm(teacher.module)
    return Anatomy(tuple(dict.fromkeys(book.norms)), choose_taps(book.records), logits.shape[1], channels)


@dataclass(frozen=True)
class Record:
    """A feature map that a module returned; `input_area` is the area of its input, 0 if that is no map."""

    name: str
    input_area: int
    channels: int
    size: tuple[int, int]
    call: int = 0

    @property
    def area(self) -> int:
        """Return the number of positions of the map."""
        return self.size[0] * self.size[1]


def choose_taps(records: Sequence[Record]) -> tuple[Tap, ...]:
    """Return per size the last map that is not inside a step to a smaller size, or else the last map of that size.

    A map that a larger one follows belongs to a side branch (squeeze and excite) and does not count.
    """
    # From the end: keep maps that no larger one follows.
    kept, largest = [], 0
    for record in reversed(records):
        if record.area >= largest:
            kept.append(record)
        largest = max(largest, record.area)
    kept.reverse()

    # A step is a module that changes the size once; maps inside it are not its result.
    steps = {record.name: record for record in kept if _changes(record, kept) == 1}
    chosen: dict[tuple[int, int], tuple[bool, Record]] = {}
    for record in kept:
        inside = any(steps[name].area < record.area for name in _ancestors(record.name) if name in steps)
        if not inside or chosen.get(record.size, (True,))[0]:
            chosen[record.size] = inside, record

    # Large to small, as the pyramid reads them.
    last = sorted((record for _, record in chosen.values()), key=lambda record: -record.area)
    return tuple(Tap(record.name, record.channels, record.size, record.call) for record in last)


def _ancestors(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]


def _changes(module: Record, records: Sequence[Record]) -> int:
    """Return how often the size changes between the module's input and its output."""
    # The sizes that pass through the module, in order, its own input and output included.
    areas = [module.input_area] if module.input_area else []
    areas += [record.area for record in records if record.name.startswith(f"{module.name}.")]
    areas.append(module.area)
    return sum(before != after for before, after in pairwise(areas))


class _Book:
    """Records modules while the teacher runs."""

    def __init__(self) -> None:
        self.norms: list[str] = []
        self.records: list[Record] = []
        self._calls: Counter[str] = Counter()
        self._pooled: list[Tensor] = []  # kept alive: a container that returns one of them has no map of its own

    def note(self, name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            call = self._calls[name]
            self._calls[name] += 1
            # Only feature maps [N, C, h, w] count; a pooled map belongs to the layer before it.
            given = inputs[0] if inputs and isinstance(inputs[0], Tensor) and inputs[0].ndim == 4 else None
            if given is not None and _holds_statistics(module):
                self.norms.append(name)
            if not isinstance(output, Tensor) or output.ndim != 4:
                return
            if "Pool" in type(module).__name__:
                self._pooled.append(output)
            elif not any(output is pooled for pooled in self._pooled):
                area = given.shape[2] * given.shape[3] if given is not None else 0
                self.records.append(Record(name, area, output.shape[1], (output.shape[2], output.shape[3]), call))

        return hook


@dataclass
class Pass:
    """One pass of B * K images. `statistics`: per BatchNorm layer that ran, its name, mean and variance [K, C]."""

    logits: Tensor  # [B, K, classes]
    statistics: list[tuple[str, Tensor, Tensor]] = field(default_factory=list)
    features: list[Tensor] = field(default_factory=list)  # one per tap, large to small, [B, K, C, h, w]


class Probe:
    """Runs the teacher and reads BatchNorm inputs and taps; its hooks exist inside the `with` block alone."""

    def __init__(self, teacher: TeacherProtocol, anatomy: Anatomy) -> None:
        self._teacher, self._anatomy = teacher, anatomy
        self._handles: list[RemovableHandle] = []
        self._groups = 1
        self._pass: Pass | None = None
        self._maps: dict[tuple[str, int], Tensor] = {}
        self._calls: Counter[str] = Counter()
        self._wanted = {(tap.name, tap.call) for tap in anatomy.taps}
        self._statistics = self._features = False

    def __enter__(self) -> "Probe":
        # Statistics are read from inputs of BatchNorm, taps from outputs.
        parts = dict(self._teacher.module.named_modules())
        for name in self._anatomy.norms:
            self._handles.append(parts[name].register_forward_pre_hook(self._read_statistics(name)))
        for name in dict.fromkeys(tap.name for tap in self._anatomy.taps):
            self._handles.append(parts[name].register_forward_hook(self._read_features(name)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def __call__(self, images: Tensor, *, statistics: bool = False, features: bool = False) -> Pass:
        """Pass normalised images [B, K, C, H, W] through the teacher once; parts that were not requested stay empty."""
        # The hooks write into this pass while the teacher runs.
        self._groups, self._statistics, self._features = images.shape[1], statistics, features
        self._pass, self._maps, self._calls = Pass(images.new_empty(0)), {}, Counter()
        found = self._pass
        try:
            found.logits = _by_group(_at_least_single(self._teacher.logits(images.flatten(0, 1))), self._groups)
        finally:
            self._pass = None
        if features:
            found.features = [self._maps[tap.name, tap.call] for tap in self._anatomy.taps]
        return found

    def running(self, name: str) -> tuple[Tensor, Tensor]:
        """Return the running mean and variance [C] of a BatchNorm layer."""
        layer: Any = self._teacher.module.get_submodule(name)
        return layer.running_mean, layer.running_var

    def _read_statistics(self, name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            if self._pass is None or not self._statistics or inputs[0].ndim != 4:
                return
            # Per batch of its own, over its images and positions; biased, as the authors' code does it.
            value = _by_group(_at_least_single(inputs[0]), self._groups).flatten(3)  # [B, K, C, positions]
            variance, mean = torch.var_mean(value, dim=(0, 3), correction=0)
            self._pass.statistics.append((name, mean, variance))

        return hook

    def _read_features(self, name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
            if self._pass is None or not self._features:
                return
            key = name, self._calls[name]
            self._calls[name] += 1
            if key in self._wanted:  # a copy: an activation that works in place may change the map later
                self._maps[key] = _by_group(_at_least_single(output.detach()).clone(), self._groups)

        return hook


def _holds_statistics(module: nn.Module) -> bool:
    return isinstance(module, _BatchNorm) and module.running_mean is not None and module.running_var is not None


def _by_group(value: Tensor, groups: int) -> Tensor:
    """Reshape [B * K, ...] to [B, K, ...]."""
    return value.reshape(-1, groups, *value.shape[1:])


def _kind(module: nn.Module) -> str:
    return type(module).__name__


def _no_batchnorm(module: nn.Module) -> ModelError:
    return ModelError(
        f"teacher {_kind(module)} has 0 BatchNorm layers with running statistics on feature maps; natural_inversion "
        "needs some. Name a convolutional classifier with BatchNorm (ResNet, RegNet, MobileNetV2, VGG with "
        "BatchNorm), for instance one distilled from this teacher, or choose an engine that draws with a text-to-image "
        "model (plain, seed_select)"
    )


def _at_least_single(value: Tensor) -> Tensor:
    """Convert half precision to single; statistics of half-precision sums would be wrong."""
    return value.to(torch.promote_types(value.dtype, torch.float32))
