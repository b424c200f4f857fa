"""The exported directory is a plain diffusers pipeline, whole and deterministic; judges are read back as saved."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file
from transformers import CLIPModel, CLIPTokenizer

from tailforge.schemas.errors import ModelError
from tailforge.tasks.methods.embedded.autoencoder import build_autoencoder
from tailforge.tasks.methods.embedded.captions import every_word
from tailforge.tasks.methods.embedded.clip import build_clip, tokenize, train_tokenizer
from tailforge.tasks.methods.embedded.diffusion import build_unet
from tailforge.tasks.methods.embedded.judges import build_classifier, build_segmenter
from tailforge.tasks.models.judges import load_judges, save_judge
from tailforge.tasks.models.pipeline_folders import draw_images, open_pipeline
from tailforge.tasks.models.workshop_generator import export_generator
from tests.support.tiny_training import plain_pictures, tiny_settings

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipe = tiny_settings()
    tokenizer = train_tokenizer(every_word(), recipe.clip.vocabulary, recipe.clip.tokens)
    clip = build_clip(recipe.clip, tokenizer, recipe.size_px, seed=1)
    autoencoder = build_autoencoder(recipe.autoencoder, recipe.size_px, seed=2)
    unet = build_unet(recipe.diffusion, (4, 8, 8), recipe.clip.width, seed=3)
    found = tmp_path_factory.mktemp("models") / "tiny"
    export_generator(found, unet, autoencoder, clip, tokenizer)
    return found


def test_plain_diffusers_opens_it_and_draws_the_same_twice(folder: Path) -> None:
    pipeline = StableDiffusionPipeline.from_pretrained(folder, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    drawn = [
        pipeline("a photo of a gear", num_inference_steps=3, generator=torch.Generator().manual_seed(3)).images[0]
        for _ in range(2)
    ]
    assert drawn[0].size == (32, 32)
    assert drawn[0].tobytes() == drawn[1].tobytes()


def test_weights_are_stored_in_half_precision_safetensors(folder: Path) -> None:
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert {"model_index.json", "clip/preprocessor_config.json", "tokenizer/tokenizer_config.json"} <= files
    assert not any(name.endswith((".bin", ".pt", ".pkl")) for name in files)
    weights = [load_file(path) for path in folder.rglob("*.safetensors")]
    assert len(weights) == 4
    # Token positions of CLIP are whole numbers.
    assert {value.dtype for file in weights for value in file.values()} - {torch.int64} == {torch.float16}


def test_no_file_names_a_folder_of_the_machine_that_trained_it(folder: Path, tmp_path: Path) -> None:
    pipeline = open_pipeline(folder)
    clip = CLIPModel.from_pretrained(folder / "clip", dtype=torch.float32)
    again = tmp_path / "again"
    export_generator(again, pipeline.unet, pipeline.vae, clip, pipeline.tokenizer)
    assert not [path for path in again.rglob("*.json") if str(folder) in path.read_text()]


def test_text_encoder_is_the_text_tower_of_clip(folder: Path) -> None:
    pipeline = open_pipeline(folder)
    clip = CLIPModel.from_pretrained(folder / "clip", dtype=torch.float32)
    tokenizer = CLIPTokenizer.from_pretrained(folder / "clip")
    ids = tokenize(tokenizer, ["a photo of a hook", ""])
    assert torch.equal(ids, tokenize(pipeline.tokenizer, ["a photo of a hook", ""]))
    assert torch.equal(clip.text_model(ids).last_hidden_state, pipeline.text_encoder(ids).last_hidden_state)


def test_a_picture_does_not_depend_on_its_batch_by_more_than_rounding(folder: Path) -> None:
    pipeline = open_pipeline(folder)
    prompts = ["a gear", "a hook", "a bolt"]
    together = draw_images(pipeline, prompts, [1, 2, 3], steps=3, guidance=2.0)
    alone = draw_images(pipeline, prompts[1:2], [2], steps=3, guidance=2.0)
    assert together.shape == (3, 32, 32, 3)
    assert np.abs(together[1].astype(int) - alone[0].astype(int)).max() <= 1


def test_export_replaces_the_directory_and_keeps_the_card(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "tiny"
    shutil.copytree(folder, target)
    (target / "README.md").write_text("card")
    (target / "left-over.txt").write_text("old")
    pipeline = open_pipeline(folder)
    clip = CLIPModel.from_pretrained(folder / "clip")
    export_generator(target, pipeline.unet, pipeline.vae, clip, pipeline.tokenizer)
    assert (target / "README.md").read_text() == "card"
    assert not (target / "left-over.txt").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]


def test_judges_are_read_back_as_saved(tmp_path: Path) -> None:
    images, _, _ = plain_pictures(3)
    save_judge(tmp_path, "classifier", build_classifier(8, seed=1), 8)
    save_judge(tmp_path, "segmenter", build_segmenter(16, seed=2), 16)
    judges = load_judges(tmp_path)
    weight = build_classifier(8, seed=1).state_dict()["stem.weight"]
    assert torch.equal(judges.classifier.state_dict()["stem.weight"], weight)
    assert judges.classify(images).shape == (3, 3)
    assert judges.segment(images).shape == (3, 32, 32)
    assert judges.segment(images).dtype == bool


def test_missing_judge_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"config.json.*tailforge train"):
        load_judges(tmp_path)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("segmenter.safetensors", b"no weights"),
        ("config.json", b"[" * 100_000),
        ("config.json", b'{"classifier": null}'),
        ("config.json", b'{"classifier": {"width": "wide"}}'),
    ],
)
def test_damaged_judge_is_refused(tmp_path: Path, file: str, content: bytes) -> None:
    save_judge(tmp_path, "classifier", build_classifier(8), 8)
    save_judge(tmp_path, "segmenter", build_segmenter(8), 8)
    (tmp_path / file).write_bytes(content)
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_judges(tmp_path)
