"""What a row says of its image holds for the pixels that were published: after augmentation, after JPEG."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tailforge import open_dataset
from tailforge.catalog.store import Store
from tailforge.catalog.verify import verify
from tailforge.tasks.methods.quality.pixel_scores import score_image
from tests.flows.conftest import Command, build, rows_of
from tests.support.tiny_recipes import write_recipe

pytestmark = [pytest.mark.flow, pytest.mark.usefixtures("prefect_server")]

CONCEPTS = [{"name": "gear", "requested": 6}]
SOFT = ("mask_confidence", "mask_contrast", "mask_separability", "mask_presence", "mask_agreement")


def blur(p: float) -> dict[str, Any]:
    return {"name": "GaussianBlur", "parameters": {"sigma_limit": [3, 3], "p": p}}


def require_true_rows(dataset: Path, rows: list[dict[str, Any]]) -> None:
    """Every row's scores are those of its image, read as a consumer reads it."""
    images = {sample["key"]: np.asarray(sample["image"]) for sample in open_dataset(str(dataset))}
    assert images.keys() == {row["sample_id"] for row in rows}
    for row in rows:
        seen = score_image(images[row["sample_id"]])
        for name in ("brightness", "contrast", "clipped", "sharpness"):
            assert row[name] == pytest.approx(getattr(seen, name), rel=1e-5, abs=1e-7), (row["sample_id"], name)
        assert row["phash"] == seen.phash
        assert (row["height"], row["width"]) == images[row["sample_id"]].shape[:2]


def test_in_place_an_image_that_would_miss_a_gate_stays_as_it_was_drawn(
    command: Command, tiny_recipe: Path, tmp_path: Path
) -> None:
    recipe = write_recipe(
        tiny_recipe.parent,
        concepts=CONCEPTS,
        splits=None,
        augmentation={"transforms": [blur(0.5), {"name": "HorizontalFlip", "parameters": {"p": 1.0}}]},
        quality={"gates": {"sharpness": {"min_quantile": 0.1}}, "near_duplicates": None, "oversample": 1.4},
        sharding={"image_format": "jpg", "jpeg_quality": 60},
    )
    made = build(command, recipe, tmp_path / "store")
    rows = rows_of(made)
    require_true_rows(tmp_path / "store/datasets/tiny", rows)
    drawn = [row for row in rows if row["augmentation"] is None]
    augmented = [row for row in rows if row["augmentation"] is not None]
    assert len(rows) == 6
    assert drawn
    assert augmented
    assert all((row[name] is None) is (row in augmented) for row in rows for name in SOFT[:4])
    least = max(row["sharpness"] for row in rows_of(made, "rejects") if row["reason"] == "sharpness_low")
    assert all(row["sharpness"] > least for row in rows)
    summary = (tmp_path / "store/datasets/tiny/1.0.0/report/summary.json").read_text()
    assert f"{len(drawn)} of 6 augmentations missed a gate or lost the concept" in summary


def test_copies_pass_the_gates_themselves_or_go_to_the_rejects(
    command: Command, tiny_recipe: Path, tmp_path: Path
) -> None:
    recipe = write_recipe(
        tiny_recipe.parent,
        concepts=CONCEPTS,
        splits=None,
        augmentation={"transforms": [blur(0.5)], "copies": 2},
        quality={"gates": {"sharpness": {"min_quantile": 0.1}}, "near_duplicates": None, "oversample": 1.4},
    )
    made = build(command, recipe, tmp_path / "store")
    rows, rejects = rows_of(made), rows_of(made, "rejects")
    require_true_rows(tmp_path / "store/datasets/tiny", rows)
    originals = {row["sample_id"] for row in rows if row["parent_id"] is None}
    copies = [row for row in rows if row["parent_id"] is not None]
    dropped = [row for row in rejects if row["parent_id"] is not None]
    assert (len(originals), len(copies) + len(dropped)) == (6, 12)
    assert copies
    assert dropped
    assert {row["parent_id"] for row in (*copies, *dropped)} <= originals
    assert {row["reason"] for row in dropped} == {"sharpness_low"}
    assert all(row["status"] == "ok" and row["augmentation"] is not None for row in dropped)
    assert all(row[name] is None for row in copies for name in SOFT)
    least = min(row["sharpness"] for row in rows if row["parent_id"] is None)
    assert all(row["sharpness"] < least for row in dropped)
    assert verify(Store.open(str(tmp_path / "store")), "tiny") == []
    summary = (tmp_path / "store/datasets/tiny/1.0.0/report/summary.json").read_text()
    assert f"{len(dropped)} of 12 augmentations missed a gate or lost the concept" in summary
