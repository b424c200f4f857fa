"""Clean latents from outputs, against diffusers' own schedulers, and the weights against their definitions in SNR."""

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from hypothesis import given
from hypothesis import strategies as st

from tailforge.tasks.methods.generator_training.noise import PREDICTIONS, NoiseSchedule, draw_noise

LEVELS = 1000


def schedule(prediction: str) -> NoiseSchedule:
    return NoiseSchedule(DDPMScheduler(beta_schedule="scaled_linear").alphas_cumprod, prediction)


def latents(seed: int) -> torch.Tensor:
    return torch.randn((4, 3, 5, 6), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("prediction", PREDICTIONS)
@given(time=st.integers(0, LEVELS - 1), seed=st.integers(0, 99))
def test_the_right_output_gives_the_clean_latent_back(prediction: str, time: int, seed: int) -> None:
    made, clean, noise = schedule(prediction), latents(seed), latents(seed + 100)
    times = torch.full((4,), time)
    noisy = made.add_noise(clean, noise, times)
    found = made.predict_clean(made.target(clean, noise, times), noisy, times)
    assert torch.allclose(found, clean, atol=2e-3)  # float32: noise is divided by sqrt(a), 0.07 at the end


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("time", [0, 300, 999])
def test_agrees_with_the_schedulers_own_prediction(prediction: str, time: int) -> None:
    made, output, noisy = schedule(prediction), latents(1), latents(2)
    sampler = DDIMScheduler(beta_schedule="scaled_linear", prediction_type=prediction, clip_sample=False)
    sampler.set_timesteps(LEVELS)
    wanted = sampler.step(output, time, noisy).pred_original_sample
    assert torch.allclose(made.predict_clean(output, noisy, torch.full((4,), time)), wanted, atol=1e-4)


def test_noising_is_that_of_diffusers() -> None:
    clean, noise, times = latents(1), latents(2), torch.tensor([0, 10, 500, 999])
    wanted = DDPMScheduler(beta_schedule="scaled_linear").add_noise(clean, noise, times)
    assert torch.allclose(schedule("epsilon").add_noise(clean, noise, times), wanted)


@pytest.mark.parametrize("prediction", PREDICTIONS)
@given(kept=st.floats(0.01, 0.99))
def test_weights_are_those_of_the_clean_latents_error(prediction: str, kept: float) -> None:
    made = NoiseSchedule(torch.tensor([kept], dtype=torch.float64), prediction)
    snr = kept / (1 - kept)
    error = {"epsilon": 1 / snr, "v_prediction": 1 / (snr + 1), "sample": 1.0}[prediction]  # of the clean latent
    wanted = {
        "epsilon": snr,
        "velocity": snr + 1,
        "min_snr": min(snr, 5),
        "min_snr_plus_one": min(snr + 1, 5),
    }
    for weighting, weight in wanted.items():
        found = made.weigh(torch.zeros(1, dtype=torch.long), weighting, 5.0)  # type: ignore[arg-type]
        assert found.item() == pytest.approx(weight * error)


def test_pure_noise_has_finite_weights() -> None:
    for prediction in PREDICTIONS:
        made = NoiseSchedule(torch.tensor([0.0, 1.0]), prediction)
        for weighting in ("epsilon", "velocity", "min_snr", "min_snr_plus_one"):
            assert made.weigh(torch.tensor([0, 1]), weighting, 5.0).isfinite().all()  # type: ignore[arg-type]


@given(groups=st.integers(1, 8), size=st.sampled_from([1, 2, 16]), seed=st.integers(0, 99))
def test_groups_share_a_level_and_levels_are_spread(groups: int, size: int, seed: int) -> None:
    drawn = draw_noise(torch.Size((groups * size, 1, 2, 2)), LEVELS, size, torch.Generator().manual_seed(seed))
    by_group = drawn.times.view(groups, size)
    assert (by_group == by_group[:, :1]).all()
    strata = ((by_group[:, 0] - by_group[:, 0].min()) * groups / LEVELS).round()
    assert len(strata.unique()) == groups
    assert len(drawn.noise.flatten(1).unique(dim=0)) == groups * size  # noise is each image's own
