"""The chain with engines that search: references in, images, noise and provenance out, and one image made again."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tailforge import open_dataset
from tailforge.catalog.store import Store
from tailforge.catalog.verify import verify
from tests.flows.conftest import Command, build, rows_of
from tests.support.tiny_clip import save_clip
from tests.support.tiny_generators import build_sdxl
from tests.support.tiny_recipes import write_recipe

pytestmark = [pytest.mark.flow, pytest.mark.usefixtures("prefect_server")]

SEARCH: dict[str, Any] = {
    "kind": "seed_select", "steps": 4, "guidance": 1.5, "batch_size": 2, "plain_samples": 8, "candidates": 2,
    "rounds": 2, "iterations": 2, "encoder": {"model": "clip"}, "scheduler": "ddim",
}  # fmt: skip


def photograph(folder: Path, count: int, seed: int = 0) -> None:
    folder.mkdir(parents=True)
    draws = np.random.default_rng(seed)
    for number in range(count):
        Image.fromarray(draws.integers(0, 256, (40, 48, 3), np.uint8)).save(folder / f"{number}.png")


@pytest.fixture
def searching(tiny_recipe: Path) -> Any:
    """Write a recipe whose engine searches; returns its path."""
    folder = tiny_recipe.parent
    save_clip(folder / "clip")
    photograph(folder / "gears", 3, 1)
    photograph(folder / "benches", 4, 2)

    def write(engine: dict[str, Any], **changes: Any) -> Path:
        concepts = [
            {"name": "gear", "requested": 3, "references": "gears"},
            {"name": "bench", "requested": 2, "references": "benches"},
        ]
        quality = {"gates": {}, "near_duplicates": None, "oversample": 1.0, "max_rounds": 1}
        prompts = {"templates": ["a photo of a {concept} on a {place}"], "attributes": {"place": ["bench", "photo"]}}
        values = {
            "engine": engine,
            "partition_size": None,
            "concepts": concepts,
            "quality": quality,
            "prompts": prompts,
        }
        return write_recipe(folder, **values | changes)

    return write


def test_a_search_is_published_with_its_provenance_and_is_not_done_twice(
    command: Command, searching: Any, tmp_path: Path
) -> None:
    recipe, store = searching(SEARCH | {"candidates": 1}), tmp_path / "store"  # unscreened: each takes a step
    made = build(command, recipe, store)
    assert made["samples"] == 5
    assert made["work"]["aims"] == 2
    assert made["work"]["samples"] == 3  # a batch a partition: two of gears, one of benches
    assert verify(Store.open(str(store)), "tiny") == []
    for row in rows_of(made):
        origin = json.loads(row["provenance"])
        assert row["engine"] == origin["kind"] == "seed_select"
        assert origin["stop_reason"] in ("iterations", "confident", "no_better")
        assert origin["forward_evaluations"] > origin["backward_evaluations"] > 0
        assert {"loss", "confidence", "iterations", "noise_norm", "candidate", "nearest_reference"} <= set(origin)
    assert build(command, recipe, store)["work"] == {}


def test_a_changed_reference_makes_its_own_concept_again_and_no_other(
    command: Command, searching: Any, tmp_path: Path
) -> None:
    recipe, store = searching(SEARCH), tmp_path / "store"
    build(command, recipe, store)
    photograph(tmp_path / "other", 1, 3)
    shutil.copy(tmp_path / "other" / "0.png", recipe.parent / "gears" / "0.png")
    work = build(command, recipe, store)["work"]
    assert (work["aims"], work["samples"]) == (1, 2)


def test_a_gate_on_the_references_rejects_copies_of_them(command: Command, searching: Any, tmp_path: Path) -> None:
    quality = {
        "scorer": {"model": "clip"}, "gates": {"reference_similarity": {"max_quantile": 0.5}}, "near_duplicates": None,
        "oversample": 1.0, "max_rounds": 1,
    }  # fmt: skip
    made = build(command, searching(SEARCH, quality=quality), tmp_path / "store")
    assert 0 < made["samples"] < 5
    rejects = pq.read_table(Path(made["uri"]) / "rejects.parquet").to_pylist()
    assert "reference_similarity_high" in {row["reason"] for row in rejects}
    assert all(-1 <= row["reference_similarity"] <= 1 for row in [*rejects, *rows_of(made)])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["best_of_n", "zero_order"])
def test_rivals_without_gradients_build_too(kind: str, command: Command, searching: Any, tmp_path: Path) -> None:
    engine = {key: value for key, value in SEARCH.items() if key not in ("rounds", "iterations")} | {"kind": kind}
    made = build(command, searching(engine), tmp_path / "store")
    origins = [json.loads(row["provenance"]) for row in rows_of(made)]
    assert {origin["backward_evaluations"] for origin in origins} == {0}


def test_the_published_preset_builds(command: Command, searching: Any, tmp_path: Path) -> None:
    engine = {"kind": "seed_select", "preset": "published", "steps": 4, "iterations": 2, "encoder": {"model": "clip"}}
    made = build(command, searching(engine), tmp_path / "store")
    origin = json.loads(rows_of(made)[0]["provenance"])
    assert (origin["optimizer"], origin["guidance"], origin["iterations"]) == ("adamw", 7.5, 2)


@pytest.mark.slow
def test_many_images_start_from_few_found_seeds(command: Command, searching: Any, tmp_path: Path) -> None:
    engine = SEARCH | {"mode": "bootstrapped", "found_seeds": 3}
    recipe, store = searching(engine), tmp_path / "store"
    made = build(command, recipe, store)
    assert made["work"]["seeds"] == 4  # three noises in batches of two, for two concepts
    page = Path(made["report"]).read_text()
    timings = re.findall(r'<th scope="row">(\w+)</th>', page[page.index('<section id="timings"') :])
    assert timings[:4] == ["prompts", "aims", "seeds", "samples"]
    assert "Noises found" in page
    assert all(f"#{number} {number - 1}.png" in page for number in (1, 2, 3, 4))  # the photographs of both concepts
    more = build(command, recipe, store, "--set", "concepts.0.requested=6")
    assert "seeds" not in more["work"]
    assert more["version"] == "1.1.0"
    assert all(json.loads(row["provenance"])["backward_evaluations"] == 0 for row in rows_of(more))


@pytest.mark.slow
@pytest.mark.parametrize("ships_noise", [False, True])
def test_one_image_is_made_again_bit_equal(
    ships_noise: bool, command: Command, searching: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, store = searching(SEARCH, sharding={"max_samples": 5, "noise": ships_noise}), tmp_path / "store"
    made = build(command, recipe, store)
    row = rows_of(made)[0]
    if ships_noise:
        first = next(iter(open_dataset(str(Path(made["uri"]).parent), split="train")))
        assert (first["noise"].dtype, first["noise"].shape) == (np.float16, (4, 16, 16))
        monkeypatch.setattr("tailforge.flows.samples.remake.remake", pytest.fail)
    monkeypatch.chdir(recipe.parent)
    out = tmp_path / "again.png"
    code, printed, err = command(
        "regenerate", row["sample_id"], "--dataset", "tiny", "--store", store, "--out", out, "--folder", recipe.parent,
        "--json",
    )  # fmt: skip
    assert code == 0, err
    assert json.loads(printed)["equal"] is True


def test_an_xl_generator_can_be_searched(command: Command, searching: Any, tmp_path: Path) -> None:
    recipe = searching(SEARCH)
    shutil.rmtree(recipe.parent / "generator")
    build_sdxl().save_pretrained(recipe.parent / "generator")
    made = build(command, recipe, tmp_path / "store")
    assert made["samples"] == 5


def test_the_engine_may_be_given_by_name_with_the_scorer_as_its_encoder(
    command: Command, searching: Any, tmp_path: Path
) -> None:
    quality = {"scorer": {"model": "clip"}, "near_duplicates": None, "oversample": 1.0, "max_rounds": 1}
    recipe = searching("seed_select", quality=quality)
    code, out, err = command("plan", recipe, "--store", tmp_path / "store", "--json")
    assert code == 0, err
    assert {stage["stage"] for stage in json.loads(out)["stages"]} >= {"prompts"}
