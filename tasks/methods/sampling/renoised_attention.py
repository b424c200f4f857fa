"""Read a text-to-image model's attention to the words of a caption, in a picture that the model did not make.

The picture's latent is noised to one point of the schedule. It passes once through the network with the caption and
without guidance. The map of a word is its attention there, averaged over several draws of noise. Free-ATM (arXiv
2308.06739) observes that this attention shows the things of a caption, for images that the model makes itself. To
read it from other pictures is our choice.

    z_t = sqrt(a_t) z_0 + sqrt(1 - a_t) e,   t = noise * T,   of a diffusion model
    z_s = (1 - s) z_0 + s e,                 s = noise,       of a flow

Letters of shapes: B pictures, K words of a caption.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from tailforge.tasks.methods.attention.choose_capture import grid_of, watch_words
from tailforge.tasks.methods.sampling.generator import ImageGenerator, join_conditionings
from tailforge.tasks.methods.sampling.pixels import to_tensor

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Captioned:
    """A picture [height, width, 3], its caption, and the characters [start, end) of each word to find."""

    pixels: Pixels
    caption: str
    words: tuple[tuple[int, int], ...]
    seed: int  # of the noise


@dataclass(frozen=True)
class Read:
    """Maps [K, h, w] of a picture's words, and the agreement of early and late draws per word (None after one draw)."""

    maps: NDArray[np.float16]
    agreement: list[float] | None


@torch.inference_mode()
def read_attention(model: ImageGenerator, pictures: Sequence[Captioned], noise: float, draws: int) -> list[Read]:
    """Return the word maps of every picture, resized to the model's size. The caller holds the model's lock.

    `noise`: share of the schedule, 0..1. `draws`: number of noises to average.
    Errors: EngineError for a foreign network.
    """
    height, width = model.default_size

    # z_0: the picture at the model's size, encoded without noise.
    fitted = [Image.fromarray(each.pixels).resize((width, height), Image.Resampling.BICUBIC) for each in pictures]
    latents = model.encode(to_tensor(np.stack([np.asarray(image) for image in fitted])))

    # The caption is encoded without guidance, and each word has its token positions.
    text = join_conditionings([model.encode_prompt(each.caption) for each in pictures])
    words = [model.locate_tokens(each.caption, list(each.words)) for each in pictures]

    # e: fresh noise per draw. The seed of the picture alone decides it.
    generators = [torch.Generator("cpu").manual_seed(each.seed) for each in pictures]
    noisy = [model.add_noise(latents, draw_like(latents, generators), noise) for _ in range(draws)]
    steps = [float(step) for _, step in noisy]

    # One pass per draw. The capture averages the maps over all passes.
    with watch_words(model.denoiser, words, slice(0, len(pictures)), steps, grid_of(latents)) as capture:
        for noised, step in noisy:
            model.denoise(noised, step, text)
    return [Read(capture.maps(row), capture.agreement(row)) for row in range(len(pictures))]


def draw_like(latents: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """Draw standard normal noise [B, C, H, W] of the latents' shape, one CPU generator per picture."""
    shape = (1, *latents.shape[1:])
    drawn = [torch.randn(shape, generator=generator, dtype=latents.dtype) for generator in generators]
    return torch.cat(drawn).to(latents.device)
