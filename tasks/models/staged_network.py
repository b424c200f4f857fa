"""A network cut at a named layer: the feature that leaves it, and the tail that draws from it.

The network is copied in structure and shares its weights, so nothing hangs on the one that others use. One recorded
pass keeps what every later stage was given beside the feature (time embedding, skips, text) and the mean and variance
of every GroupNorm; the tail runs the later stages again on these. With skips and statistics held as recorded a change
of the feature acts through the feature alone, and a GroupNorm carries nothing from one end of the image to the other.
Holding them is our own choice; without it the tail gives the pass's own bits.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import chain
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from tailforge.schemas.errors import ExplanationError
from tailforge.tasks.methods.regional_primitives.linearise import Tail

Run = Callable[[Any], Any]  # one pass through the copied network


class Part(Protocol):
    """A stage: reads the feature first, and whatever else it was given."""

    def __call__(self, *args: Any, **options: Any) -> Any: ...


@dataclass(frozen=True)
class Given:
    """What a stage was given beside the feature, and the feature's keyword where it has one."""

    feature: Tensor
    keyword: str | None
    args: tuple[Any, ...]
    options: dict[str, Any]

    def apply(self, stage: Part, feature: Tensor) -> Any:
        """The stage on other features [B, ...], every row with what the one recorded row was given."""
        args = widen(self.args, len(feature))
        options = {name: widen(value, len(feature)) for name, value in self.options.items()}
        return stage(feature, *args, **options) if self.keyword is None else stage(**{self.keyword: feature}, **options)


def widen(value: Any, count: int) -> Any:
    """Tensors of one row as `count` rows, also within tuples; anything else as it is."""
    if isinstance(value, Tensor):
        return value.expand(count, *value.shape[1:]) if value.dim() and len(value) == 1 else value
    return tuple(widen(each, count) for each in value) if isinstance(value, tuple) else value


class HeldNorm(nn.Module):
    """A GroupNorm whose mean and variance stay those of one recorded input [1, C, ...]."""

    def __init__(self, norm: nn.GroupNorm, recorded: Tensor) -> None:
        super().__init__()
        groups = recorded.reshape(norm.num_groups, -1)
        scale = (groups.var(1, unbiased=False) + norm.eps).rsqrt()
        each = norm.num_channels // norm.num_groups
        scale, mean = scale.repeat_interleave(each), groups.mean(1).repeat_interleave(each)
        self.scale = scale * norm.weight.detach() if norm.affine else scale
        self.shift = -mean * self.scale + (norm.bias.detach() if norm.affine else 0)

    def forward(self, values: Tensor) -> Tensor:
        shape = (1, -1, *(1 for _ in values.shape[2:]))
        return values * self.scale.view(shape) + self.shift.view(shape)


class StagedNetwork:
    """Stages that run one after another; `layers` are those that a feature may be taken after.

    `stages`: names of modules, in order, each reading what the one before gives. Weights are shared, or copied
    where they are not float32: demands cannot be met in half precision.
    """

    def __init__(self, network: nn.Module, stages: Sequence[str], layers: Sequence[str]) -> None:
        self.network = copy_structure(network)
        self.stages, self.layers = tuple(stages), tuple(layers)

    def require_layer(self, layer: str) -> None:
        """Errors: ExplanationError, with what is possible."""
        if layer not in self.layers:
            near = get_close_matches(layer, self.layers, n=2, cutoff=0.4)
            hint = f"; did you mean {' or '.join(near)}?" if near else ""
            raise ExplanationError(f"unknown layer {layer!r}; possible are {', '.join(self.layers)}{hint}")

    @torch.no_grad()
    def read_feature(self, layer: str, run: Run) -> Tensor:
        """What leaves the layer in a pass, [B, C, h, w]."""
        self.require_layer(layer)
        with record_inputs([self._stage(self._after(layer)[0])]) as given:
            run(self.network)
        return next(iter(given.values())).feature

    @torch.no_grad()
    def cut(self, layer: str, run: Run, hold_norms: bool = True) -> tuple[Tensor, Tail]:
        """The feature [1, C, h, w] in a pass of one row, and the tail from it to the network's output."""
        self.require_layer(layer)
        names = self._after(layer)
        stages = [self._stage(name) for name in names]
        norms = [part for stage in stages for part in stage.modules() if isinstance(part, nn.GroupNorm)]
        with record_inputs([*stages, *norms]) as given:
            run(self.network)
        held = {norm: HeldNorm(norm, given[norm].feature) for norm in norms} if hold_norms else {}
        steps = [(given[stage], replace_norms(stage, held)) for stage in stages]

        def tail(features: Tensor) -> Tensor:
            for recorded, stage in steps:
                features = recorded.apply(stage, features)
            return features

        return given[stages[0]].feature, tail

    def _after(self, layer: str) -> tuple[str, ...]:
        return self.stages[self.stages.index(layer) + 1 :]

    def _stage(self, name: str) -> nn.Module:
        return self.network.get_submodule(name)


@torch.no_grad()
def hold_statistics(network: nn.Module, run: Run) -> nn.Module:
    """A copy of a copied network in which every GroupNorm that a pass of one row meets keeps its statistics."""
    norms = [part for part in network.modules() if isinstance(part, nn.GroupNorm)]
    with record_inputs(norms) as given:
        run(network)
    return replace_norms(network, {norm: HeldNorm(norm, given[norm].feature) for norm in norms if norm in given})


def copy_structure(network: nn.Module) -> nn.Module:
    """A copy that shares the weights, or has its own in float32 where the network is in half precision."""
    weights = list(chain(network.parameters(), network.buffers()))
    if all(weight.dtype == torch.float32 for weight in weights if weight.is_floating_point()):
        copied = copy.deepcopy(network, {id(weight): weight for weight in weights})
    else:
        copied = copy.deepcopy(network).float()
    return copied.eval().requires_grad_(False)


def replace_norms(stage: nn.Module, held: dict[nn.GroupNorm, HeldNorm]) -> nn.Module:
    """The stage with other norms: again a copy that shares all weights."""
    memo: dict[int, Any] = {id(weight): weight for weight in chain(stage.parameters(), stage.buffers())}
    return copy.deepcopy(stage, memo | {id(norm): new for norm, new in held.items()})


@contextmanager
def record_inputs(parts: Sequence[nn.Module]) -> Iterator[dict[nn.Module, Given]]:
    """What each module was given in the last pass."""
    given: dict[nn.Module, Given] = {}

    def keep(part: nn.Module, args: tuple[Any, ...], options: dict[str, Any]) -> None:
        if args:
            given[part] = Given(args[0].detach(), None, args[1:], options)
        else:
            keyword = next(iter(options))
            others = {name: value for name, value in options.items() if name != keyword}
            given[part] = Given(options[keyword].detach(), keyword, (), others)

    handles = [part.register_forward_pre_hook(keep, with_kwargs=True) for part in parts]
    try:
        yield given
    finally:
        for handle in handles:
            handle.remove()
