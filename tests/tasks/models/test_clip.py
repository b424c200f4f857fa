"""CLIP adapter: vectors equal those of transformers, do not depend on the batch, and broken folders are refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from transformers import AutoTokenizer, CLIPModel
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from tailforge.schemas.errors import ModelError
from tailforge.schemas.jobs import ResolvedModel
from tailforge.tasks.models.clip import ClipScorer, load_clip, read_preparation
from tests.support.kept_models import forget_all
from tests.support.tiny_clip import save_clip

TEXTS = ["a photo of a gear", "hook", "a very long text " * 10, ""]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "clip"
    path.mkdir()
    save_clip(path)
    return path


@pytest.fixture(autouse=True)
def _no_kept_models() -> None:
    forget_all()


@pytest.fixture
def scorer(folder: Path) -> ClipScorer:
    return load_clip(ResolvedModel(path=str(folder), digest="0"))


def make_images(*sizes: tuple[int, int]) -> list[NDArray[np.uint8]]:
    random = np.random.default_rng(3)
    images = []
    for height, width in sizes:
        coarse = Image.fromarray(random.integers(0, 256, (4, 4, 3), np.uint8), "RGB")
        images.append(np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)))
    return images


SIZES = [(32, 32), (64, 64), (48, 80), (81, 47), (16, 16), (200, 33), *[(64, 64)] * 40]


def test_vectors_are_those_of_transformers(folder: Path, scorer: ClipScorer) -> None:
    model = CLIPModel.from_pretrained(folder).eval()
    pixels = CLIPImageProcessorPil.from_pretrained(folder)(make_images(*SIZES), return_tensors="pt").pixel_values
    tokens = AutoTokenizer.from_pretrained(folder)(
        TEXTS, padding=True, truncation=True, max_length=16, return_tensors="pt"
    )
    with torch.inference_mode():
        output = model(pixel_values=pixels, **tokens)
    assert np.allclose(scorer.embed_images(make_images(*SIZES)), output.image_embeds.numpy(), atol=1e-4)
    assert np.allclose(scorer.embed_texts(TEXTS), output.text_embeds.numpy(), atol=1e-5)


def test_vectors_are_unit_and_do_not_depend_on_the_batch(scorer: ClipScorer) -> None:
    images = make_images(*SIZES)
    for together, alone in (
        (scorer.embed_images(images), [scorer.embed_images([image])[0] for image in images]),
        (scorer.embed_texts(TEXTS), [scorer.embed_texts([text])[0] for text in TEXTS]),
    ):
        assert together.dtype == np.float32
        assert np.abs(together - np.stack(alone)).max() < 1e-5
        assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
        assert np.abs(together[0] - together[1]).max() > 1e-3


def test_nothing_gives_no_vectors(scorer: ClipScorer) -> None:
    assert scorer.embed_images([]).shape == scorer.embed_texts([]).shape == (0, 8)


def test_model_is_loaded_once(folder: Path) -> None:
    model = ResolvedModel(path=str(folder), digest="0")
    assert load_clip(model) is load_clip(model)


def test_a_subfolder_is_entered(folder: Path) -> None:
    model = ResolvedModel(path=str(folder.parent), subfolder=folder.name, digest="sub")
    assert load_clip(model).embed_texts(["gear"]).shape == (1, 8)


@pytest.mark.parametrize(
    ("config", "size", "crop"),
    [
        (None, 32, (32, 32)),
        ({"size": 40, "crop_size": 24}, 40, (24, 24)),
        ({"size": {"height": 20, "width": 30}, "do_center_crop": False}, (20, 30), None),
    ],
)
def test_preparation_follows_the_configuration(
    folder: Path, tmp_path: Path, config: dict[str, object] | None, size: object, crop: object
) -> None:
    shutil.copy(folder / "config.json", tmp_path)
    if config is not None:
        (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": config}))
    found = read_preparation(tmp_path)
    assert (found.size, found.crop) == (size, crop)
    shape = crop or size
    assert found(make_images((50, 70))[0]).shape == (3, *shape)  # type: ignore[misc]


def _drop(path: Path) -> None:
    path.unlink()


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _pickle(path: Path) -> None:
    path.rename(path.with_name("pytorch_model.bin"))


def _retype(path: Path) -> None:
    path.write_text(path.read_text().replace('"model_type": "clip"', '"model_type": "gpt2"'))


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("config.json", _drop, r"config\.json is missing"),
        ("config.json", _cut, r"config\.json cannot be read as JSON"),
        ("config.json", _retype, "model_type is 'gpt2'"),
        ("model.safetensors", _drop, r"model\.safetensors is missing"),
        ("model.safetensors", _cut, r"model\.safetensors is \d+ bytes long"),
        ("model.safetensors", _pickle, "pickle"),
        ("tokenizer.json", _cut, r"tokenizer\.json cannot be read"),
        ("preprocessor_config.json", _cut, r"preprocessor_config\.json cannot be read"),
    ],
)
def test_missing_and_broken_files_are_named(
    folder: Path, tmp_path: Path, name: str, damage: Callable[[Path], None], message: str
) -> None:
    broken = Path(shutil.copytree(folder, tmp_path / "broken"))
    damage(broken / name)
    with pytest.raises(ModelError, match=message):
        load_clip(ResolvedModel(path=str(broken), digest="broken"))
