"""Cut a network at a named layer into the feature behind the layer and the tail from this feature to the output.

The cut network is a copy of the structure with shared weights, so the original gets no hooks. One recorded pass stores
the other inputs of every later stage (time embedding, skip connections, text) and the mean and variance of every
GroupNorm. The tail runs the later stages again with these inputs. So a change of the feature acts only through the
feature, and no GroupNorm carries it across the image. To hold the statistics is our choice; without it the tail repeats
the pass bit for bit.

Letters of shapes: B images, C channels, h and w rows and columns of a feature.
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
    """A stage of a network. Its first input is the feature."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Return the output of the stage, [B, C, h, w]."""


@dataclass(frozen=True)
class Given:
    """The recorded inputs of a stage. `keyword`: the name of the feature's argument, or None for the first argument."""

    feature: Tensor
    keyword: str | None
    args: tuple[Any, ...]
    options: dict[str, Any]

    def apply(self, stage: Part, feature: Tensor) -> Any:
        """Run the stage on other features [B, C, h, w], with the recorded inputs for every row."""
        # The recorded pass has one row.
        args = widen(self.args, len(feature))
        options = {name: widen(value, len(feature)) for name, value in self.options.items()}
        return stage(feature, *args, **options) if self.keyword is None else stage(**{self.keyword: feature}, **options)


def widen(value: Any, count: int) -> Any:
    """Expand tensors of one row [1, ...] to `count` rows, also inside tuples. Return other values unchanged."""
    if isinstance(value, Tensor):
        return value.expand(count, *value.shape[1:]) if value.dim() and len(value) == 1 else value
    return tuple(widen(each, count) for each in value) if isinstance(value, tuple) else value


class HeldNorm(nn.Module):
    """A GroupNorm with the constant mean and variance of one recorded input [1, C, ...]."""

    def __init__(self, norm: nn.GroupNorm, recorded: Tensor) -> None:
        # Statistics of each group, repeated for its channels.
        super().__init__()
        groups = recorded.reshape(norm.num_groups, -1)
        scale = (groups.var(1, unbiased=False) + norm.eps).rsqrt()
        each = norm.num_channels // norm.num_groups
        scale, mean = scale.repeat_interleave(each), groups.mean(1).repeat_interleave(each)

        # Statistics and affine parameters as one scale and one shift per channel.
        self.scale = scale * norm.weight.detach() if norm.affine else scale
        self.shift = -mean * self.scale + (norm.bias.detach() if norm.affine else 0)

    def forward(self, values: Tensor) -> Tensor:
        """Return values [B, C, ...] normalised with the recorded statistics."""
        shape = (1, -1, *(1 for _ in values.shape[2:]))
        return values * self.scale.view(shape) + self.shift.view(shape)


class StagedNetwork:
    """A network as a sequence of stages. `layers`: the stages after which it may be cut.

    `stages`: names of modules, in order; the output of each is the first input of the next. Weights are shared, or
    copied to float32 if they are in half precision, which is too coarse for an explanation.
    """

    def __init__(self, network: nn.Module, stages: Sequence[str], layers: Sequence[str]) -> None:
        self.network = copy_structure(network)
        self.stages, self.layers = tuple(stages), tuple(layers)

    def require_layer(self, layer: str) -> None:
        """Check the name of a layer. Errors: ExplanationError that lists the possible layers."""
        if layer not in self.layers:
            near = get_close_matches(layer, self.layers, n=2, cutoff=0.4)
            hint = f"; did you mean {' or '.join(near)}?" if near else ""
            raise ExplanationError(f"unknown layer {layer!r}; possible are {', '.join(self.layers)}{hint}")

    @torch.no_grad()
    def read_feature(self, layer: str, run: Run) -> Tensor:
        """Return the output [B, C, h, w] of a layer in the pass `run`. Errors: ExplanationError."""
        # The output of a layer is the input of the next stage.
        self.require_layer(layer)
        with record_inputs([self._stage(self._after(layer)[0])]) as given:
            run(self.network)
        return next(iter(given.values())).feature

    @torch.no_grad()
    def cut(self, layer: str, run: Run, hold_norms: bool = True) -> tuple[Tensor, Tail]:
        """Return the feature [1, C, h, w] of a layer in a pass of one row, and the tail from it to the output.

        Errors: ExplanationError for an unknown layer.
        """
        # Record the inputs of all later stages and norms.
        self.require_layer(layer)
        names = self._after(layer)
        stages = [self._stage(name) for name in names]
        norms = [part for stage in stages for part in stage.modules() if isinstance(part, nn.GroupNorm)]
        with record_inputs([*stages, *norms]) as given:
            run(self.network)

        # The tail runs these stages with recorded inputs and, if held, recorded statistics.
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
    """Return a copy of a network in which every GroupNorm keeps its statistics of the pass `run`, of one row."""
    # Norms outside the pass stay as they are.
    norms = [part for part in network.modules() if isinstance(part, nn.GroupNorm)]
    with record_inputs(norms) as given:
        run(network)
    return replace_norms(network, {norm: HeldNorm(norm, given[norm].feature) for norm in norms if norm in given})


def copy_structure(network: nn.Module) -> nn.Module:
    """Return a frozen copy that shares float32 weights, or has float32 weights of its own for half precision."""
    # A memo of the weights makes deepcopy share them.
    weights = list(chain(network.parameters(), network.buffers()))
    if all(weight.dtype == torch.float32 for weight in weights if weight.is_floating_point()):
        copied = copy.deepcopy(network, {id(weight): weight for weight in weights})
    else:
        copied = copy.deepcopy(network).float()
    return copied.eval().requires_grad_(False)


def replace_norms(stage: nn.Module, held: dict[nn.GroupNorm, HeldNorm]) -> nn.Module:
    """Return a copy of a stage with other norms, which shares all weights."""
    # The memo maps each norm to its replacement, and each weight to itself.
    memo: dict[int, Any] = {id(weight): weight for weight in chain(stage.parameters(), stage.buffers())}
    return copy.deepcopy(stage, memo | {id(norm): new for norm, new in held.items()})


@contextmanager
def record_inputs(parts: Sequence[nn.Module]) -> Iterator[dict[nn.Module, Given]]:
    """Record the inputs of modules inside the block, those of the last pass."""
    given: dict[nn.Module, Given] = {}

    def keep(part: nn.Module, args: tuple[Any, ...], options: dict[str, Any]) -> None:
        # The feature is the first argument, by position or by keyword.
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
