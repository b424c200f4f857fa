"""Record a network's attention to words: hooks beside an untouched forward pass, and sums of the words' maps.

Hooks read only existing outputs of a layer's projections, so capture does not change a bit of the image. The context
object holds all state: two networks can be read at once.

The early and the late half of the readings are summed apart. If both show a word in the same place, its map deserves
more trust. Our choice is the soft Jaccard index of the halves' mean maps E and L, each scaled to 0..1:

    agreement = sum of min(E, L) / sum of max(E, L)

Letters of shapes: B images, H heads, N image positions, S text tokens or other keys, D features per head, K words.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Generic, Literal, Protocol, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

from tailforge.schemas.documents.shown import count_of
from tailforge.schemas.errors import EngineError

Grid = tuple[int, int]  # rows and columns
Half = Literal["early", "late"]  # of the readings
HALVES: tuple[Half, Half] = ("early", "late")


class NamedLayer(Protocol):
    """An attention layer and its name in the network."""

    @property
    def name(self) -> str:
        """Return the name of the layer in the network."""

    @property
    def module(self) -> nn.Module:
        """Return the layer itself."""


L = TypeVar("L", bound=NamedLayer)


@dataclass
class WordCapture(ABC, Generic[L]):
    """Adds maps while `denoiser` runs at the timesteps `steps`: one reading per step and layer.

    `words[b][j]` holds the token positions of word j of image b. `rows` are the rows of the denoiser's batch that carry
    the prompts (with guidance the second half); the caller declares them. Maps stay on the device in float32, one sum
    per grid and half. Errors: EngineError for a compiled network and, on exit, if a chosen layer was never called.
    """

    denoiser: nn.Module
    layers: Sequence[L]
    words: Sequence[Sequence[Sequence[int]]]
    rows: slice
    steps: Collection[float]
    _handles: list[RemovableHandle] = field(default_factory=list)
    _sums: dict[tuple[Half, Grid], Tensor] = field(default_factory=dict)
    _counts: dict[tuple[Half, str], int] = field(default_factory=dict)  # readings of a layer
    _calls: int = 0  # recorded calls, the current one included
    _size: Grid | None = None  # `_measure_call`'s result for the current call
    _paused: bool = False
    _selection: Tensor | None = None  # [B, S, K]: 1 where token s belongs to word k

    @abstractmethod
    def _measure_call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Grid | None:
        """Return the image's rows and columns in a call with these arguments, or None for a step not in `steps`."""

    @abstractmethod
    def _list_projections(self, layer: L) -> Sequence[str]:
        """Return the submodules of a layer with outputs that `_read_layer` needs."""

    @abstractmethod
    def _read_layer(self, layer: L, projected: dict[str, Tensor], kwargs: dict[str, Any]) -> tuple[Tensor, Grid]:
        """Return attention [B, N, K] and its grid from the projections' prompt rows and the call's keywords."""

    def __enter__(self) -> Self:
        _refuse_compiled(self.denoiser)
        # Readings start at zero, so that a silent layer is noticed on exit.
        self._counts = {(half, layer.name): 0 for half in HALVES for layer in self.layers}
        self._handles.append(self.denoiser.register_forward_pre_hook(self._begin_call, with_kwargs=True))
        for layer in self.layers:
            self._watch(layer)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        # A chosen layer without a reading means that the network takes another path.
        silent = [layer.name for layer in self.layers if not any(self._counts[half, layer.name] for half in HALVES)]
        if kind is None and silent:
            raise EngineError(
                f"attention layer {silent[0]} was never called while its map was recorded; "
                "use a model without fused projections or skipped blocks"
            )

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Record nothing inside the block: for the unconditional pass of guidance in two passes."""
        self._paused = True
        try:
            yield
        finally:
            self._paused = False

    def _begin_call(self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._size = None if self._paused else self._measure_call(args, kwargs)
        self._calls += self._size is not None

    def _watch(self, layer: L) -> None:
        names = self._list_projections(layer)
        kept: dict[str, Tensor] = {}  # of the current call

        def keep(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
            def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
                if self._size:
                    kept[name] = output.detach()

            return hook

        def add_maps(_module: nn.Module, _inputs: Any, kwargs: dict[str, Any], _output: Any) -> None:
            if self._size and len(kept) == len(names):
                self._add(layer, {name: output[self.rows] for name, output in kept.items()}, kwargs)
            kept.clear()

        self._handles += [layer.module.get_submodule(name).register_forward_hook(keep(name)) for name in names]
        self._handles.append(layer.module.register_forward_hook(add_maps, with_kwargs=True))

    @torch.no_grad()
    def _add(self, layer: L, projected: dict[str, Tensor], kwargs: dict[str, Any]) -> None:

        # The caller declared the prompt rows, so their number must match. Masked attention means other weights.
        count = len(next(iter(projected.values())))
        if count != len(self.words):
            raise EngineError(
                f"the denoiser was called with {count_of(count, 'prompt row')} for {count_of(len(self.words), 'image')}"
            )
        if kwargs.get("attention_mask") is not None:
            raise EngineError(f"attention layer {layer.name} was called with a mask, under which no map can be read")

        # One map per word, put back on the grid of the layer.
        maps, grid = self._read_layer(layer, projected, kwargs)
        if maps.shape[1] != grid[0] * grid[1]:
            raise EngineError(f"attention layer {layer.name} has {maps.shape[1]} positions, not {grid[0]} x {grid[1]}")
        maps = maps.transpose(1, 2).reshape(count, -1, *grid)

        # Sum per half and grid; the mean is taken when the maps are read.
        half: Half = "early" if self._calls <= len(self.steps) // 2 else "late"
        self._sums[half, grid] = self._sums[half, grid] + maps if (half, grid) in self._sums else maps
        self._counts[half, layer.name] += 1

    def _select_words(self, tokens: int, device: torch.device) -> Tensor:
        """Return [B, S, K] for a text of S = `tokens` tokens: 1 where a token belongs to a word."""
        if self._selection is None:
            last = max((token for words in self.words for word in words for token in word), default=0)
            if last >= tokens:
                raise EngineError(
                    f"a word lies at token {last}, but the text of the denoiser has {count_of(tokens, 'token')}"
                )
            # Built once per batch, as every layer reads the same text.
            select = torch.zeros(len(self.words), tokens, max(1, *map(len, self.words)))
            for b, words in enumerate(self.words):
                for k, word in enumerate(words):
                    select[b, list(word), k] = 1
            self._selection = select.to(device)
        return self._selection

    def maps(self, image: int) -> NDArray[np.float16]:
        """Return the maps [K, h, w] of one image's words on the finest grid; a word without tokens is zero."""
        return self._average(image, HALVES).to(torch.float16).cpu().numpy()

    def agreement(self, image: int) -> list[float] | None:
        """Return the agreement of early and late readings per word of one image, 0..1; None after a single reading.

        A word without tokens has an empty map, so its agreement is 0.
        """
        if not all(self._count(half) for half in HALVES):
            return None
        early, late = (self._average(image, [half]) for half in HALVES)
        agreed: list[float] = agree(early, late).tolist()
        return agreed

    def _count(self, half: Half) -> int:
        return sum(self._counts[half, layer.name] for layer in self.layers)

    def _average(self, image: int, halves: Sequence[Half]) -> Tensor:
        """Return the mean [K, h, w] of the readings in some halves."""
        # Coarser grids are resized to the finest before they are averaged.
        # Layers on several grids add up on the finest one.
        finest = max((grid for _, grid in self._sums), key=math.prod)
        sums = [_resize(sums[image], finest) for (half, _), sums in self._sums.items() if half in halves]
        return torch.stack(sums).sum(0)[: len(self.words[image])] / sum(map(self._count, halves))


