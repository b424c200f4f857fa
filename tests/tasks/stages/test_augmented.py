"""Stage `augmented`: accepted rows only, in place or as copies that know their parent; all of them are judged."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from tailforge.schemas.errors import RecipeError
from tailforge.schemas.jobs import PartitionJob
from tailforge.schemas.receipts import Receipt
from tailforge.schemas.tables import AUGMENTED
from tailforge.tasks.methods.masks.codec import decode_mask, describe_instance
from tailforge.tasks.methods.packing.png import decode_png
from tailforge.tasks.methods.planning.samples import derive_copy_id
from tailforge.tasks.methods.quality.pixel_scores import score_image
from tailforge.tasks.stages.augmented import STAGE, locate
from tests.support.stage_tables import commit_samples, draw, make_build, make_job
from tests.support.stages import run as run_stage

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation:DeprecationWarning"
)  # pycocotools with numpy 2

NOISE_AND_FLIP = [
    {"name": "HorizontalFlip", "parameters": {"p": 1.0}},
    {"name": "GaussNoise", "parameters": {"std_range": [0.05, 0.1], "p": 1.0}},
]


def job(
    store: Path, copies: int = 0, transforms: list[dict[str, Any]] | None = None, prompts: range = range(4)
) -> PartitionJob:
    augmentation = {"transforms": transforms or NOISE_AND_FLIP, "copies": copies}
    return make_job(make_build(store, augmentation=augmentation), prompts=prompts)


def run(
    asked: PartitionJob, accepted: list[int], images: dict[int, Any] | None = None, bounds: Any = None
) -> tuple[Receipt, list[dict[str, Any]]]:
    receipt = run_stage(STAGE, asked.build.store, asked, *commit_samples(asked, images), accepted, bounds or {})
    table = pq.read_table(Path(asked.build.store) / receipt.uri)
    assert table.schema.equals(AUGMENTED)
    return receipt, table.to_pylist()


def test_in_place_gives_one_row_for_each_accepted_sample(tmp_path: Path) -> None:
    asked = job(tmp_path)
    _, rows = run(asked, [0, 3], {1: None})
    assert [row["sample_id"] for row in rows] == [asked.samples[i].sample_id for i in (0, 3)]
    for row, spec in zip(rows, (asked.samples[0], asked.samples[3]), strict=True):
        drawn = draw(spec, "gear")
        assert row["parent_id"] == row["sample_id"]
        mask = decode_mask(row["mask"])
        assert (mask == np.where(drawn.mask[:, ::-1], 1, 0)).all()
        assert row["instances"] == ([describe_instance(mask == 1, 1, "gear", 0.75)] if (mask == 1).any() else [])
        assert row["mask_area"] == np.float32(drawn.mask.mean())
        difference = decode_png(row["image"]).astype(int) - drawn.image[:, ::-1]
        assert 2 < np.abs(difference).mean() < 40
        assert (row["height"], row["width"]) == mask.shape
        assert [entry["name"] for entry in json.loads(row["augmentation"])["transforms"]] == [
            "HorizontalFlip",
            "GaussNoise",
        ]


def test_copies_know_their_parent_and_differ(tmp_path: Path) -> None:
    asked = job(tmp_path, copies=3)
    _, rows = run(asked, [1, 2])
    parents = [asked.samples[i].sample_id for i in (1, 2)]
    assert [row["parent_id"] for row in rows] == [parents[0]] * 3 + [parents[1]] * 3
    assert [row["sample_id"] for row in rows] == [derive_copy_id(parent, n) for parent in parents for n in (1, 2, 3)]
    assert len({row["image"] for row in rows}) == 6
    assert len({json.loads(row["augmentation"])["seed"] for row in rows}) == 6


def test_a_sample_is_augmented_alike_in_any_company(tmp_path: Path) -> None:
    _, together = run(job(tmp_path / "one", copies=1), [0, 1, 2, 3])
    _, apart = run(job(tmp_path / "two", copies=1, prompts=range(2, 4)), [1])
    assert apart == together[3:]


def test_equal_work_gives_equal_bytes(tmp_path: Path) -> None:
    assert run(job(tmp_path / "one"), [0, 1])[0].sha256 == run(job(tmp_path / "two"), [0, 1])[0].sha256


def test_nothing_accepted_gives_an_empty_table(tmp_path: Path) -> None:
    assert run(job(tmp_path, copies=1), [])[1] == []


@pytest.mark.parametrize("copies", [0, 2])
def test_a_row_carries_the_scores_of_its_own_pixels(tmp_path: Path, copies: int) -> None:
    _, rows = run(job(tmp_path, copies), [0, 1])
    for row in rows:
        scores = score_image(decode_png(row["image"]))
        measured = (row["brightness"], row["contrast"], row["clipped"], row["sharpness"])
        expected = (scores.brightness, scores.contrast, scores.clipped, scores.sharpness)
        assert measured == pytest.approx(expected, rel=1e-6)
        assert (row["phash"], row["reason"]) == (scores.phash, None)


CORNER = [{"name": "Crop", "parameters": {"x_max": 6, "y_max": 6, "p": 1.0}}]
BLUR = [{"name": "GaussianBlur", "parameters": {"sigma_limit": [3, 3], "p": 1.0}}]


@pytest.mark.parametrize("copies", [0, 1])
def test_what_lost_its_concept_or_misses_a_gate_says_so(tmp_path: Path, copies: int) -> None:
    _, cropped = run(job(tmp_path / "one", copies, CORNER), [0, 1])
    assert [(row["reason"], row["mask_area"], row["instances"]) for row in cropped] == [("concept_lost", 0.0, [])] * 2
    quality = {"gates": {"sharpness": {"min": 40}}}
    augmentation = {"transforms": BLUR, "copies": copies}
    asked = make_job(make_build(tmp_path / "two", augmentation=augmentation, quality=quality))
    assert [row["reason"] for row in run(asked, [0, 1])[1]] == ["sharpness_low"] * 2


def test_quantiles_hold_for_copies_as_the_bounds_that_they_came_to(tmp_path: Path) -> None:
    asked = job(tmp_path, copies=1)
    (free,) = run(asked, [0])[1]
    bound = free["brightness"]
    for bounds, reason in (
        ({"brightness": [bound, None]}, None),
        ({"brightness": [bound + 1e-3, None]}, "brightness_low"),
        ({"brightness": [None, bound - 1e-3]}, "brightness_high"),
    ):
        assert [row["reason"] for row in run(asked, [0], bounds=bounds)[1]] == [reason]


def test_geometry_may_change_the_size(tmp_path: Path) -> None:
    _, rows = run(job(tmp_path, transforms=[{"name": "Resize", "parameters": {"height": 40, "width": 50}}]), [0])
    assert (rows[0]["height"], rows[0]["width"]) in ((40, 50), (64, 64))
    _, rows = run(
        job(tmp_path, transforms=[{"name": "Resize", "parameters": {"height": 40, "width": 50, "p": 1.0}}]), [0]
    )
    assert decode_png(rows[0]["image"]).shape == (40, 50, 3)
    assert decode_mask(rows[0]["mask"]).shape == (40, 50)


def test_an_impossible_augmentation_names_the_sample_and_leaves_nothing(tmp_path: Path) -> None:
    asked = job(tmp_path, transforms=[{"name": "RandomCrop", "parameters": {"height": 99, "width": 99, "p": 1.0}}])
    with pytest.raises(RecipeError, match=rf"sample {asked.samples[0].sample_id} of gear.*64 x 64"):
        run(asked, [0])
    assert not (tmp_path / "artifacts" / "augmented").exists()


def test_address_follows_augmentation_inputs_and_accepted_rows(tmp_path: Path) -> None:
    asked = job(tmp_path)
    samples, masks = commit_samples(asked)
    address = locate(asked, samples, masks, [0, 1], {})
    assert address.fingerprint == locate(job(tmp_path), samples, masks, [0, 1], {}).fingerprint
    gated = make_job(
        make_build(tmp_path, augmentation={"transforms": NOISE_AND_FLIP}, quality={"gates": {"sharpness": {"min": 1}}})
    )
    others = [
        locate(asked, samples, masks, [0], {}),
        locate(job(tmp_path, copies=1), samples, masks, [0, 1], {}),
        locate(asked, masks, samples, [0, 1], {}),
        locate(asked, samples, masks, [0, 1], {"sharpness": [1.0, None]}),
        locate(gated, samples, masks, [0, 1], {}),
    ]
    assert len({address.fingerprint, *(each.fingerprint for each in others)}) == 6
