"""Search in regions: the guide sees crops, the best candidate is drawn, and noise changes in the regions alone."""

from typing import Any

import numpy as np
import pytest
import torch
from diffusers import EulerAncestralDiscreteScheduler
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import normalize

from tailforge.catalog.images.resizing import place_inside
from tailforge.schemas.errors import RecipeError
from tailforge.schemas.jobs import ResolvedModel, SampleSpec
from tailforge.schemas.settings.inpaint import InpaintEngine, RegionSearch
from tailforge.tasks.methods.inpainting.render import Layout, render_inpainted
from tailforge.tasks.methods.inpainting.search import SMALLEST, Guide, cut_crop, embed_crops, embed_each
from tailforge.tasks.methods.inpainting.windows import choose_window
from tailforge.tasks.methods.sampling.clock import Clock
from tailforge.tasks.methods.sampling.rendered import Rendered
from tailforge.tasks.methods.seed_select.search import candidate_seed
from tailforge.tasks.models.clip import load_clip
from tailforge.tasks.models.flow_generators import FluxGenerator
from tailforge.tasks.models.unet_generator import UNetGenerator
from tests.support.tiny_clip import save_clip
from tests.support.tiny_flows import build_flux
from tests.support.tiny_generators import build_sd, make_samples

SIDE = 32
WHOLE = (slice(None), slice(None))


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    save_clip(folder := tmp_path_factory.mktemp("clip"))
    return load_clip(ResolvedModel(path=str(folder), digest=str(folder)))


def picture(seed: int, side: int = SIDE) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)


def guide_of(encoder: Any, **search: Any) -> Guide:
    settings = RegionSearch(**{"candidates": 4, "screening_steps": 3, **search})
    return Guide(encoder, embed_each(encoder, [picture(seed, 20) for seed in (7, 8)]), settings)


def draw(
    model: Any, samples: list[SampleSpec], guide: Guide | None = None, region: Any = WHOLE, **engine: Any
) -> list[Rendered]:
    """Draw into one photograph per sample, into a rectangle of each."""
    settings = InpaintEngine(sources={"folder": "x"}, steps=3, batch_size=2, **engine)

    def lay_out(sample: SampleSpec, size: tuple[int, int]) -> Layout:
        photograph, inside = picture(int(sample.sample_id, 16)), np.zeros((SIDE, SIDE), np.bool_)
        inside[region] = True
        window = choose_window([inside], size)
        return Layout(photograph, [inside], window, photograph, place_inside((SIDE, SIDE), size), {})

    return list(render_inpainted(model, samples, lay_out, settings, None, Clock(), guide))


@pytest.mark.parametrize("target", ["difference", "centroid"])
def test_the_best_of_all_candidates_is_drawn(encoder: Any, target: str) -> None:
    """The region is the whole photograph, so a candidate is the drawing of a sample with its seed."""
    model, samples, guide = UNetGenerator(build_sd()), make_samples(2), guide_of(encoder, target=target)
    made = draw(model, samples, guide)
    seeds = [[candidate_seed(sample, number) for sample in samples] for number in range(4)]
    drawn = [
        draw(model, [s.model_copy(update={"seed": seed}) for s, seed in zip(samples, own, strict=True)])
        for own in seeds
    ]
    chosen = [row.provenance["candidate"] for row in made]
    for row, sample in enumerate(samples):
        photograph = picture(int(sample.sample_id, 16))
        mean = guide.defects.mean(0)
        if target == "difference":
            mean = normalize(mean, dim=-1) - embed_crops(encoder, [photograph])
        scores = [
            float(normalize(embed_each(encoder, [own[row].pixels])[0], dim=-1) @ normalize(mean, dim=-1))  # type: ignore[list-item]
            for own in drawn
        ]
        assert chosen[row] == int(np.argmax(scores))
        assert made[row].provenance["candidate_score"] == pytest.approx(max(scores), abs=1e-5)
        assert made[row].provenance["own_score"] == pytest.approx(scores[0], abs=1e-5)
        assert np.array_equal(made[row].pixels, drawn[chosen[row]][row].pixels)  # type: ignore[arg-type]
    assert any(chosen)


@pytest.mark.parametrize("build", [lambda: UNetGenerator(build_sd()), lambda: FluxGenerator(build_flux())])
def test_candidates_differ_in_the_region_alone(encoder: Any, build: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model, region = build(), (slice(8, 20), slice(4, 24))
    starts: list[torch.Tensor] = []
    true_denoise, calls = model.denoise, 0

    def denoise(latents: Any, timestep: Any, text: Any) -> Any:
        nonlocal calls
        if calls % 3 == 0:  # the first of the 3 steps of a drawing
            starts.append(latents[:1].clone())
        calls += 1
        return true_denoise(latents, timestep, text)

    monkeypatch.setattr(model, "denoise", denoise)
    engine = {"height": SIDE, "width": SIDE, "guidance": 1.0}
    (made,) = draw(model, make_samples(1), guide_of(encoder), region, **engine)
    assert made.provenance["forward_evaluations"] == calls == 3 * 5
    cells = torch.zeros(16, 16, dtype=torch.bool)
    cells[4:10, 2:12] = True
    for each in starts[1:4]:
        assert torch.equal(each[..., ~cells], starts[0][..., ~cells])
        assert not torch.equal(each[..., cells], starts[0][..., cells])
    assert torch.equal(starts[4], starts[made.provenance["candidate"]])
    photograph = picture(0)
    outside = np.ones((SIDE, SIDE), np.bool_)
    outside[region] = False
    assert made.pixels is not None
    assert np.array_equal(made.pixels[outside], photograph[outside])


def test_a_sampler_that_adds_noise_is_refused(encoder: Any) -> None:
    model = UNetGenerator(build_sd())
    model.pipeline.scheduler = EulerAncestralDiscreteScheduler.from_config(model.pipeline.scheduler.config)
    with pytest.raises(RecipeError, match="adds noise while it samples"):
        draw(model, make_samples(1), guide_of(encoder))


def test_a_target_leaves_out_what_the_photograph_has_too(encoder: Any) -> None:
    """Known defects that look like the photograph itself leave no direction."""
    photograph, inside = picture(3), np.ones((SIDE, SIDE), np.bool_)
    guide = Guide(encoder, embed_each(encoder, [photograph]), RegionSearch())
    assert float(guide.target(photograph, [inside]).abs().max()) < 1e-3
    other = guide_of(encoder).target(photograph, [inside])
    assert float(other.norm()) == pytest.approx(1, abs=1e-5)


@given(
    st.tuples(st.integers(1, 60), st.integers(1, 60)), st.tuples(st.floats(0, 1), st.floats(0, 1)),
    st.tuples(st.integers(1, 30), st.integers(1, 30)),
)  # fmt: skip
def test_a_crop_holds_its_region_and_is_square_where_the_image_allows(
    size: tuple[int, int], corner: tuple[float, float], sides: tuple[int, int]
) -> None:
    top, left = (int(share * (limit - 1)) for share, limit in zip(corner, size, strict=True))
    region = np.zeros(size, np.bool_)
    region[top : top + sides[0], left : left + sides[1]] = True
    image = np.zeros((*size, 3), np.uint8)
    image[region] = 255
    crop = cut_crop(image, region)
    assert int((crop[..., 0] == 255).sum()) == int(region.sum())
    longest = max(int(region.any(axis).sum()) for axis in (0, 1))
    wanted = max(round(1.5 * longest), SMALLEST)
    assert crop.shape[:2] == (min(wanted, size[0]), min(wanted, size[1]))
