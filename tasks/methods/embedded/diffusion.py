"""Build and train the embedded generator's UNet: latent diffusion with v-prediction, cross-attention on text.

It is a recipe for the trainer of all denoisers (tasks/methods/generator_training): a sampler of batches and a plan,
both made of phases.

Sources: velocity and its loss, which weighs the clean latent's error by SNR + 1, Salimans and Ho 2022; zero terminal
signal-to-noise ratio (SNR), Lin et al. 2024, algorithm 1; prompt dropout for guidance, Ho and Salimans 2022. The weight
is clipped, min(SNR + 1, 5), after the idea of Hang et al. 2023 (their min(SNR, 5) would be 0 for pure noise).
Letters of shapes: N pictures, B of a batch, C latent channels, h and w latent rows and columns.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from diffusers import DPMSolverMultistepScheduler, UNet2DConditionModel
from diffusers.schedulers.scheduling_dpmsolver_multistep import rescale_zero_terminal_snr
from numpy.typing import NDArray
from torch import Tensor

from tailforge.schemas.training.embedded import DiffusionPhase, DiffusionSettings
from tailforge.tasks.methods.embedded.captions import Wording, draw_captions
from tailforge.tasks.methods.generator_training.batches import Batch
from tailforge.tasks.methods.generator_training.denoising import Embed, Network
from tailforge.tasks.methods.generator_training.devices import OneDevice
from tailforge.tasks.methods.generator_training.noise import NoiseSchedule
from tailforge.tasks.methods.generator_training.plan import Plan
from tailforge.tasks.methods.generator_training.train import train_denoiser
from tailforge.tasks.methods.sampling.generator import Conditioning
from tailforge.tasks.methods.training_loop import Observe, Saved, numpy_draws
from tailforge.tasks.methods.workshop import PARTS

VERSION = "diffusion.1"
WORDING = Wording(other_template=0.2, synonym=0.1, no_material=0.05, no_surface=0.05)
NOISE_LEVELS = 1000
LARGEST_WEIGHT = 5.0  # of the squared error of the clean latent
WEIGHT_DECAY = 0.01


def build_scheduler() -> DPMSolverMultistepScheduler:
    """Return the sampler that is saved with the generator. Training uses its noise schedule."""
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
    """Return the cumulative product of the alphas, float32 [NOISE_LEVELS]; the last is 0: pure noise."""
    # The square roots of the betas are evenly spaced, then rescaled so that no signal is left at the end.
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, NOISE_LEVELS) ** 2
    return torch.cumprod(1 - rescale_zero_terminal_snr(betas), dim=0)


def build_unet(
    settings: DiffusionSettings, latent_shape: tuple[int, int, int], text_width: int, seed: int
) -> UNet2DConditionModel:
    """Build an untrained UNet with cross-attention at every level, for latents [C, h, w]."""
    torch.manual_seed(seed)
    levels = len(settings.channels)

    # A Stable Diffusion UNet in miniature: one block per level.
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


@dataclass(frozen=True)
class PhaseSampler:
    """Draws the batches of the phases: scaled latents [N, C, h, w] by part, with freshly worded captions.

    `labels_N3`: part, material and surface of each picture, [N, 3].
    """

    latents: NDArray[np.float32]
    labels_N3: NDArray[np.int16]
    settings: DiffusionSettings
    seed: int

    @property
    def shape(self) -> torch.Size:
        """Shape of a batch's latents, [B, C, h, w]."""
        return torch.Size((self.settings.batch, *self.latents.shape[1:]))

    @cached_property
    def rows_by_part(self) -> dict[str, NDArray[np.int64]]:
        """Rows of each part's pictures, [N of the part]."""
        return {part: np.flatnonzero(self.labels_N3[:, 0] == number) for number, part in enumerate(PARTS)}

    def draw(self, step: int) -> Batch:
        """Return the batch of a step."""
        phase, _ = find_phase(self.settings.phases, step)

        # Rows, captions and dropout come from one stream, in this order.
        draws = numpy_draws(self.seed, step)
        rows = draw_rows(phase, self.rows_by_part, self.settings, draws)
        texts, _ = draw_captions(self.labels_N3[rows], WORDING, draws, phase.caption_aliases)

        # Some texts are dropped, so that the network also learns the empty prompt.
        dropped = draws.random(len(texts)) < self.settings.prompt_dropout
        return Batch(rows, ["" if drop else text for text, drop in zip(texts, dropped, strict=True)], ~dropped)

    def load(self, rows: NDArray[np.int64]) -> Tensor:
        """Return the clean latents of rows [B], [B, C, h, w]."""
        return torch.from_numpy(np.array(self.latents[rows]))


