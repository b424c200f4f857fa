"""The recipes of docs/how-to/loras-and-control.md build as they stand there, with tiny models under the shown names."""

import re
from pathlib import Path

import pytest
import yaml

from tests.flows.conftest import Command, build, rows_of
from tests.support.repository import ROOT
from tests.support.tiny_controls import build_control, save_images
from tests.support.tiny_generators import build_sd
from tests.support.tiny_loras import draw_factors, save_lora

pytestmark = [pytest.mark.flow, pytest.mark.usefixtures("prefect_server")]

PAGE = ROOT / "docs" / "how-to" / "loras-and-control.md"
RECIPES = re.findall(r"^```yaml\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with all models and images that the page names."""
    own = tmp_path / "recipe"
    pipeline = build_sd()
    pipeline.save_pretrained(own / "stable-diffusion")
    save_lora(own / "loras" / "rust.safetensors", draw_factors(pipeline, size=0.1))
    save_lora(own / "loras" / "studio" / "studio.safetensors", draw_factors(pipeline, seed=1, size=0.1), "kohya")
    build_control(pipeline).save_pretrained(own / "controlnet-canny")
    save_images(own / "photographs")
    return own


@pytest.mark.parametrize("text", RECIPES, ids=[str(yaml.safe_load(text)["name"]) for text in RECIPES])
def test_a_shown_recipe_builds(text: str, folder: Path, command: Command, tmp_path: Path) -> None:
    recipe = folder / "recipe.yaml"
    recipe.write_text(text)
    made = build(command, recipe, tmp_path / "store", "--set", "quality.gates={}")
    assert {row["concept"] for row in rows_of(made)} == {"gear"}
