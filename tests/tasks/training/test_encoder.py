"""A pre-trained encoder: being killed changes no bit, a finished one is not trained again, NaN is an error."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tailforge.schemas.errors import TrainingError, UserError
from tailforge.schemas.training.pretraining import USES, AnyPretrainSettings
from tailforge.tasks.images.masked import MaskedImages
from tailforge.tasks.methods.classifiers.pictures import Pictures
from tailforge.tasks.methods.pretraining.regions import split_masks
from tailforge.tasks.training.encoder import PROBE, pretrain, probe_encoder
from tests.support.repository import ROOT
from tests.support.tiny_pictures import NAMES, SIDE, toy_pictures

SHAPE = {"steps": 24, "batch": 8, "patch_px": 4, "width": 16, "layers": 1, "heads": 2}
OWN: dict[str, dict[str, Any]] = {
    "contrastive": {"hidden": 16, "projection": 8},
    "masked": {"decoder_width": 16},
    "caption": {"text_width": 16, "text_layers": 1, "vocabulary": 600, "projection": 8},
}
PROGRAM = """
import sys
from pathlib import Path
import torch
from tailforge.tasks.training.encoder import pretrain
from tests.tasks.training.test_encoder import settings_of, toy_images
torch.set_num_threads(int(sys.argv[3]))
pretrain(toy_images(), settings_of(sys.argv[1]), Path(sys.argv[2]), checkpoint_every_s=0)
"""


def settings_of(use: str, **changes: Any) -> AnyPretrainSettings:
    return USES[use].model_validate({**SHAPE, **OWN[use], **changes})


def toy_images(masks: str = "attention") -> MaskedImages:
    """Toy pictures with a square of their class; every fifth shows nothing."""
    pictures = toy_pictures(20, seed=5)
    draws = np.random.default_rng(1)
    drawn = [np.zeros((SIDE, SIDE), np.uint8) for _ in pictures.labels]
    for mask, label in zip(drawn, pictures.labels, strict=True):
        top, left = draws.integers(0, SIDE - 8, size=2)
        mask[top : top + 8, left : left + 8] = label + 1
    for mask in drawn[::5]:
        mask[:] = 0
    regions = split_masks(drawn, {1, 2, 3}, [{label + 1: 0.8} for label in pictures.labels.tolist()])
    return MaskedImages(
        pixels=pictures.images,
        captions=tuple(f"a photo of a {NAMES[label]}" for label in pictures.labels),
        nouns=NAMES,
        regions=None if masks == "none" else regions,
        origin="toys (train)",
        masks=masks,
    )


@pytest.fixture(scope="module", params=list(USES))
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, Any]:
    folder = tmp_path_factory.mktemp("encoders") / request.param
    return request.param, folder, pretrain(toy_images(), settings_of(request.param), folder)


def test_the_report_says_what_was_done(trained: tuple[str, Path, Any]) -> None:
    use, folder, report = trained
    assert json.loads((folder / "report.json").read_text()) == report
    assert report["format"] == "tailforge-pretraining/1"
    assert (report["use"], report["masks"]) == (use, "attention")
    assert report["training"] == {"origin": "toys (train)", "images": 20, "regions": 16}
    expected = {"contrastive": "ViTModel", "masked": "ViTMAEForPreTraining", "caption": "CLIPModel"}
    assert report["encoder"]["model"] == expected[use]
    assert report["settings"]["steps"] == 24
    assert len(report["losses"]) == 24
    assert report["losses"][-1][1] < report["losses"][0][1]
    files = {"config.json", "model.safetensors", "preprocessor_config.json", "report.json"}
    found = {path.name for path in folder.iterdir() if "token" not in path.name and path.name != PROBE}
    assert found == files
    assert any("token" in path.name for path in folder.iterdir()) == (use == "caption")


@pytest.mark.slow
def test_a_killed_training_ends_with_the_same_bits(trained: tuple[str, Path, Any], tmp_path: Path) -> None:
    use, whole, expected = trained
    folder = tmp_path / "encoder"
    threads = str(torch.get_num_threads())  # another number of threads adds up in another order
    with subprocess.Popen([sys.executable, "-c", PROGRAM, use, str(folder), threads], cwd=ROOT) as child:
        while child.poll() is None and not (folder / "checkpoint.safetensors").exists():
            time.sleep(0.002)
        child.kill()
    assert not (folder / "report.json").exists()
    assert (folder / "checkpoint.safetensors").exists()
    steps: list[int] = []
    report = pretrain(toy_images(), settings_of(use), folder, lambda step, loss: steps.append(step))
    assert steps[0] > 1  # it went on
    assert (folder / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert report | {"minutes": 0} == expected | {"minutes": 0}
    assert not (folder / "checkpoint.safetensors").exists()


def test_a_finished_encoder_is_not_trained_again(trained: tuple[str, Path, Any]) -> None:
    use, folder, report = trained

    def fail(step: int, loss: float) -> None:
        raise AssertionError("trained again")

    assert pretrain(toy_images(), settings_of(use), folder, fail) == report


def test_anything_else_in_the_folder_is_refused(trained: tuple[str, Path, Any]) -> None:
    use, folder, _ = trained
    others = [(toy_images(), settings_of(use, learning_rate=0.5)), (toy_images("none"), settings_of(use))]
    for images, settings in others:
        with pytest.raises(UserError, match="finished model of other settings or inputs"):
            pretrain(images, settings, folder)


@pytest.mark.parametrize("use", USES)
def test_a_loss_that_is_no_number_is_an_error(use: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def spoil(pixels: Any) -> torch.Tensor:
        return torch.full((len(pixels), 3, SIDE, SIDE), torch.nan)

    monkeypatch.setattr(f"tailforge.tasks.methods.pretraining.{use}.to_tensor", spoil)
    with pytest.raises(TrainingError, match="the loss is nan at step 0"):
        pretrain(toy_images(), settings_of(use), tmp_path / "encoder")


def test_seeds_and_masks_decide_the_encoder(tmp_path: Path) -> None:
    def weights(name: str, masks: str = "attention", **changes: Any) -> bytes:
        pretrain(toy_images(masks), settings_of("masked", steps=2, **changes), tmp_path / name)
        return (tmp_path / name / "model.safetensors").read_bytes()

    first = weights("first")
    assert weights("again") == first
    assert weights("seed", seed=1) != first
    assert weights("none", masks="none") != first


def test_a_probe_is_written_beside_the_encoder(trained: tuple[str, Path, Any]) -> None:
    _, folder, _ = trained
    training, test = toy_pictures(60, seed=1), toy_pictures(30, seed=2)
    found = probe_encoder(folder, training, test, "toys", NAMES)
    assert json.loads((folder / PROBE).read_text()) == found
    assert (found["origin"], found["training_images"], found["classes"]) == ("toys", 60, list(NAMES))
    for name in ("linear", "neighbours"):
        assert found[name]["images"] == 30
        assert found[name]["low"] <= found[name]["value"] <= found[name]["high"]
    mixed = Pictures(training.images, np.roll(training.labels, 1))
    assert probe_encoder(folder, mixed, test, "toys", NAMES)["linear"] != found["linear"]
