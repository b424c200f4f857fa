"""Stage `selection`: quotas and near duplicates over a build, whatever its partitions are."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from PIL import Image
from PIL.ExifTags import Base

from tailforge.catalog.sources.references import digest_references
from tailforge.schemas.errors import RecipeError
from tailforge.schemas.jobs import BuildContext, PartitionJob
from tailforge.schemas.review import Review
from tailforge.schemas.tables import SELECTION
from tailforge.tasks.artifacts.decisions import find_reviews
from tailforge.tasks.artifacts.partitions import BuiltPartition
from tailforge.tasks.methods.packing.png import encode_png
from tailforge.tasks.stages.selection import STAGE, accepted_rows, locate
from tailforge.tasks.stages.verdicts import STAGE as VERDICTS
from tests.support.stage_tables import commit_samples, draw, make_build, make_job
from tests.support.stages import run as run_stage

ORIENTATION = Base.Orientation


def judged(job: PartitionJob, images: dict[int, Any] | None = None, reviews: Sequence[Review] = ()) -> BuiltPartition:
    samples, masks = commit_samples(job, images)
    verdicts = run_stage(VERDICTS, job.build.store, job, samples, masks)
    return BuiltPartition(
        concept=job.concept,
        attempt=job.attempt,
        samples=samples,
        verdicts=verdicts,
        masks=masks,
        reviews=tuple(reviews),
    )


def run(build: BuildContext, partitions: list[BuiltPartition]) -> list[dict[str, Any]]:
    receipt = run_stage(STAGE, build.store, build, partitions)
    assert receipt.uri == locate(build, partitions).uri
    table = pq.read_table(Path(build.store) / receipt.uri)
    assert table.schema.equals(SELECTION)
    return table.to_pylist()


def test_every_sample_has_its_row_and_quotas_hold(tmp_path: Path) -> None:
    build = make_build(tmp_path, splits={"train": 0.5, "test": 0.5})
    partitions = [judged(make_job(build)), judged(make_job(build, "hook", prompts=range(5)), {0: None})]
    rows = run(build, partitions)
    assert [(row["partition"], row["row"]) for row in rows] == [(0, i) for i in range(4)] + [(1, i) for i in range(5)]
    assert [row["reason"] for row in rows] == [None, None, None, "surplus", "failed", None, None, None, "surplus"]
    assert [row["split"] is not None for row in rows] == [row["accepted"] for row in rows]
    table = pq.read_table(tmp_path / locate(build, partitions).uri)
    assert accepted_rows(table, 3) == [[0, 1, 2], [1, 2, 3], []]


def test_cutting_the_plan_differently_changes_no_decision(tmp_path: Path) -> None:
    build = make_build(tmp_path)
    twin = draw(make_job(build).samples[1], "gear").image  # the later of two equal pictures has to go
    whole = [judged(make_job(build, prompts=range(6)), {4: twin}), judged(make_job(build, "hook"), {2: twin})]
    cut = [
        judged(make_job(build, "hook", prompts=range(2, 4), part=1), {0: twin}),
        judged(make_job(build, prompts=range(3, 6), part=1), {1: twin}),
        judged(make_job(build, "hook", prompts=range(2))),
        judged(make_job(build, prompts=range(3))),
    ]
    decisions = [
        {row["sample_id"]: (row["reason"], row["split"]) for row in run(build, parts)} for parts in (whole, cut)
    ]
    assert decisions[0] == decisions[1]
    reasons = [reason for reason, _ in decisions[0].values()]
    assert reasons == [None, None, None, "surplus", "near_duplicate", "surplus", None, None, "near_duplicate", None]


def test_copies_of_reference_photographs_are_left_out(tmp_path: Path) -> None:
    concepts = [{"name": "gear", "requested": 9, "references": "photos"}, {"name": "hook", "requested": 9}]
    build = make_build(tmp_path / "store", folder=tmp_path, concepts=concepts)
    copied = Image.fromarray(draw(make_job(build).samples[2], "gear").image).resize((128, 128))
    (tmp_path / "photos").mkdir()
    copied.save(tmp_path / "photos" / "a.png")
    references = {"gear": digest_references(tmp_path, build.recipe.concepts[0])}
    build = build.model_copy(update={"references": references})
    partitions = [judged(make_job(build))]
    assert [row["reason"] for row in run(build, partitions)] == [None, None, "near_reference", None]

    allowed = build.recipe.quality.model_copy(
        update={
            "near_duplicates": build.recipe.quality.near_duplicates.model_copy(update={"against_references": False})
        }
    )
    free = build.model_copy(update={"recipe": build.recipe.model_copy(update={"quality": allowed})})
    assert [row["reason"] for row in run(free, partitions)] == [None] * 4

    (tmp_path / "photos" / "a.png").unlink()
    moved = build.model_copy(update={"references": {"gear": ("0" * 64,)}})
    with pytest.raises(RecipeError, match="holds no image"):
        run(moved, partitions)


def test_a_reference_that_lies_on_its_side_is_turned_upright(tmp_path: Path) -> None:
    concepts = [{"name": "gear", "requested": 9, "references": "photos"}, {"name": "hook", "requested": 9}]
    build = make_build(tmp_path / "store", folder=tmp_path, concepts=concepts)
    upright = Image.fromarray(draw(make_job(build).samples[2], "gear").image)
    exif = Image.Exif()
    exif[ORIENTATION] = 6  # is to be turned a quarter clockwise
    (tmp_path / "photos").mkdir()
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "photos" / "a.png", exif=exif)
    build = build.model_copy(update={"references": {"gear": digest_references(tmp_path, build.recipe.concepts[0])}})
    assert [row["reason"] for row in run(build, [judged(make_job(build))])] == [None, None, "near_reference", None]


@pytest.mark.parametrize(
    ("changes", "touched"),
    [
        ({}, False),
        ({"quality": {"max_rounds": 9}}, False),
        ({"quality": {"gates": {"sharpness": {"min": 1}}}}, False),
        ({"quality": {"gates": {"sharpness": {"min_quantile": 0.1}}}}, True),
        ({"quality": {"near_duplicates": None}}, True),
        ({"splits": {"test": 1.0}}, True),
        ({"concepts": [{"name": "gear", "requested": 4}, {"name": "hook", "requested": 3}]}, True),
    ],
)
def test_address_follows_only_what_decides_the_selection(
    tmp_path: Path, changes: dict[str, Any], touched: bool
) -> None:
    partitions = [judged(make_job(make_build(tmp_path)))]
    before = locate(make_build(tmp_path), partitions).fingerprint
    assert (locate(make_build(tmp_path, **changes), partitions).fingerprint != before) is touched
    assert locate(make_build(tmp_path), partitions * 2).fingerprint != before


def review(job: PartitionJob, row: int, decision: str, image: str | None = None) -> Review:
    """A decision on the picture that `commit_samples` draws, or on another."""
    drawn = encode_png(draw(job.samples[row], job.concept).image)
    seen = hashlib.sha256(drawn).hexdigest() if image is None else image
    return Review.model_validate({"sample_id": job.samples[row].sample_id, "image": seen, "decision": decision})


def test_decisions_hold_while_the_image_is_the_one_that_was_looked_at(tmp_path: Path) -> None:
    concepts = [{"name": "gear", "requested": 9}]
    build = make_build(tmp_path, quality={"gates": {"contrast": {"min": 0.9}}}, concepts=concepts)
    job = make_job(build)
    decided = [review(job, 0, "accept"), review(job, 1, "accept", "0" * 64)]
    partition = judged(job, reviews=decided)
    assert [row["reason"] for row in run(build, [partition])] == [None, *["contrast_low"] * 3]
    loose = make_build(tmp_path, concepts=concepts)
    decided = [review(job, 2, "reject"), review(job, 3, "reject", "0" * 64)]
    partition = judged(make_job(loose), reviews=decided)
    assert [row["reason"] for row in run(loose, [partition])] == [None, None, "review_rejected", None]


def test_decisions_move_the_address_and_none_leaves_it(tmp_path: Path) -> None:
    build = make_build(tmp_path)
    job = make_job(build)
    elsewhere = Review(sample_id="0" * 16, image="0" * 64, decision="reject")
    decided = build.model_copy(update={"reviews": (elsewhere, review(job, 1, "reject"))})
    assert find_reviews(job.model_copy(update={"build": decided})) == decided.reviews[1:]
    partition = judged(job)
    plain = locate(build, [partition]).fingerprint
    assert locate(build, [judged(job, reviews=[])]).fingerprint == plain
    found = [
        locate(build, [judged(job, reviews=[review(job, 1, decision)])]).fingerprint
        for decision in ("reject", "accept")
    ]
    assert len({plain, *found}) == 3
    assert "reviews" not in decided.model_dump(mode="json")  # tasks get their partition's alone
