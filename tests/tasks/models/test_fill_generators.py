"""Networks made for inpainting: drawings of diffusers' own pipelines, and models that are refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tailforge.catalog.images.resizing import place_inside
from tailforge.schemas.errors import ModelError
from tailforge.schemas.jobs import ResolvedModel, SampleSpec
from tailforge.schemas.settings.inpaint import InpaintEngine
from tailforge.tasks.methods.inpainting.render import Layout, render_inpainted
from tailforge.tasks.methods.inpainting.windows import choose_window, composite, restore_window
from tailforge.tasks.methods.sampling.clock import Clock
from tailforge.tasks.models.fill_generators import FillUNetGenerator, FluxFillGenerator
from tailforge.tasks.models.generator_files import check_generator, check_trainable
from tailforge.tasks.models.text_to_image import load_generator
from tests.support.tiny_fills import FILLS
from tests.support.tiny_flows import build_flux, save
from tests.support.tiny_generators import build_sd, make_samples

SIDE, STEPS = 32, 6
REGIONS = ((slice(5, 20), slice(8, 24)), (slice(0, 32), slice(3, 4)), (slice(1, 31), slice(1, 31)))
Pixels = np.ndarray[Any, np.dtype[np.uint8]]


def picture(seed: int) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), np.uint8)


def region(number: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    inside = np.zeros((SIDE, SIDE), np.bool_)
    inside[REGIONS[number]] = True
    return inside


class Whole(Layout):
    """A layout that publishes the whole drawing, also where it changes less than the autoencoder alone does."""

    def put_back(self, drawn: Pixels, alone: Pixels, edges: np.ndarray[Any, Any]) -> tuple[Pixels, float]:
        return composite(self.photograph, restore_window(drawn, self.place, self.window), edges, self.window), 0.0


def draw(model: Any, samples: list[SampleSpec], **engine: Any) -> list[Pixels]:
    """Our drawings: each sample has its own photograph and region."""
    size = {"height": SIDE, "width": SIDE}
    settings = InpaintEngine(sources={"folder": "x"}, steps=STEPS, batch_size=8, feather=0, **size, **engine)

    def lay_out(sample: SampleSpec, size: tuple[int, int]) -> Layout:
        number = int(sample.sample_id, 16)
        window = choose_window([region(number)], size)
        return Whole(picture(number), [region(number)], window, picture(number), place_inside((SIDE, SIDE), size), {})

    made = list(render_inpainted(model, samples, lay_out, settings, None, Clock()))
    assert all(row.error is None for row in made), [row.error for row in made]
    return [row.pixels for row in made if row.pixels is not None]


def pipeline_images(pipeline: Any, samples: list[SampleSpec], **options: Any) -> list[Pixels]:
    """The drawings of the pipeline itself for the same photographs, masks and generators."""
    pipeline.set_progress_bar_config(disable=True)
    generators = [torch.Generator("cpu").manual_seed(sample.seed) for sample in samples]
    if type(pipeline).__name__ == "FluxFillPipeline" and options["strength"] == 1:
        # It would encode the photograph first, to no effect.
        noise = torch.cat([torch.randn(1, 4, 16, 16, generator=each) for each in generators])
        options["latents"] = pipeline._pack_latents(noise, len(samples), 4, 16, 16)
    made = pipeline(
        prompt=[sample.prompt for sample in samples],
        image=[Image.fromarray(picture(number)) for number in range(len(samples))],
        mask_image=[Image.fromarray(region(number)) for number in range(len(samples))],
        height=SIDE, width=SIDE, num_inference_steps=STEPS, generator=generators, output_type="np", **options,
    )  # fmt: skip
    return list((made.images * 255).round().astype(np.uint8))


def adapt(pipeline: Any) -> Any:
    is_flux = type(pipeline).__name__ == "FluxFillPipeline"
    return FluxFillGenerator(pipeline) if is_flux else FillUNetGenerator(pipeline)


@pytest.mark.parametrize("strength", [1.0, 0.5])
@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize("name", FILLS)
def test_the_drawing_is_that_of_the_pipeline(name: str, guidance: float, strength: float) -> None:
    pipeline, samples = FILLS[name](), make_samples(3)
    ours = draw(adapt(pipeline), samples, guidance=guidance, strength=strength)
    theirs = pipeline_images(pipeline, samples, guidance_scale=guidance, strength=strength)
    for number, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
        inside = region(number)
        assert np.abs(mine[inside].astype(int) - other[inside]).max() <= 1
        assert np.array_equal(mine[~inside], picture(number)[~inside])
        assert np.abs(other[inside].astype(int) - picture(number)[inside]).max() > 20


@pytest.mark.parametrize("scheduler", ["euler", "dpmsolver++", "unipc"])
@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_every_scheduler_draws_as_in_the_pipeline(scheduler: str, strength: float) -> None:
    pipeline, samples = FILLS["sd"](), make_samples(2)
    model = adapt(pipeline)
    ours = draw(model, samples, strength=strength, scheduler=scheduler)
    pipeline.scheduler = model.make_scheduler(scheduler)
    theirs = pipeline_images(pipeline, samples, guidance_scale=3.0, strength=strength)
    for number, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
        inside = region(number)
        assert np.abs(mine[inside].astype(int) - other[inside]).max() <= 1


@pytest.mark.parametrize("name", FILLS)
def test_the_mask_and_the_masked_photograph_decide_the_drawing(name: str) -> None:
    """The same noise with another photograph or mask gives other latents."""
    model, sample = adapt(FILLS[name]()), make_samples(1)[0]
    masks = torch.from_numpy(np.stack([region(0), region(0), region(2)]))[:, None].float()
    frames = torch.from_numpy(np.stack([picture(0), picture(1), picture(0)])).permute(0, 3, 1, 2) / 127.5 - 1
    with torch.no_grad():
        text, noise = model.encode_prompt(sample.prompt), torch.randn(1, *model.latent_shape(SIDE, SIDE))
        made = []
        for row in range(3):
            generators = [torch.Generator().manual_seed(0)]
            fill = model.prepare_fill(frames[row : row + 1], masks[row : row + 1], generators)
            told = type(text)(text.embeds, text.pooled, fill=fill)
            made.append(model.denoise(noise, torch.tensor(500.0), told))
        with pytest.raises(ModelError, match="made for inpainting and draws into photographs alone"):
            model.denoise(noise, torch.tensor(500.0), text)
    assert not torch.allclose(made[0], made[1])
    assert not torch.allclose(made[0], made[2])


@pytest.mark.parametrize("name", FILLS)
def test_a_folder_is_recognised_by_its_class(name: str, tmp_path: Path) -> None:
    pipeline, samples = FILLS[name](), make_samples(2)
    model = save(pipeline, tmp_path / name)
    check_generator(model)
    loaded = load_generator(model)
    assert loaded.inpaints
    assert loaded.channels == 4
    with pytest.raises(ModelError, match="training needs a UNet that draws from text alone"):
        check_trainable(model, "base")
    for mine, other in zip(draw(loaded, samples), draw(adapt(pipeline), samples), strict=True):
        assert np.abs(mine.astype(int) - other).max() <= 1


def rename(folder: Path, kind: str, **changes: Any) -> ResolvedModel:
    """Give a saved pipeline another class, or other keys."""
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {"_class_name": kind} | changes))
    return ResolvedModel(path=str(folder), digest=str(folder))


@pytest.mark.parametrize(
    ("build", "kind", "changes", "message"),
    [
        (FILLS["sd"], "StableDiffusionPipeline", {}, "has 9 input channels, and a StableDiffusionPipeline needs 4"),
        (build_sd, "StableDiffusionInpaintPipeline", {}, "needs 9; its class is StableDiffusionPipeline"),
        (FILLS["flux"], "FluxPipeline", {}, "has 48 input channels, and a FluxPipeline needs 16"),
        (build_flux, "FluxFillPipeline", {}, "needs 48; its class is FluxPipeline: name that in model_index.json"),
        (
            FILLS["sdxl"], "StableDiffusionXLInpaintPipeline", {"requires_aesthetics_score": True},
            "with requires_aesthetics_score is not supported",
        ),
    ],
)  # fmt: skip
def test_a_network_that_does_not_fit_its_class_is_refused(
    build: Any, kind: str, changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    save(build(), tmp_path)
    with pytest.raises(ModelError, match=message):
        check_generator(rename(tmp_path, kind, **changes))


def test_an_autoencoder_that_reads_the_mask_is_refused(tmp_path: Path) -> None:
    model = save(FILLS["sd"](), tmp_path)
    config = json.loads((tmp_path / "vae" / "config.json").read_text())
    (tmp_path / "vae" / "config.json").write_text(json.dumps(config | {"_class_name": "AsymmetricAutoencoderKL"}))
    with pytest.raises(ModelError, match="with the autoencoder 'AsymmetricAutoencoderKL' is not supported"):
        check_generator(model)
