"""`tailforge train` on a tiny recipe: a model that the chain can use, and nothing to do the second time."""

from pathlib import Path

import pytest
import yaml

from tailforge.schemas.errors import RecipeError
from tailforge.schemas.training.embedded import TrainingRecipe
from tests.flows.conftest import Command
from tests.support.tiny_training import tiny_recipe

pytestmark = [
    pytest.mark.flow,
    pytest.mark.usefixtures("prefect_server"),
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning"),
]


def test_training_flow_makes_a_model_and_does_not_repeat_itself(tmp_path: Path) -> None:
    from tailforge.flows.training.train_embedded import train_embedded

    recipe = TrainingRecipe.model_validate(tiny_recipe())
    made = train_embedded(recipe, str(tmp_path / "work"), str(tmp_path / "models"))
    assert (Path(made["model"]) / "model_index.json").exists()
    assert set(made["success"]) >= {"gear", "hook", "head", "tail"}
    written = (tmp_path / "work" / "diffusion" / "receipt.json").stat().st_mtime_ns
    assert train_embedded(recipe, str(tmp_path / "work"), str(tmp_path / "models")) == made
    assert (tmp_path / "work" / "diffusion" / "receipt.json").stat().st_mtime_ns == written


def test_a_bad_training_recipe_is_the_users_error(tmp_path: Path, command: Command) -> None:
    path = tmp_path / "train.yaml"
    path.write_text(yaml.safe_dump(tiny_recipe(autoencoder__steps=0)))
    code, _, error = command("train", path, "--work", tmp_path / "work")
    assert code == RecipeError.exit_code == 2
    assert "autoencoder.steps" in error
