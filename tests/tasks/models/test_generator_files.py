"""A broken generator directory is refused with the file's name before any work, by the check and by the loader."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import RePaintScheduler

from tailforge.schemas.errors import ModelError, RecipeError
from tailforge.schemas.jobs import ResolvedModel
from tailforge.tasks.models.generator_files import check_generator, check_loaded
from tailforge.tasks.models.text_to_image import load_generator
from tests.support.kept_models import forget_all
from tests.support.tiny_generators import build_sd, build_sdxl, save_sd


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_sd(folder)
    return folder


@pytest.fixture
def model(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "model"))


UNET = "unet/diffusion_pytorch_model.safetensors"


def drop(name: str) -> Callable[[Path], object]:
    return lambda model: (model / name).unlink()


def write(name: str, data: bytes) -> Callable[[Path], object]:
    return lambda model: (model / name).write_bytes(data)


def edit(name: str, **changes: object) -> Callable[[Path], object]:
    return lambda model: (model / name).write_text(json.dumps(json.loads((model / name).read_text()) | changes))


def truncate(model: Path) -> None:
    data = (model / UNET).read_bytes()
    (model / UNET).write_bytes(data[:-100])


def pickle_only(model: Path) -> None:
    (model / UNET).rename(model / "unet" / "diffusion_pytorch_model.bin")


BREAKAGES = {
    "no index": (drop("model_index.json"), "model_index.json is missing"),
    "index is no JSON": (write("model_index.json", b"{"), "model_index.json cannot be read as JSON"),
    "index is a list": (write("model_index.json", b"[]"), "model_index.json cannot be read as JSON: it holds a list"),
    "wrong class": (edit("model_index.json", _class_name="KolorsPipeline"), "pipeline class is 'KolorsPipeline'"),
    "part not listed": (edit("model_index.json", vae=[None, None]), "does not list 'vae'"),
    "no part": (lambda model: shutil.rmtree(model / "vae"), "vae is missing although"),
    "no weights": (drop(UNET), "diffusion_pytorch_model.safetensors is missing"),
    "pickled weights": (pickle_only, r"as a pickle \(diffusion_pytorch_model.bin\)"),
    "truncated weights": (truncate, r"is \d+ bytes long and not a safetensors file: .*not fully covered"),
    "empty weights": (write(UNET, b""), "bytes long and not a safetensors file"),
    "weights are text": (write("vae/diffusion_pytorch_model.safetensors", b"version https://git-lfs"), "git lfs pull"),
    "header is no JSON": (write(UNET, (4).to_bytes(8, "little") + b"{{{{"), "bytes long and not a safetensors file"),
    "no config": (drop("text_encoder/config.json"), r"text_encoder.config.json is missing"),
    "config is no JSON": (write("unet/config.json", b"\xff"), r"unet.config.json cannot be read as JSON"),
    "distilled": (edit("unet/config.json", time_cond_proj_dim=256), "guidance-distilled"),
    "no scheduler": (drop("scheduler/scheduler_config.json"), "scheduler_config.json is missing"),
    "scheduler of another kind": (
        edit("scheduler/scheduler_config.json", _class_name="RePaintScheduler"),
        "scheduler is 'RePaintScheduler'; a StableDiffusionPipeline runs with one of .*, TCDScheduler",
    ),
    "no tokenizer": (drop("tokenizer/tokenizer.json"), "vocab.json is missing"),
}


@pytest.mark.parametrize("name", BREAKAGES)
def test_a_broken_directory_is_refused(model: Path, name: str) -> None:
    breaks, message = BREAKAGES[name]
    breaks(model)
    resolved = ResolvedModel(path=str(model), digest=name)
    with pytest.raises(ModelError, match=message):
        check_generator(resolved)
    with pytest.raises(ModelError, match=message):
        load_generator(resolved)


def test_weights_of_another_shape_are_refused_when_loading(model: Path) -> None:
    edit("unet/config.json", block_out_channels=[16, 64])(model)
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_generator(ResolvedModel(path=str(model), digest="other shape"))


def test_a_whole_directory_passes_and_loads_in_float32(model: Path) -> None:
    resolved = ResolvedModel(path=str(model.parent), subfolder=model.name, digest="whole")
    check_generator(resolved)
    loaded = load_generator(resolved)
    assert load_generator(resolved) is loaded
    if loaded.device.type == "cpu":
        assert loaded.dtype == torch.float32
    assert loaded.default_size == (32, 32)
    assert loaded.latent_shape(32, 48) == (4, 16, 24)
    with pytest.raises(RecipeError, match=r"engine.width is 33; .* try 32"):
        loaded.latent_shape(32, 33)
    forget_all()
    assert load_generator(resolved) is not loaded


def test_half_precision_files_are_found(tmp_path: Path) -> None:
    build_sd().to(dtype=torch.float16).save_pretrained(tmp_path / "half", variant="fp16")
    resolved = ResolvedModel(path=str(tmp_path / "half"), digest="half")
    check_generator(resolved)
    assert load_generator(resolved).denoiser.conv_in.weight.isfinite().all()


def test_sharded_files_are_checked_one_by_one(tmp_path: Path) -> None:
    build_sdxl().save_pretrained(tmp_path / "xl", max_shard_size="20KB")
    resolved = ResolvedModel(path=str(tmp_path / "xl"), digest="xl")
    check_generator(resolved)
    shards = sorted((tmp_path / "xl" / "unet").glob("*.safetensors"))
    assert len(shards) > 1
    assert load_generator(resolved).is_xl
    shards[1].unlink()
    with pytest.raises(ModelError, match=shards[1].name):
        check_generator(resolved)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda pipeline: pipeline.unet.register_to_config(time_cond_proj_dim=8), "guidance-distilled"),
        (lambda pipeline: setattr(pipeline, "scheduler", RePaintScheduler()), "scheduler is 'RePaintScheduler'"),
    ],
)
def test_a_pipeline_from_the_hub_is_held_to_what_a_folder_is(change: Callable[[Any], object], message: str) -> None:
    pipeline = build_sd()
    check_loaded(pipeline, "owner/name")
    change(pipeline)
    with pytest.raises(ModelError, match=rf"owner/name, .*{message}"):
        check_loaded(pipeline, "owner/name")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (ResolvedModel(path="no/where", digest="0"), "needs a revision"),
        (ResolvedModel(path="a/b", revision="0" * 40, subfolder="c", digest="0"), "whole pipeline"),
    ],
)
def test_hub_models_are_pinned_and_whole(model: ResolvedModel, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        check_generator(model)


def test_a_hub_model_that_cannot_be_reached_is_named() -> None:
    model = ResolvedModel(path="nobody/nothing", revision="0" * 40, digest="hub")
    check_generator(model)
    with pytest.raises(ModelError, match="generator nobody/nothing cannot be loaded"):
        load_generator(model)
