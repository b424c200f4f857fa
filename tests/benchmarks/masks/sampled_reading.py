"""Attention of renders, read at the steps that plain sampling records, so that early and late halves are those."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from tailforge.schemas.settings.annotation import WINDOW
from tailforge.schemas.settings.engines import PlainEngine
from tailforge.tasks.methods.attention.cross_attention import Capture, choose_layer, choose_steps, find_layers
from tailforge.tasks.methods.sampling.generator import join_conditionings
from tailforge.tasks.methods.sampling.pixels import to_tensor
from tailforge.tasks.methods.sampling.renoised_attention import Captioned, Read, draw_like
from tailforge.tasks.models.diffusers_generator import DiffusersGenerator

BATCH = 16


def read_like_sampling(model: DiffusersGenerator, pictures: Sequence[Captioned]) -> list[Read]:
    """Attention to the words of each picture's caption, read at the steps that plain sampling records."""
    scheduler: Any = model.make_scheduler("ddim")
    sampled = model.make_scheduler("model")
    sampled.set_timesteps(PlainEngine().steps, device=model.device)
    steps = sorted(choose_steps([float(t) for t in sampled.timesteps], 1000, WINDOW), reverse=True)
    latents = model.encode(to_tensor(np.stack([each.pixels for each in pictures])))
    words = [model.locate_tokens(each.caption, list(each.words)) for each in pictures]
    conditioning = join_conditionings([model.encode_prompt(each.caption) for each in pictures])
    layer = choose_layer(find_layers(model.denoiser), *latents.shape[-2:])
    generators = [torch.Generator("cpu").manual_seed(each.seed) for each in pictures]
    with torch.inference_mode(), Capture(model.denoiser, [layer], words, slice(0, len(pictures)), steps) as capture:
        for step in steps:
            noisy = scheduler.add_noise(latents, draw_like(latents, generators), torch.tensor([int(step)]))
            model.denoise(noisy, torch.tensor(step, device=model.device), conditioning)
    return [Read(capture.maps(row), capture.agreement(row)) for row in range(len(pictures))]
