"""A generator whose denoiser is exact: a mixture of two Gaussians in latent space, one of them rare."""

from collections.abc import Sequence
from threading import Lock
from typing import Any

import torch
from diffusers import DDIMScheduler
from torch import Tensor, nn

from tailforge.schemas.jobs import SampleSpec
from tailforge.tasks.methods.planning.samples import derive_seed
from tailforge.tasks.methods.sampling.generator import Conditioning, Scheduler

SIDE = 8
SPREAD = 0.5
RARE = 0.02


class GaussianMixture:
    """Images of 8 x 8 whose one channel is the latent. The rare mode is at +1 in every pixel, the common one at -1.

    The posterior mean of clean latents x from noisy y = sqrt(a) x + sqrt(1 - a) e is known in closed form, so the
    network's output e = (y - sqrt(a) E[x | y]) / sqrt(1 - a) is too. `calls` counts rows through the denoiser. A prompt
    that holds "broken" gives NaN.
    """

    default_size = (SIDE, SIDE)
    device = torch.device("cpu")

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        self.dtype, self.lock, self.calls = dtype, Lock(), 0
        self.denoiser: nn.Module = nn.Identity()
        self.exact = torch.promote_types(dtype, torch.float32)  # what half precision is computed in
        self.levels = self.make_scheduler("model").alphas_cumprod.to(self.exact)  # type: ignore[attr-defined]

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        return 1, height, width

    def make_scheduler(self, name: str, size: tuple[int, int] | None = None) -> Scheduler:
        scheduler: Scheduler = DDIMScheduler(clip_sample=False, set_alpha_to_one=False, steps_offset=1)
        return scheduler

    def draw_controls(
        self, samples: Sequence[SampleSpec], size: tuple[int, int]
    ) -> tuple[Tensor | None, list[dict[str, Any]]]:
        return None, [{} for _ in samples]

    def encode_prompt(self, prompt: str) -> Conditioning:
        value = float("nan") if "broken" in prompt else 0.0
        return Conditioning(torch.full((1, 1, 1), value, dtype=self.dtype))

    def encode_negative(self, prompt: str) -> Conditioning:
        return Conditioning(torch.zeros(1, 1, 1, dtype=self.dtype))

    def locate_tokens(self, prompt: str, spans: Sequence[tuple[int, int]]) -> list[list[int]]:
        return [[] for _ in spans]

    def denoise(self, latents: Tensor, timestep: Any, text: Conditioning) -> Tensor:
        self.calls += len(latents)
        latents = latents.to(self.exact)
        kept = self.levels[int(timestep)]
        means = torch.tensor([1.0, -1.0], dtype=self.exact).view(2, 1, 1, 1, 1)
        variance = kept * SPREAD**2 + 1 - kept
        away = latents[None] - kept.sqrt() * means
        weights = torch.tensor([RARE, 1 - RARE], dtype=self.exact).log().view(2, 1)
        shares = (weights - away.square().flatten(2).sum(2) / (2 * variance)).softmax(0).view(2, -1, 1, 1, 1)
        clean = (shares * (means + kept.sqrt() * SPREAD**2 / variance * away)).sum(0)
        noise = (latents - kept.sqrt() * clean) / (1 - kept).sqrt()
        return (noise + text.embeds.view(-1, 1, 1, 1)).to(self.dtype)

    def add_noise(self, latents: Tensor, noise: Tensor, share: float) -> tuple[Tensor, Tensor]:
        raise NotImplementedError("nothing reads attention in a mixture")

    def decode(self, latents: Tensor) -> Tensor:
        return (latents / 4).expand(-1, 3, -1, -1)

    def encode(self, images: Tensor) -> Tensor:
        return images[:, :1] * 4


class PixelEncoder:
    """The pixels themselves as features."""

    def embed_pixels(self, images: Tensor) -> Tensor:
        return images[:, 0].flatten(1)


def is_rare(pixels: Any) -> bool:
    """Does an image [8, 8, 3] show the rare mode?"""
    return bool(pixels.mean() > 127.5)


def mixture_samples(count: int, prompt: str = "a rare thing") -> list[SampleSpec]:
    """Samples without slots."""
    return [
        SampleSpec(
            sample_id=f"{i:016x}", seed=derive_seed(f"{i:016x}"), prompt_index=0, replica=i, prompt=prompt, slots=()
        )
        for i in range(count)
    ]
