"""Builds with a ControlNet: each sample's image is recorded, and pairs that do not fit are refused."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tailforge.catalog.registry import load_dataset
from tailforge.catalog.store import Store
from tailforge.catalog.verify import verify
from tests.flows.conftest import Command, build, rows_of
from tests.support.bad_recipes import Change, assert_refused, put, references, remove, search, together, write
from tests.support.tiny_controls import build_control, save_images
from tests.support.tiny_flows import build_flux
from tests.support.tiny_generators import build_sd
from tests.support.tiny_recipes import write_recipe

pytestmark = [pytest.mark.flow, pytest.mark.usefixtures("prefect_server")]

CONTROLLED = {"model": "generator", "control": {"model": "control", "kind": "edges", "images": "outlines"}}


def add_control(folder: Path) -> None:
    build_control(build_sd()).save_pretrained(folder / "control")
    save_images(folder / "outlines")


def test_a_version_records_the_image_of_each_sample(command: Command, tiny_recipe: Path, tmp_path: Path) -> None:
    folder, store = tiny_recipe.parent, tmp_path / "store"
    add_control(folder)
    made = build(command, write_recipe(folder, generator=CONTROLLED), store)
    assert verify(Store.open(str(store)), "tiny") == []
    model = load_dataset(Store.open(str(store)), "tiny").lineage["models"]["generator"]
    assert (model["control"]["kind"], model["control"]["scale"]) == ("edges", 1.0)

    rows = rows_of(made)
    shown = [json.loads(row["provenance"])["control"] for row in rows]
    assert len({each["image"] for each in shown}) > 1
    for each in shown:
        assert each["sha256"] == hashlib.sha256((folder / "outlines" / each["image"]).read_bytes()).hexdigest()

    words = ["--dataset", "tiny", "--store", store, "--folder", folder, "--json", "--out", tmp_path / "again.png"]
    code, out, err = command("regenerate", rows[0]["sample_id"], *words)
    assert code == 0, err
    assert json.loads(out)["equal"] is True
    assert build(command, write_recipe(folder, generator=CONTROLLED), store)["work"] == {}

    shutil.copy(folder / "outlines" / "0.png", folder / "outlines" / "9.png")  # one more to choose from
    code, _, err = command("regenerate", rows[0]["sample_id"], *words)
    assert code == 2
    assert "was made with generator" in err
    assert "samples" in build(command, write_recipe(folder, generator=CONTROLLED), store)["work"]


def controlled(*changes: Change, **control: Any) -> Change:
    def change(recipe: dict[str, Any], folder: Path) -> None:
        add_control(folder)
        recipe["generator"] = CONTROLLED | {"control": CONTROLLED["control"] | control}  # type: ignore[operator]
        together(*changes)(recipe, folder)

    return change


def save_transformer(recipe: dict[str, Any], folder: Path) -> None:
    shutil.rmtree(folder / "generator")
    build_flux().save_pretrained(folder / "generator")


def use_workshop(recipe: dict[str, Any], folder: Path) -> None:
    recipe["generator"] = recipe["generator"] | {"model": "catalog:workshop"}


def save_guide(recipe: dict[str, Any], folder: Path) -> None:
    build_sd(seed=1).save_pretrained(folder / "before")
    recipe["engine"] = recipe["engine"] | {"guide": {"model": "before"}}


CASES: dict[str, tuple[Change, str]] = {
    "control missing": (controlled(model="nowhere"), r"generator\.control: 'nowhere' is not a directory"),
    "images missing": (controlled(images="nowhere"), r"generator\.control\.images 'nowhere' is not a folder"),
    "images that are none": (controlled(write("outlines/note.txt", "x")), "outlines.*holds note.txt"),
    "weights missing": (
        controlled(remove("control/diffusion_pytorch_model.safetensors")),
        r"diffusion_pytorch_model\.safetensors is missing",
    ),
    "transformer": (
        controlled(save_transformer, put("engine", "guidance", value=3.0), put("annotation", value={})),
        r"generator\.control: the generator is a FluxPipeline, a transformer",
    ),
    "embedded generator of other text": (
        controlled(use_workshop),
        r"generator\.control does not fit the generator: its size of the text's features is 16, the generator's \d+",
    ),
    "engine that searches": (
        search(controlled(), references(3)),
        r"generator\.control: engine \w+ does not draw with a ControlNet; use engine plain",
    ),
    "guide": (controlled(save_guide), r"generator\.control: engine\.guide has no ControlNet"),
    "unknown kind": (controlled(kind="pose"), r"generator.*control.*kind.*edges"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_control_that_cannot_be_is_refused(case: str, tiny_recipe: Path, command: Command) -> None:
    assert_refused(CASES[case], tiny_recipe, command)
