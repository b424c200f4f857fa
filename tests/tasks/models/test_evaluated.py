"""Models of transformers that an evaluation trains: their weights, heads, sizes, and no chance beside the seed."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from tailforge.schemas.errors import ModelError
from tailforge.schemas.evaluation import Augmentation, FitSettings
from tailforge.schemas.jobs import ResolvedModel
from tailforge.tasks.methods.evaluation.examples import Examples
from tailforge.tasks.methods.evaluation.fit import Fitted, Validation, fit_model
from tailforge.tasks.methods.evaluation.models import Model
from tailforge.tasks.methods.evaluation.tasks import TASKS
from tailforge.tasks.models.evaluated import LibraryModel
from tests.support.tiny_library import MEAN, SIDE, STD, save_encoder, save_resnet, save_vit

TASK = TASKS["classification"]
SAVED: dict[str, Callable[[Path], Path]] = {"vit": save_vit, "resnet": save_resnet, "encoder": save_encoder}


def open_model(folder: Path, from_scratch: bool = False) -> LibraryModel:
    return LibraryModel.open(ResolvedModel(path=str(folder), digest="0"), TASK, from_scratch)


def weights(network: nn.Module) -> dict[str, torch.Tensor]:
    return {key.removeprefix("network."): value.clone() for key, value in network.state_dict().items()}


@pytest.mark.parametrize("name", SAVED)
def test_fine_tuning_begins_with_the_saved_weights_and_a_head_of_the_seed(tmp_path: Path, name: str) -> None:
    folder = SAVED[name](tmp_path / name)
    library = open_model(folder)
    assert (library.preparation.mean, library.preparation.std) == (tuple(MEAN), tuple(STD))
    assert library.preparation.size == (SIDE, SIDE)
    one, same, other = (weights(library.build(3, seed)) for seed in (0, 0, 1))
    saved = load_file(folder / "model.safetensors").values()  # under names that transformers changes
    head = [key for key in one if "classifier" in key]
    assert head
    assert all(torch.equal(value, same[key]) for key, value in one.items())
    assert any(not torch.equal(one[key], other[key]) for key in head)
    for key in set(one) - set(head):
        assert any(torch.equal(one[key], value) for value in saved), key
    assert library.build(3, 0)(torch.zeros(2, 3, SIDE, SIDE)).shape == (2, 3)


def test_from_scratch_the_seed_draws_all_weights(tmp_path: Path) -> None:
    folder = save_vit(tmp_path / "vit")
    library = open_model(folder, from_scratch=True)
    (folder / "model.safetensors").unlink()  # no weights are needed
    one, same, other = (weights(library.build(3, seed)) for seed in (0, 0, 1))
    key = "vit.embeddings.patch_embeddings.projection.weight"
    assert torch.equal(one[key], same[key])
    assert not torch.equal(one[key], other[key])


def fit(folder: Path, seed: int) -> Fitted:
    library = open_model(folder)
    preparation = library.preparation
    model = Model("vit", "0", preparation.mean, preparation.std, TASK.habits[False], library.build)
    draws = np.random.default_rng(0)
    examples = Examples(draws.integers(0, 256, (8, SIDE, SIDE, 3), np.uint8), np.arange(8) % 2, 2)
    settings = FitSettings(steps=4, batch=4, checks=2, optimizer="adamw", learning_rate=1e-3)
    validation = Validation(examples, (4, 4), (0.0,))
    return fit_model(model, TASK, examples, lambda step: np.arange(4), validation, Augmentation(), settings, seed)


def test_trainings_draw_nothing_beside_their_seed(tmp_path: Path) -> None:
    """The saved model has dropout, which would draw from a generator that all threads share."""
    folder = save_vit(tmp_path / "vit")
    fit(folder, 0)
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    with ThreadPoolExecutor(2) as threads:
        found = list(threads.map(lambda seed: fit(folder, seed), (0, 1, 0, 1)))
    assert torch.equal(torch.random.get_rng_state(), before)
    for one, two in ((0, 2), (1, 3)):
        assert all(torch.equal(value, found[two].weights[key]) for key, value in found[one].weights.items())
    assert any(not torch.equal(value, found[1].weights[key]) for key, value in found[0].weights.items())


def drop_weight(folder: Path) -> None:
    kept = load_file(folder / "model.safetensors")
    kept.pop("vit.embeddings.cls_token")
    save_file(kept, folder / "model.safetensors", {"format": "pt"})


def pickle_weights(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def change_config(folder: Path, **changes: object) -> None:
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps({key: value for key, value in config.items() if value is not None}))


MISTAKES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a missing weight of the encoder": (drop_weight, "1 weights are missing or of another shape, the first is vit.emb"),
    "pickled weights": (pickle_weights, "safetensors"),
    "no processor": (lambda folder: (folder / "preprocessor_config.json").unlink(), "does not give the mean"),
    "code of its own": (
        lambda folder: change_config(folder, model_type="mine", auto_map={"AutoConfig": "mine.Config"}),
        "config.json cannot be used",
    ),
    "no image model": (lambda folder: change_config(folder, model_type="bert"), "cannot be loaded as AutoModelForIm"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_model_that_cannot_be_trained_is_refused(tmp_path: Path, mistake: str) -> None:
    spoil, told = MISTAKES[mistake]
    folder = save_vit(tmp_path / "vit")
    spoil(folder)
    with pytest.raises(ModelError, match=told):
        open_model(folder).try_out((SIDE, SIDE))


def test_a_size_that_the_model_does_not_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"fails on images of 20 x 20 pixels .*; give another --size"):
        open_model(save_vit(tmp_path / "vit")).try_out((20, 20))
    open_model(save_resnet(tmp_path / "resnet")).try_out((20, 24))
