"""The predicted memory of generators, against the tensors that the same calls make in truth."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tailforge.flows.build.prepare import prepare_build
from tailforge.schemas.errors import ModelError
from tailforge.schemas.jobs import BuildContext, ResolvedModel
from tailforge.tasks.methods.sampling.clock import Clock
from tailforge.tasks.methods.sampling.footprint import PeakCounter, count_weights
from tailforge.tasks.methods.sampling.plain import render_plain
from tailforge.tasks.models.footprints import count_beside, predict_footprint
from tailforge.tasks.models.sketches import fake_mode, sketch_generator
from tailforge.tasks.models.text_to_image import open_generator
from tests.support.tiny_clip import save_clip
from tests.support.tiny_controls import build_control, locate, save_images
from tests.support.tiny_flows import build_flux, build_sd3
from tests.support.tiny_generators import build_sd, build_sdxl, make_samples
from tests.support.tiny_recipes import TINY, write_recipe

BUILDERS: dict[str, Callable[[], Any]] = {
    "sd": build_sd,
    "sdxl": build_sdxl,
    "sd3": build_sd3,
    "flux": build_flux,
}
CPU = torch.device("cpu")
SIZE = {"height": 64, "width": 48}  # away from the models' own


def prepare(folder: Path, **engine: Any) -> BuildContext:
    recipe = write_recipe(folder, engine=TINY["engine"] | {"steps": 2} | SIZE | engine)
    return prepare_build(str(recipe), str(folder / "store"))


def draw(build: BuildContext) -> int:
    """Return the peak of the tensors of one real batch, and of the texts before it."""
    model = open_generator(build.require_generator(), CPU)
    settings = build.recipe.engine.sampling
    assert settings is not None
    counter = PeakCounter()
    with counter:
        images = list(render_plain(model, make_samples(settings.batch_size), settings, None, Clock()))
    assert all(each.error is None for each in images)
    return counter.peak


@pytest.mark.parametrize("kind", BUILDERS)
def test_the_prediction_is_near_the_tensors_of_a_real_batch(kind: str, tmp_path: Path) -> None:
    BUILDERS[kind]().save_pretrained(tmp_path / "generator")
    build = prepare(tmp_path)
    found = predict_footprint(build, (4,), half=False)
    assert found.size == (64, 48)
    assert found.dtype == "float32"
    assert max(found.phases[4].values()) == pytest.approx(draw(build), rel=0.1)
    assert found.weights == count_weights(open_generator(build.require_generator(), CPU).networks)


@pytest.mark.parametrize("kind", BUILDERS)
def test_memory_grows_with_the_batch_along_a_line_and_halves_in_half_precision(kind: str, tmp_path: Path) -> None:
    BUILDERS[kind]().save_pretrained(tmp_path / "generator")
    build = prepare(tmp_path)
    whole, half = (predict_footprint(build, (1, 3, 5), half=half) for half in (False, True))
    for phase in ("denoise", "decode"):
        one, three, five = (whole.phases[batch][phase] for batch in (1, 3, 5))
        assert 0 < one < three < five
        assert five - three == pytest.approx(three - one, rel=0.01)
        # XL decodes in float32, because its first autoencoder overflows float16.
        upcast = kind == "sdxl" and phase == "decode"
        assert half.phases[3][phase] == pytest.approx(three if upcast else three / 2, rel=0.2)
    assert half.weights < whole.weights


def test_a_control_net_counts(tmp_path: Path) -> None:
    pipeline = build_sd()
    pipeline.save_pretrained(tmp_path / "generator")
    build_control(pipeline).save_pretrained(tmp_path / "control")
    control = locate(tmp_path / "control", save_images(tmp_path / "images"), "depth")
    plain = prepare(tmp_path)
    generator = plain.require_generator().model_copy(update={"control": control})
    build = plain.model_copy(update={"generator": generator})
    found, without = (predict_footprint(each, (4,), half=False) for each in (build, plain))
    assert found.weights == count_weights(open_generator(generator, CPU).networks) > without.weights
    assert found.phases[4]["denoise"] > without.phases[4]["denoise"]
    assert max(found.phases[4].values()) == pytest.approx(draw(build), rel=0.1)


def test_models_beside_the_generator_count_in_float32(tmp_path: Path) -> None:
    save_clip(tmp_path / "clip")
    clip = ResolvedModel(path=str(tmp_path / "clip"), digest="0" * 64)
    stored = sum(path.stat().st_size for path in (tmp_path / "clip").glob("*.safetensors"))
    assert count_beside([clip, clip]) == pytest.approx(stored, rel=0.1)


def test_a_hub_model_is_unknown_before_its_download() -> None:
    model = ResolvedModel(path="somebody/model", revision="1" * 40, digest="0" * 64)
    with pytest.raises(ModelError, match=r"somebody/model is not known before its download"):
        sketch_generator(model, False, fake_mode())