def plan_phases(settings: DiffusionSettings, seed: int) -> Plan:
    """Return the plan of the phases. Each has a learning rate, linear in the step, and may have its own EMA decay."""

    # A short phase averages over fewer steps.
    def ema_decay(step: int) -> float:
        phase, _ = find_phase(settings.phases, step)
        return settings.ema_decay if phase.ema_decay is None else phase.ema_decay

    return Plan(
        steps=sum(phase.steps for phase in settings.phases),
        seed=seed,
        learning_rate=lambda step: learning_rate_at(settings.phases, step),
        ema_decay=ema_decay,
        weighting="min_snr_plus_one",
        snr_limit=LARGEST_WEIGHT,
        weight_decay=WEIGHT_DECAY,
    )


def train_diffusion(
    latents: NDArray[np.float32],
    labels_N3: NDArray[np.int16],
    embed: Embed,
    settings: DiffusionSettings,
    seed: int,
    saved: Saved,
    observe: Observe,
) -> UNet2DConditionModel:
    """Train on scaled latents [N, C, h, w] through all phases; return the averaged weights, frozen.

    Errors: TrainingError.
    """
    # An untrained UNet, as wide in its cross-attention as the text encoder's states.
    width = embed([""]).embeds.shape[-1]
    model = build_unet(settings, (latents.shape[1], latents.shape[2], latents.shape[3]), width, seed)

    # The loop knows the UNet as a function of latents, times and text.
    def denoise(noisy: Tensor, times: Tensor, text: Conditioning) -> Tensor:
        velocity: Tensor = model(noisy, times, encoder_hidden_states=text.embeds).sample
        return velocity

    # The phases decide batches and rates; there is no structure game, and one device is enough.
    network = Network(model, denoise, embed, NoiseSchedule(signal_levels(), "v_prediction"), model.conv_out.weight)
    sampler = PhaseSampler(latents, labels_N3, settings, seed)
    learner = train_denoiser(network, sampler, plan_phases(settings, seed), None, OneDevice(), saved, observe)

    # The averaged weights are the result.
    learner.load_average()
    return model.eval().requires_grad_(False)


def find_phase(phases: Sequence[DiffusionPhase], step: int) -> tuple[DiffusionPhase, int]:
    """Return the phase of a step, and the number of the step within it."""
    # Steps of the phases before are taken off one by one; behind the last phase it stays the last.
    for phase in phases:
        if step < phase.steps:
            return phase, step
        step -= phase.steps
    return phases[-1], phases[-1].steps


def learning_rate_at(phases: Sequence[DiffusionPhase], step: int) -> float:
    """Return the learning rate of a step; it is linear within a phase."""
    phase, done = find_phase(phases, step)
    first, last = phase.learning_rate
    return first + (last - first) * done / phase.steps


def draw_rows(
    phase: DiffusionPhase,
    rows_by_part: Mapping[str, NDArray[np.int64]],
    settings: DiffusionSettings,
    draws: np.random.Generator,
) -> NDArray[np.int64]:
    """Return the rows of one batch, [B], sorted.

    The weight of a part in the phase decides how often it is drawn, and from how few of its pictures.
    """
    # Draw parts by their weights.
    parts = list(phase.part_weights)
    weights = np.array([phase.part_weights[part] for part in parts])
    drawn = draws.choice(len(parts), size=settings.batch, p=weights / weights.sum())

    # Draw a picture of each from the first of the part's pictures, so a rare part has few distinct ones.
    pools = [rows_by_part[part][: max(1, round(phase.part_weights[part] * settings.total_images))] for part in parts]
    return np.sort([pools[number][int(draws.integers(len(pools[number])))] for number in drawn])
