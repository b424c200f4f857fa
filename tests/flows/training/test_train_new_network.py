"""`tailforge train` with `network`: a new generator for small photographs, whose latents are their pixels."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tailforge.flows.training.train_generator import train_generator
from tailforge.schemas.training.generator import GeneratorTraining
from tailforge.tasks.models.pipeline_folders import draw_images, open_pipeline
from tests.flows.conftest import Command, build, rows_of

pytestmark = [
    pytest.mark.flow,
    pytest.mark.usefixtures("prefect_server"),
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning"),
]


def train(data: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Train on the class folders in `photographs`."""
    told = {"kind": "generator", "name": "small", "images": {"folder": "photographs"}}
    recipe = GeneratorTraining.model_validate(told | {"validation": {"every": 60, "per_class": 1, "steps": 2}} | data)
    made: dict[str, Any] = train_generator(recipe, str(folder), str(folder / "work"), str(folder / "models"))
    return made


def test_a_new_network_learns_small_grey_photographs_and_builds_a_dataset(
    command: Command, tiny_recipe: Path, tmp_path: Path
) -> None:
    # Bright above: an untrained network draws noise around the mean.
    for number in range(8):
        pixels = np.random.default_rng(number).integers(0, 40, (24, 16)).astype(np.uint8)
        pixels[:12] += 200
        place = tmp_path / "photographs" / ("bright" if number % 2 else "bright multi") / f"{number}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(place)
    data = {
        "network": {"height": 24, "width": 16, "grey": True, "channels": [16, 32]},
        "learning": {"steps": 60, "batch": 8, "learning_rate": 3e-3, "ema_decay": 0.9, "threads": 1, "flip": True},
    }
    made = train(data, tmp_path)
    drawn = draw_images(open_pipeline(Path(made["model"])), ["a photo of a bright"] * 4, [1, 2, 3, 4], 8, 1.0)
    assert drawn.shape == (4, 24, 16, 3)
    assert drawn[:, :12].mean() > drawn[:, 12:].mean() + 30

    # It names no model that was before it, and a build takes it.
    card = (Path(made["model"]) / "README.md").read_text()
    assert "began as a new pixel network of 24 x 16" in card
    assert "There is no record" not in card
    changes = [f"generator.model={made['model']}", "engine.height=24", "engine.width=16"]
    version = build(command, tiny_recipe, tmp_path / "store", *(word for each in changes for word in ("--set", each)))
    assert rows_of(version)


def test_images_are_learnt_mirrored_in_each_way(tmp_path: Path) -> None:
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 256, (16, 24, 3)).astype(np.uint8)
        place = tmp_path / "photographs" / "gear" / f"{number}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(place)
    learning = {"steps": 1, "batch": 2, "threads": 1, "flip": True, "flip_vertical": True}
    train({"network": {"height": 16, "width": 24, "channels": [16, 32]}, "learning": learning}, tmp_path)
    images = tmp_path / "work" / "small" / "images"
    assert json.loads((images / "captions.json").read_text()) == ["a photo of a gear"] * 12

    # The latents of a pixel network are pixels.
    plain, columns, rows, both = np.load(images / "latents.npy").reshape(4, 3, 3, 16, 24)
    np.testing.assert_allclose(columns, plain[..., ::-1], atol=1e-2)
    np.testing.assert_allclose(rows, plain[..., ::-1, :], atol=1e-2)
    np.testing.assert_allclose(both, plain[..., ::-1, ::-1], atol=1e-2)
