"""Builds with LoRA files: other images, named with digest and licence by the version, made again byte by byte."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from tailforge.catalog.registry import load_dataset
from tailforge.catalog.store import Store
from tailforge.catalog.verify import verify
from tests.flows.conftest import Command, build, rows_of
from tests.support.bad_recipes import Change, assert_refused, drop, put, together, write
from tests.support.tiny_generators import build_sd
from tests.support.tiny_loras import draw_factors, save_lora
from tests.support.tiny_recipes import write_recipe

pytestmark = [pytest.mark.flow, pytest.mark.usefixtures("prefect_server")]

LORA = {"model": "rust", "weight": 0.8}
SECOND = {"model": "dents/dents.safetensors", "weight": 0.5}


def add_files(folder: Path) -> None:
    """Two LoRA files: one in a folder with a card, one named as a file, in the form of kohya."""
    save_lora(folder / "rust" / "rust.safetensors", draw_factors(build_sd()))
    (folder / "rust" / "README.md").write_text("---\nlicense: openrail++\n---\n# Rust\n")
    save_lora(folder / "dents" / "dents.safetensors", draw_factors(build_sd(), seed=1), "kohya", alpha=1.0)


def with_loras(*loras: dict[str, Any]) -> dict[str, Any]:
    return {"model": "generator", "loras": list(loras)}


def test_a_version_names_its_loras_and_draws_their_images_again(
    command: Command, tiny_recipe: Path, tmp_path: Path
) -> None:
    folder, store = tiny_recipe.parent, tmp_path / "store"
    plain = build(command, tiny_recipe, store)
    add_files(folder)
    made = build(command, write_recipe(folder, generator=with_loras(LORA, SECOND)), store)
    assert made["version"] == "2.0.0"  # every image is another
    assert verify(Store.open(str(store)), "tiny") == []

    found = load_dataset(Store.open(str(store)), "tiny").lineage["models"]["generator"]["loras"]
    files = folder / "rust" / "rust.safetensors", folder / "dents" / "dents.safetensors"
    digests = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    assert [(lora["digest"], lora["weight"], lora["license"]) for lora in found] == [
        (digests[0], 0.8, "openrail++"),
        (digests[1], 0.5, None),
    ]
    card = (Path(made["uri"]) / "README.md").read_text()
    assert f"LoRA `rust.safetensors`, weight 0.8: sha256 `{digests[0]}`; licence openrail++ by its card" in card
    assert f"sha256 `{digests[1]}`; its card states no licence" in card
    assert digests[0] in (Path(made["uri"]) / "croissant.json").read_text()
    rows = rows_of(made)
    assert [lora["digest"] for lora in json.loads(rows[0]["provenance"])["generator"]["loras"]] == digests
    assert {row["sample_id"] for row in rows} & {row["sample_id"] for row in rows_of(plain)}

    words = ["--dataset", "tiny", "--store", store, "--folder", folder, "--json", "--out", tmp_path / "again.png"]
    code, out, err = command("regenerate", rows[0]["sample_id"], *words)
    assert code == 0, err
    assert json.loads(out)["equal"] is True

    tensors = load_file(folder / "rust" / "rust.safetensors")
    save_file({name: 2 * tensor for name, tensor in tensors.items()}, folder / "rust" / "rust.safetensors")
    code, _, err = command("regenerate", rows[0]["sample_id"], *words)
    assert code == 2
    assert "was made with generator" in err
    assert "samples" in build(command, write_recipe(folder, generator=with_loras(LORA, SECOND)), store)["work"]


def lora(**changes: Any) -> Change:
    def change(recipe: dict[str, Any], folder: Path) -> None:
        add_files(folder)
        recipe["generator"] = with_loras(LORA | changes)

    return change


def unfit(recipe: dict[str, Any], folder: Path) -> None:
    lora()(recipe, folder)
    file = folder / "rust" / "rust.safetensors"
    save_file({f"unet.elsewhere.{name}": tensor for name, tensor in load_file(file).items()}, file)


CASES: dict[str, tuple[Change, str]] = {
    "lora missing": (lora(model="nowhere"), r"generator\.loras\[0\]: .*nowhere.* is not a file, a folder"),
    "lora that is a pickle": (
        together(write("rust.ckpt", "x"), lora(model="rust.ckpt")),
        r"generator\.loras\[0\]: .*rust\.ckpt.* is no \.safetensors file; only safetensors are loaded",
    ),
    "lora of another digest": (
        lora(sha256="0" * 64),
        r"generator\.loras\[0\]\.sha256 is 0000.*put the right file back, or correct the key",
    ),
    "lora outside": (
        together(write("../rust/rust.safetensors", "x"), lora(model="../rust")),
        r"generator\.loras\[0\]: .*\.\./rust.* leaves the recipe's folder",
    ),
    "lora of the hub without its commit": (
        lora(model="owner/name"),
        r"generator\.loras\[0\]\.revision: hub model 'owner/name' must be pinned by its commit",
    ),
    "two files in a folder": (
        together(lora(), write("rust/other.safetensors", "x")),
        r"has 2 \.safetensors files: other\.safetensors, rust\.safetensors; name one by generator\.loras\[0\]\.file",
    ),
    "weight too large": (lora(weight=2.5), r"generator\.(pipeline\.)?loras\.?\[?0\]?\.weight.*2"),
    "layers of another model": (unfit, r"generator\.loras\[0\]: the file matches no layer of the generator; it looked"),
    "classifier with a lora": (
        together(lora(), put("engine", value={"kind": "natural_inversion"}), put("prompts", value={}),
                 put("quality", value={}), drop("partition_size")),
        "generator.loras: it is for a text-to-image model",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_lora_that_cannot_be_is_refused(case: str, tiny_recipe: Path, command: Command) -> None:
    assert_refused(CASES[case], tiny_recipe, command)
