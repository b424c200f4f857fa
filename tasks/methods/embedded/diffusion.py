"""The denoising UNet of the generator: latent diffusion with v-prediction, conditioned by cross-attention on text.

Sources: velocity and its loss, which weighs the clean latent's error by SNR + 1, Salimans and Ho 2022; zero terminal
signal-to-noise ratio (SNR), Lin et al. 2024, algorithm 1; prompt dropout for guidance, Ho and Salimans 2022. The weight
is clipped, min(SNR + 1, 5), after the idea of Hang et al. 2023 (their min(SNR, 5) would be 0 for pure noise).
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from diffusers import DPMSolverMultistepScheduler, UNet2DConditionModel
from diffusers.schedulers.scheduling_dpmsolver_multistep import rescale_zero_terminal_snr
from numpy.typing import NDArray
from torch import Tensor

from tailforge.schemas.training.embedded import DiffusionPhase, DiffusionSettings
from tailforge.tasks.methods.embedded.captions import Wording, draw_captions
from tailforge.tasks.methods.generator_training.noise import NoiseSchedule, draw_noise
from tailforge.tasks.methods.training_loop import Learner, Observe, numpy_draws, restore, run_steps, torch_draws
from tailforge.tasks.methods.workshop import PARTS

VERSION = "diffusion.1"
WORDING = Wording(other_template=0.2, synonym=0.1, no_material=0.05, no_surface=0.05)
NOISE_LEVELS = 1000
LARGEST_WEIGHT = 5.0  # of the squared error of the clean latent

EmbedTexts = Callable[[list[str]], Tensor]  # texts to [N, tokens, width]


def build_scheduler() -> DPMSolverMultistepScheduler:
    """The sampler that is saved with the generator; its noise schedule is the one trained on."""
    return DPMSolverMultistepScheduler(
        num_train_timesteps=NOISE_LEVELS,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        steps_offset=1,  # not used with this spacing; pipelines warn without it
    )


def signal_levels() -> Tensor:
    """Cumulative product of the alphas, float32 [NOISE_LEVELS]; the last is 0: pure noise."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, NOISE_LEVELS) ** 2
    return torch.cumprod(1 - rescale_zero_terminal_snr(betas), dim=0)


def build_unet(
    settings: DiffusionSettings, latent_shape: tuple[int, int, int], text_width: int, seed: int
) -> UNet2DConditionModel:
    """An untrained UNet with cross-attention at every level, for latents [C, h, w]."""
    torch.manual_seed(seed)
    levels = len(settings.channels)
    model = UNet2DConditionModel(
        sample_size=latent_shape[1],
        in_channels=latent_shape[0],
        out_channels=latent_shape[0],
        layers_per_block=1,
        block_out_channels=tuple(settings.channels),
        down_block_types=("CrossAttnDownBlock2D",) * levels,
        up_block_types=("CrossAttnUpBlock2D",) * levels,
        cross_attention_dim=text_width,
        attention_head_dim=settings.heads,  # diffusers means the number of heads by this name
        norm_num_groups=16,
    )
    return model.to(memory_format=torch.channels_last)


def train_diffusion(
    latents: NDArray[np.float32],
    labels_N3: NDArray[np.int16],
    embed: EmbedTexts,
    settings: DiffusionSettings,
    seed: int,
    saved: Mapping[str, Tensor] | None,
    observe: Observe,
) -> UNet2DConditionModel:
    """Train on scaled latents [N, C, h, w] through all phases; returns the averaged weights, frozen."""
    empty = embed([""])
    model = build_unet(settings, (latents.shape[1], latents.shape[2], latents.shape[3]), empty.shape[-1], seed)
    learner = Learner({"unet": model}, settings.ema_decay)
    if saved:
        restore(learner, saved)
    schedule = NoiseSchedule(signal_levels(), "v_prediction")
    rows_by_part = {part: np.flatnonzero(labels_N3[:, 0] == number) for number, part in enumerate(PARTS)}

    def loss_at(step: int) -> Tensor:
        phase, _ = find_phase(settings.phases, step)
        learner.ema_decay = settings.ema_decay if phase.ema_decay is None else phase.ema_decay
        draws = numpy_draws(seed, step)
        rows = draw_rows(phase, rows_by_part, settings, draws)
        texts, _ = draw_captions(labels_N3[rows], WORDING, draws, phase.caption_aliases)
        dropped = draws.random(len(texts)) < settings.prompt_dropout
        prompts = embed(["" if drop else text for text, drop in zip(texts, dropped, strict=True)])
        return velocity_loss(model, torch.from_numpy(latents[rows]), prompts, schedule, torch_draws(seed, step))

    steps = sum(phase.steps for phase in settings.phases)
    run_steps(learner, steps, loss_at, lambda step: learning_rate_at(settings.phases, step), observe)
    learner.load_average()
    return model.eval().requires_grad_(False)


def velocity_loss(
    model: UNet2DConditionModel, clean: Tensor, prompts: Tensor, schedule: NoiseSchedule, draws: torch.Generator
) -> Tensor:
    """Weighted squared error of the velocity v = sqrt(a) * noise - sqrt(1 - a) * clean at a noise level per sample.

    The noise levels of a batch are spread evenly from a random start, which steadies the loss.
    """
    drawn = draw_noise(clean.shape, NOISE_LEVELS, 1, draws)
    noisy = schedule.add_noise(clean, drawn.noise, drawn.times).contiguous(memory_format=torch.channels_last)
    found = model(noisy, drawn.times, encoder_hidden_states=prompts).sample
    return schedule.loss(found, clean, drawn, "min_snr_plus_one", LARGEST_WEIGHT)


def find_phase(phases: Sequence[DiffusionPhase], step: int) -> tuple[DiffusionPhase, int]:
    """The phase that `step` lies in, and how far into it."""
    for phase in phases:
        if step < phase.steps:
            return phase, step
        step -= phase.steps
    return phases[-1], phases[-1].steps


def learning_rate_at(phases: Sequence[DiffusionPhase], step: int) -> float:
    """Linear within a phase."""
    phase, done = find_phase(phases, step)
    first, last = phase.learning_rate
    return first + (last - first) * done / phase.steps


def draw_rows(
    phase: DiffusionPhase,
    rows_by_part: Mapping[str, NDArray[np.int64]],
    settings: DiffusionSettings,
    draws: np.random.Generator,
) -> NDArray[np.int64]:
    """Rows of one batch, sorted: each part as often, and from as few pictures, as its weight in the phase says."""
    parts = list(phase.part_weights)
    weights = np.array([phase.part_weights[part] for part in parts])
    drawn = draws.choice(len(parts), size=settings.batch, p=weights / weights.sum())
    pools = [rows_by_part[part][: max(1, round(phase.part_weights[part] * settings.total_images))] for part in parts]
    return np.sort([pools[number][int(draws.integers(len(pools[number])))] for number in drawn])