def _refuse_compiled(denoiser: nn.Module) -> None:
    """Refuse a compiled network: its code was traced without our hooks and may never call them."""
    for name, module in denoiser.named_modules():
        if hasattr(module, "_orig_mod") or module._compiled_call_impl is not None:
            raise EngineError(
                f"{type(denoiser).__name__} is compiled ({name or 'as a whole'}), so its attention cannot be recorded; "
                "use it without torch.compile"
            )


def split_heads(projected: Tensor, heads: int) -> Tensor:
    """Split a projection's output [B, S, H * D] into heads [B, H, S, D]."""
    return projected.reshape(*projected.shape[:2], heads, -1).transpose(1, 2)


def apply_attention(query: Tensor, key: Tensor, columns: Tensor, scale: float | None = None) -> Tensor:
    """Return attention times columns [B, T, K], averaged over heads: [B, N, K].

    Reads query [B, H, N, D] and key [B, H, S, D]. Computes in float32 without forming the attention matrix, in the
    memory of an ordinary attention call. `columns` belong to the first T keys; other keys count as 0. `scale`: by
    default 1 / sqrt(D).
    """
    # The columns take the place of the values, as many at a time as there are features.
    query, key = query.float(), key.float()
    heads, features = query.shape[1], query.shape[-1]
    parts = []
    for some in torch.split(columns.float(), features, dim=-1):
        count = some.shape[-1]
        # Pad to as many columns as features: kernels that avoid the matrix accept no other shape.
        values = functional.pad(some, (0, features - count, 0, key.shape[2] - some.shape[1]))
        values = values[:, None].expand(-1, heads, -1, -1)
        applied = functional.scaled_dot_product_attention(query, key, values, scale=scale)
        parts.append(applied[..., :count].mean(1))
    return torch.cat(parts, dim=-1)


def agree(first: Tensor, second: Tensor) -> Tensor:
    """Return the soft Jaccard index [K] of maps [K, h, w], each scaled to 0..1; 0 if both are constant."""
    first, second = _scale(first), _scale(second)
    shared, either = torch.minimum(first, second).sum((1, 2)), torch.maximum(first, second).sum((1, 2))
    return torch.where(either > 0, shared / either, 0.0)


def _scale(maps: Tensor) -> Tensor:
    """Scale each of the maps [K, h, w] to 0..1; a constant map becomes zero."""
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    return torch.where(high > low, (maps - low) / (high - low), 0.0)


def _resize(maps: Tensor, size: Grid) -> Tensor:
    if maps.shape[-2:] == size:
        return maps
    return functional.interpolate(maps[None], size=size, mode="bilinear", align_corners=False)[0]
