"""Two ways of the field to read words' attention, rewritten as baselines for ours.

Both swap every cross-attention layer for one that computes attention step by step, all heads and tokens, and read every
step. `stored_maps` keeps the attention of every layer and step as it is and averages it when the image is done, as
libraries that show attention maps do. `per_head` adds up every head of every layer apart, one image at a time, and
resizes and averages them at the end, as DAAM does (arXiv 2210.04885). A library's slower habits (loops over tokens,
files, copies to the host) are left out.

Letters of shapes: B images, H heads, N image positions, S text tokens, K words.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tailforge.schemas.jobs import SampleSpec
from tailforge.schemas.settings.engines import PlainEngine
from tailforge.tasks.methods.sampling.clock import Clock
from tailforge.tasks.methods.sampling.plain import render_plain
from tailforge.tasks.methods.sampling.rendered import Rendered, cut_batches
from tailforge.tasks.models.diffusers_generator import DiffusersGenerator

# Gets a layer's name and the prompts' attention [B, H, N, S] in it.
Keep = Callable[[str, Tensor], None]


class EagerProcessor:
    """Cross-attention by the textbook, all of whose weights are handed on. `guided`: prompts are the second half."""

    def __init__(self, name: str, keep: Keep, guided: bool) -> None:
        self.name, self.keep, self.guided = name, keep, guided

    def __call__(
        self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor, attention_mask: None = None
    ) -> Tensor:
        projected = (attn.to_q(hidden_states), attn.to_k(encoder_hidden_states), attn.to_v(encoder_hidden_states))
        query, key, value = map(attn.head_to_batch_dim, projected)
        weights = attn.get_attention_scores(query, key)
        every = weights.unflatten(0, (-1, attn.heads))
        self.keep(self.name, every[len(every) // 2 :] if self.guided else every)
        output: Tensor = attn.to_out[1](attn.to_out[0](attn.batch_to_head_dim(weights @ value)))
        return output


@contextmanager
def swapped(denoiser: nn.Module, keep: Keep, guided: bool) -> Iterator[None]:
    """Every cross-attention of the denoiser calls `keep` in here."""
    found: dict[str, Any] = {n: m for n, m in denoiser.named_modules() if getattr(m, "is_cross_attention", False)}
    before = {name: module.processor for name, module in found.items()}
    try:
        for name, module in found.items():
            module.set_processor(EagerProcessor(name, keep, guided))
        yield
    finally:
        for name, module in found.items():
            module.set_processor(before[name])


def render_stored(
    model: DiffusersGenerator, samples: Sequence[SampleSpec], settings: PlainEngine
) -> Iterator[Rendered]:
    """`stored_maps`: every sample with the maps [slot, h, w] of its slots."""
    for batch in cut_batches(samples, settings.batch_size):
        stored: list[Tensor] = []
        with swapped(model.denoiser, lambda _, weights: stored.append(weights), settings.guidance > 1):  # noqa: B023
            made = list(render_plain(model, batch, settings, None, Clock()))
        with torch.inference_mode():
            side = max(math.isqrt(weights.shape[2]) for weights in stored)
            maps = sum(_resize(_to_grid(weights.mean(1)), side, "bilinear") for weights in stored) / len(stored)
            assert isinstance(maps, Tensor)
            for sample, row, own in zip(batch, made, maps, strict=True):
                yield replace(row, attention=_select(model, sample, own))


def render_per_head(
    model: DiffusersGenerator, samples: Sequence[SampleSpec], settings: PlainEngine
) -> Iterator[Rendered]:
    """`per_head`: the same, an image at a time."""
    alone = settings.model_copy(update={"batch_size": 1})
    for sample in samples:
        sums: dict[tuple[str, int], Tensor] = {}

        def keep(name: str, weights: Tensor, sums: dict[tuple[str, int], Tensor] = sums) -> None:
            for head, own in enumerate(_to_grid(weights[0])):
                sums[name, head] = sums[name, head] + own if (name, head) in sums else own

        with swapped(model.denoiser, keep, settings.guidance > 1):
            (made,) = render_plain(model, [sample], alone, None, Clock())
        with torch.inference_mode():
            side = max(own.shape[-1] for own in sums.values())
            heads = [_resize(own[None], side, "bicubic").clamp(min=0) for own in sums.values()]
            mean = torch.cat(heads).mean(0) / settings.steps
            yield replace(made, attention=_select(model, sample, mean))


def _to_grid(weights: Tensor) -> Tensor:
    """[..., S, h, w] of [..., N, S] of a square image."""
    side, turned = math.isqrt(weights.shape[-2]), weights.transpose(-1, -2)
    return turned.reshape(*turned.shape[:-1], side, side)


def _resize(maps: Tensor, side: int, mode: str) -> Tensor:
    return functional.interpolate(maps, size=(side, side), mode=mode, align_corners=False)


def _select(model: DiffusersGenerator, sample: SampleSpec, maps: Tensor) -> Any:
    """float16 [K, h, w]: sums over the tokens of every slot of maps [S, h, w]."""
    words = model.locate_tokens(sample.prompt, [(slot.start, slot.end) for slot in sample.slots])
    return torch.stack([maps[word].sum(0) for word in words]).half().cpu().numpy()
