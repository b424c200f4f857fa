"""Generators with a ControlNet: images of diffusers' pipelines, the choice of images, and pairs that do not fit."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionControlNetPipeline, StableDiffusionXLControlNetPipeline
from PIL import Image

from tailforge.schemas.errors import ModelError, RecipeError
from tailforge.schemas.jobs import ResolvedModel
from tailforge.schemas.settings.annotation import Recording
from tailforge.schemas.settings.engines import PlainEngine
from tailforge.tasks.methods.sampling.clock import Clock
from tailforge.tasks.methods.sampling.plain import render_plain
from tailforge.tasks.methods.sampling.rendered import Rendered
from tailforge.tasks.models.control_images import ControlImages, find_edges
from tailforge.tasks.models.controlled_generator import check_control
from tailforge.tasks.models.text_to_image import open_generator
from tests.support.tiny_controls import build_control, locate, save_images
from tests.support.tiny_flows import build_flux
from tests.support.tiny_generators import build_sd, build_sdxl, make_samples

PROMPTS = ("a photo of a gear on a wooden bench", "a gear")
BUILDERS: dict[str, tuple[Callable[[], Any], Any]] = {
    "sd": (build_sd, StableDiffusionControlNetPipeline),
    "sdxl": (build_sdxl, StableDiffusionXLControlNetPipeline),
}
CPU = torch.device("cpu")
KINDS = ("edges", "depth", "masks")


@pytest.fixture(scope="module", params=BUILDERS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def folder(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved pipeline, its ControlNet, and images."""
    root = tmp_path_factory.mktemp(kind)
    pipeline = BUILDERS[kind][0]()
    pipeline.save_pretrained(root / "generator")
    build_control(pipeline).save_pretrained(root / "control")
    save_images(root / "images")
    return root


def located(folder: Path, read: str | None = "depth", scale: float = 1.0) -> ResolvedModel:
    control = None if read is None else locate(folder / "control", folder / "images", read, scale)
    return ResolvedModel(path=str(folder / "generator"), digest="0" * 64, control=control)


def render(model: ResolvedModel, recording: Recording | None = None, count: int = 3, **settings: Any) -> list[Rendered]:
    engine = PlainEngine(**{"steps": 3, "batch_size": 4, "guidance": 3.0} | settings)
    return list(render_plain(open_generator(model, CPU), make_samples(count, PROMPTS), engine, recording, Clock()))


def pixels(rendered: list[Rendered]) -> np.ndarray[Any, Any]:
    assert all(row.error is None for row in rendered)
    return np.stack([row.pixels for row in rendered if row.pixels is not None]).astype(int)


def pipeline_images(folder: Path, kind: str, images: list[Image.Image], scale: float, guidance: float) -> Any:
    build, family = BUILDERS[kind]
    parts = dict(build().components) | {"controlnet": build_control(build())}
    further = {"add_watermarker": False} if kind == "sdxl" else {"requires_safety_checker": False}
    pipeline = family(**parts, **further)
    pipeline.set_progress_bar_config(disable=True)
    samples = make_samples(3, PROMPTS)
    made = pipeline(
        [sample.prompt for sample in samples],
        image=images,
        num_inference_steps=3,
        guidance_scale=guidance,
        controlnet_conditioning_scale=scale,
        generator=[torch.Generator("cpu").manual_seed(sample.seed) for sample in samples],
        output_type="np",
    )
    return (made.images * 255).round().astype(int)


@pytest.mark.parametrize(("read", "scale", "guidance"), [("edges", 1.0, 3.0), ("depth", 0.6, 3.0), ("masks", 1.5, 1.0)])
def test_images_are_those_of_the_pipeline(folder: Path, kind: str, read: str, scale: float, guidance: float) -> None:
    rendered = render(located(folder, read, scale), guidance=guidance)
    images = [Image.open(folder / "images" / row.provenance["control"]["image"]) for row in rendered]
    if read == "edges":
        images = [Image.fromarray(find_edges(np.asarray(image))) for image in images]
    theirs = pipeline_images(folder, kind, images, scale, guidance)
    assert np.abs(pixels(rendered) - theirs).max() <= 1
    assert np.abs(pixels(rendered) - pixels(render(located(folder, None), guidance=guidance))).max() > 8


