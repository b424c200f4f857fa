"""Stage `verdicts`: table, address, and a real CLIP directory as scorer."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tailforge.catalog.sources.references import digest_references
from tailforge.schemas.errors import RecipeError
from tailforge.schemas.jobs import ResolvedModel
from tailforge.schemas.receipts import Receipt
from tailforge.schemas.recipe import Concept
from tailforge.schemas.tables import VERDICTS
from tailforge.tasks.methods.packing.members import encode_jpeg
from tailforge.tasks.methods.packing.png import encode_png
from tailforge.tasks.methods.quality.pixel_scores import score_image
from tailforge.tasks.stages.verdicts import STAGE, locate
from tailforge.tasks.stages.work.verdicts import embed_references
from tests.support.stage_tables import commit_samples, make_build, make_job
from tests.support.stages import run
from tests.support.tiny_clip import save_clip

BLANK = np.full((64, 64, 3), 90, np.uint8)


def judge(store: Path, images: dict[int, Any] | None = None, **changes: Any) -> tuple[Receipt, list[dict[str, Any]]]:
    job = make_job(make_build(store, **changes))
    receipt = run(STAGE, job.build.store, job, *commit_samples(job, images))
    table = pq.read_table(store / receipt.uri)
    assert table.schema.equals(VERDICTS)
    return receipt, table.to_pylist()


def test_rows_are_aligned_and_each_rejection_has_one_reason(tmp_path: Path) -> None:
    receipt, rows = judge(tmp_path, {1: None, 2: BLANK}, quality={"gates": {"mask_area": {"min": 0.01}}})
    job = make_job(make_build(tmp_path))
    assert [row["sample_id"] for row in rows] == [spec.sample_id for spec in job.samples]
    assert [row["reason"] for row in rows] == [None, "failed", "blank", None]
    assert [row["accepted"] for row in rows] == [True, False, False, True]
    assert receipt.counts == {
        "status:ok": 3,
        "status:failed": 1,
        "error:not finite": 1,
        "reason:failed": 1,
        "reason:blank": 1,
    }
    assert rows[0]["clip_score"] is None


def test_clip_scores_come_from_the_named_model(tmp_path: Path) -> None:
    (tmp_path / "clip").mkdir()
    save_clip(tmp_path / "clip")
    scorer = ResolvedModel(path=str(tmp_path / "clip"), digest="tiny")
    receipt, rows = judge(tmp_path / "store", {2: BLANK}, scorer=scorer, quality={"scorer": {"model": "clip"}})
    assert [row["clip_score"] is None for row in rows] == [False, False, True, False]
    assert all(-1 <= rows[i][name] <= 2 for i in (0, 1, 3) for name in ("clip_score", "concept_margin"))
    assert receipt.models == {"scorer": "tiny"}
    assert set(receipt.timings) == {"compute", "load"}
    gate = {"clip_score": {"min": rows[0]["clip_score"] + 1e-3}}
    _, again = judge(
        tmp_path / "store", {2: BLANK}, scorer=scorer, quality={"scorer": {"model": "clip"}, "gates": gate}
    )
    assert again[0]["reason"] == "clip_score_low"
    assert [row["clip_score"] for row in again] == [row["clip_score"] for row in rows]


def test_scores_are_of_the_pixels_that_jpeg_leaves(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    _, exact = judge(tmp_path / "one", {0: noise})
    _, lossy = judge(tmp_path / "two", {0: noise}, sharding={"image_format": "jpg", "jpeg_quality": 10})
    jpeg = encode_jpeg(encode_png(noise), 10)
    seen = score_image(np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB")))
    assert exact[0]["sharpness"] == pytest.approx(score_image(noise).sharpness)
    assert lossy[0]["sharpness"] == pytest.approx(seen.sharpness)
    assert lossy[0]["phash"] == seen.phash
    assert lossy[0]["sharpness"] < 0.8 * exact[0]["sharpness"]


def test_equal_work_is_done_once_and_gives_equal_bytes(tmp_path: Path) -> None:
    first, _ = judge(tmp_path / "one")
    second, _ = judge(tmp_path / "two")
    assert first.sha256 == second.sha256
    again, _ = judge(tmp_path / "one")
    assert again == first


@pytest.mark.parametrize(
    ("changes", "touched"),
    [
        ({"quality": {"gates": {"sharpness": {"min": 1}}}}, True),
        ({"quality": {"gates": {"sharpness": {"min_quantile": 0.1}}}}, False),
        ({"quality": {"near_duplicates": None, "oversample": 2}}, False),
        ({"concepts": [{"name": "gear", "requested": 77}, {"name": "hook", "requested": 3}]}, False),
        ({"concepts": [{"name": "gear", "requested": 3}]}, False),
        ({"scorer": ResolvedModel(path="x", digest="c"), "quality": {"scorer": {"model": "x"}}}, True),
    ],
)
def test_address_follows_only_what_decides_the_verdicts(tmp_path: Path, changes: dict[str, Any], touched: bool) -> None:
    receipts = commit_samples(make_job(make_build(tmp_path)))
    before = locate(make_job(make_build(tmp_path)), *receipts).fingerprint
    assert (locate(make_job(make_build(tmp_path, **changes)), *receipts).fingerprint != before) is touched


def test_with_a_scorer_the_rival_concepts_count(tmp_path: Path) -> None:
    receipts = commit_samples(make_job(make_build(tmp_path)))
    scorer: dict[str, Any] = {"scorer": ResolvedModel(path="x", digest="c"), "quality": {"scorer": {"model": "x"}}}
    one = make_build(tmp_path, **scorer)
    other = make_build(
        tmp_path, **scorer, concepts=[{"name": "gear", "requested": 3}, {"name": "bolt", "requested": 3}]
    )
    assert locate(make_job(one), *receipts).fingerprint != locate(make_job(other), *receipts).fingerprint


def test_references_are_embedded_once_and_must_be_those_of_the_build(tmp_path: Path) -> None:
    (tmp_path / "clip").mkdir()
    save_clip(tmp_path / "clip")
    (tmp_path / "photos").mkdir()
    Image.fromarray(BLANK).save(tmp_path / "photos" / "0.png")
    scorer = ResolvedModel(path=str(tmp_path / "clip"), digest="tiny")
    concept = Concept(name="gear", wanted=1, references="photos")
    digests = digest_references(tmp_path, concept)
    vectors = embed_references(scorer, str(tmp_path), concept, digests)
    assert vectors.shape[0] == 1
    assert embed_references(scorer, str(tmp_path), concept, digests) is vectors
    with pytest.raises(RecipeError, match="the folder of references changed"):
        embed_references(scorer, str(tmp_path), concept, ("0" * 64,))
