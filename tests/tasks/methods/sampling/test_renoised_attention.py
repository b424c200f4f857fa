"""Masks of pictures that the model did not draw, against the renderer's own."""

import numpy as np
import pytest
import torch

from tailforge.catalog.sources.models import MODELS, digest_model
from tailforge.schemas.jobs import ResolvedModel
from tailforge.schemas.settings.annotation import Annotation
from tailforge.tasks.methods.masks.soft_masks import Word, outline_words, soften_words
from tailforge.tasks.methods.sampling.renoised_attention import Captioned, draw_like, read_attention
from tailforge.tasks.methods.workshop import BALANCED, render, sample_scene
from tailforge.tasks.models.diffusers_generator import DiffusersGenerator
from tailforge.tasks.models.generator_defaults import LEAST_DRAWN, SMALL
from tailforge.tasks.models.text_to_image import load_generator
from tests.benchmarks.masks.absent import DRAWN, NOTHING, plant

DEFAULTS = Annotation(kind="renoised_attention")


@pytest.fixture(scope="module")
def workshop() -> DiffusersGenerator:
    folder = MODELS / "workshop"
    return load_generator(ResolvedModel(path=str(folder), digest=digest_model(folder)))


def renders(count: int) -> tuple[list[Captioned], list[np.ndarray]]:
    """Pictures that no training saw, and where the part is in each."""
    scenes = [sample_scene(number, 991, BALANCED) for number in range(count)]
    made = [render(scene) for scene in scenes]
    captions = [f"a photo of a {scene.part}" for scene in scenes]
    pictures = [
        Captioned(each.image, text, ((text.index(scene.part), len(text)),), number)
        for number, (scene, each, text) in enumerate(zip(scenes, made, captions, strict=True))
    ]
    return pictures, [each.mask for each in made]


def mean_overlap(maps: list[np.ndarray], pictures: list[Captioned], truth: list[np.ndarray]) -> float:
    scores = []
    for soft, picture, mask in zip(maps, pictures, truth, strict=True):
        (found,) = outline_words(soften_words(soft, [Word(0, 1)], picture.pixels, DEFAULTS), DEFAULTS).outlines
        scores.append((found.region & mask).sum() / (found.region | mask).sum())
    return float(np.mean(scores))


def test_the_map_lies_on_the_part(workshop: DiffusersGenerator) -> None:
    pictures, truth = renders(24)
    maps = [found.maps for found in read_attention(workshop, pictures, DEFAULTS.noise, DEFAULTS.draws)]
    assert mean_overlap(maps, pictures, truth) > 0.75
    assert mean_overlap(maps, pictures, truth[1:] + truth[:1]) < 0.4  # and not just on the middle of any picture


def test_a_part_that_is_not_there_has_no_mask(workshop: DiffusersGenerator) -> None:
    def count_masks(case: str) -> int:
        pictures, masks = [plant(case, number, 991)[0] for number in range(16)], 0
        for picture, read in zip(pictures, read_attention(workshop, pictures, 0.2, 2), strict=True):
            words = soften_words(read.maps, [Word(0, 1)], picture.pixels, DEFAULTS, read.agreement, LEAST_DRAWN[SMALL])
            masks += bool(outline_words(words, DEFAULTS, read.agreement).outlines[0].region.any())
        return masks

    assert count_masks(NOTHING) <= 1
    assert count_masks(DRAWN) >= 15


def test_a_picture_keeps_its_map_in_any_batch(workshop: DiffusersGenerator) -> None:
    pictures, _ = renders(3)
    together = read_attention(workshop, pictures, 0.2, 2)
    for picture, found in zip(pictures, together, strict=True):
        (alone,) = read_attention(workshop, [picture], 0.2, 2)
        np.testing.assert_allclose(alone.maps.astype(np.float32), found.maps.astype(np.float32), atol=2e-3)
        assert alone.agreement == pytest.approx(found.agreement, abs=1e-3)


@pytest.mark.parametrize("draws", [1, 2, 3])
def test_draws_agree_where_there_are_some(workshop: DiffusersGenerator, draws: int) -> None:
    pictures, _ = renders(2)
    for found in read_attention(workshop, pictures, 0.2, draws):
        if draws == 1:
            assert found.agreement is None
        else:
            assert len(found.agreement) == 1
            assert 0.3 < found.agreement[0] < 1


def test_a_picture_of_another_size_is_read_at_the_models_own(workshop: DiffusersGenerator) -> None:
    pictures, _ = renders(1)
    (own,) = read_attention(workshop, pictures, 0.2, 1)
    twice = np.repeat(np.repeat(pictures[0].pixels, 2, axis=0), 2, axis=1)
    (larger,) = read_attention(workshop, [Captioned(twice, *_rest(pictures[0]))], 0.2, 1)
    assert own.maps.shape == larger.maps.shape
    assert np.corrcoef(own.maps.ravel(), larger.maps.ravel())[0, 1] > 0.95


def _rest(picture: Captioned) -> tuple[str, tuple[tuple[int, int], ...], int]:
    return picture.caption, picture.words, picture.seed


@pytest.mark.parametrize("step", [0, 200, 999])
def test_noise_follows_the_schedule_and_the_pictures_seed(workshop: DiffusersGenerator, step: int) -> None:
    scheduler = workshop.make_scheduler("ddim")
    latents = torch.full((2, 4, 8, 8), 2.0)
    noise = draw_like(latents, [torch.Generator().manual_seed(seed) for seed in (5, 6)])
    noisy, at = workshop.add_noise(latents, noise, (step + 0.5) / 1000)
    assert int(at) == step
    share = scheduler.alphas_cumprod[step]
    drawn = torch.randn((1, 4, 8, 8), generator=torch.Generator().manual_seed(6))
    torch.testing.assert_close(noisy[1:], share.sqrt() * latents[1:] + (1 - share).sqrt() * drawn)


def test_nothing_is_left_on_the_network(workshop: DiffusersGenerator) -> None:
    pictures, _ = renders(1)
    read_attention(workshop, pictures, 0.2, 1)
    hooks = [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in workshop.denoiser.modules()]
    assert sum(hooks) == 0