def test_scale_0_is_no_control_and_batches_do_not_matter(folder: Path) -> None:
    assert np.abs(pixels(render(located(folder, scale=0.0))) - pixels(render(located(folder, None)))).max() <= 1
    alone, together = (render(located(folder), batch_size=size) for size in (1, 4))
    assert [row.provenance["control"] for row in alone] == [row.provenance["control"] for row in together]
    assert np.abs(pixels(alone) - pixels(together)).max() <= 1


def test_words_are_masked_and_the_images_stay_the_same(folder: Path) -> None:
    masked, bare = render(located(folder), Recording(window=(0.0, 1.0))), render(located(folder))
    assert np.array_equal(pixels(masked), pixels(bare))
    assert all(row.attention is not None and row.attention.max() > 0 for row in masked)


def test_a_seed_decides_its_image_and_all_images_are_used(folder: Path) -> None:
    images = ControlImages("depth", folder / "images", tuple((f"{each}.png", str(each)) for each in range(5)), "crop")
    chosen = [images.choose(seed)[0] for seed in range(2000)]
    assert chosen == [images.choose(seed)[0] for seed in range(2000)]
    counts = [chosen.count(f"{each}.png") for each in range(5)]
    assert min(counts) > 320  # 400 expected, with a standard deviation of 18
    assert max(counts) < 480


def test_edges_are_white_lines_where_the_brightness_jumps() -> None:
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[:, 16:] = 255
    edges = find_edges(pixels)
    assert set(np.unique(edges)) == {0, 255}
    assert set(np.nonzero(edges[:, :, 0])[1]) <= {15, 16}
    assert edges[1:-1, 15:17, 0].any(axis=1).all()


@pytest.mark.parametrize("read", KINDS)
def test_images_are_brought_to_the_size(read: str, tmp_path: Path) -> None:
    pixels = np.zeros((40, 80, 3), np.uint8)
    pixels[:, 40:] = (200, 10, 30)
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    found = ControlImages(read, tmp_path, (("wide.png", ""),), "crop").read("wide.png", (32, 16))  # type: ignore[arg-type]
    assert found.shape == (32, 16, 3)
    colours = {tuple(int(level) for level in colour) for colour in found.reshape(-1, 3)}
    if read == "masks":
        assert colours == {(0, 0, 0), (200, 10, 30)}  # no new colours between
    with pytest.raises(ModelError, match="cannot be read"):
        ControlImages(read, tmp_path, (("lost.png", ""),), "crop").read("lost.png", (32, 16))  # type: ignore[arg-type]


def edit(name: str, value: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        file = folder / "control" / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {name: value}))

    return change


BAD: dict[str, tuple[Callable[[Path], None], type[Exception], str]] = {
    "text": (edit("cross_attention_dim", 24), RecipeError, r"size of the text's features is 24, the generator's 16"),
    "latents": (edit("in_channels", 9), RecipeError, "number of latent channels is 9, the generator's 4"),
    "blocks": (edit("block_out_channels", [16, 64]), RecipeError, "channels of the blocks"),
    "stride": (
        edit("conditioning_embedding_out_channels", [16, 32, 96, 256]),
        RecipeError,
        "it reads 8 pixels per latent, the generator has 2",
    ),
    "pooled": (edit("global_pool_conditions", True), RecipeError, "global_pool_conditions is not supported"),
    "class": (edit("_class_name", "UNet2DConditionModel"), ModelError, "it must be a ControlNetModel"),
    "weights": (
        lambda folder: (folder / "control" / "diffusion_pytorch_model.safetensors").unlink(),
        ModelError,
        "is missing",
    ),
    "transformer": (
        lambda folder: build_flux().save_pretrained(folder / "generator"),
        RecipeError,
        "the generator is a FluxPipeline, a transformer",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_pair_that_does_not_fit_is_refused_before_it_is_loaded(case: str, tmp_path: Path) -> None:
    build_sd().save_pretrained(tmp_path / "generator")
    build_control(build_sd()).save_pretrained(tmp_path / "control")
    save_images(tmp_path / "images")
    check_control(located(tmp_path))
    change, error, message = BAD[case]
    change(tmp_path)
    with pytest.raises(error, match=message):
        check_control(located(tmp_path))
