"""The stage "masks": a row a sample, categories from the recipe, and empty masks where there is nothing to find."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tailforge.catalog.store import Store
from tailforge.schemas.documents.run_lengths import decode_rle
from tailforge.schemas.jobs import BuildContext, PartitionJob, ResolvedModel
from tailforge.schemas.recipe import parse_recipe
from tailforge.schemas.tables import MASKS, SAMPLES
from tailforge.tasks.artifacts.contract import Address, Made, run_once
from tailforge.tasks.methods.masks.codec import decode_mask
from tailforge.tasks.methods.packing.arrays import decode_array, encode_array
from tailforge.tasks.methods.packing.png import encode_png
from tailforge.tasks.stages.masks import STAGE, locate
from tailforge.tasks.stages.samples import STAGE as SAMPLES_STAGE
from tailforge.tasks.stages.work.masks import annotate_partition, columns_for
from tests.support.stages import run
from tests.support.tiny_generators import make_samples

IMAGE = encode_png(np.full((32, 48, 3), 120, np.uint8))
SLOTS = [
    {"name": "material", "value": "brass", "start": 11, "end": 16},
    {"name": "concept", "value": "hook", "start": 17, "end": 21},
]


PROMPTS = {
    "templates": ["a photo of a {material} {concept} on a {surface}", "a {concept} and a {other}"],
    "attributes": {
        "material": ["brass"],
        "surface": ["wooden bench", "concrete floor"],
        "other": ["cog", "bolt"],
    },
}


def make_job(store: Path, **annotation: Any) -> PartitionJob:
    recipe = parse_recipe(
        {
            "name": "tiny",
            "description": "A test.",
            "seed": 1,
            "concepts": [{"name": "gear", "requested": 3, "synonyms": ["cog"]}, {"name": "hook", "requested": 3}],
            "prompts": PROMPTS,
            "generator": {"model": "tiny"},
            "annotation": annotation,
        },
        "test",
    )
    build = BuildContext(store=str(store), recipe=recipe, generator=ResolvedModel(path="tiny", digest="0" * 64))
    return PartitionJob(build=build, concept="hook", attempt=0, source="s", part=0, samples=tuple(make_samples(4)))


def attention(height: int = 16, width: int = 16) -> bytes:
    maps = np.full((2, height, width), 0.01, np.float16)
    maps[1, 4:12, 4:12] = 0.08
    return encode_array(maps)


def row(number: int, **values: Any) -> dict[str, Any]:
    base = {"sample_id": f"{number:016x}", "status": "ok", "slots": SLOTS, "width": 48, "height": 32}
    return {**base, "image": IMAGE, "attention": attention(), "attention_agreement": [0.7, 0.9], **values}


def samples_table() -> pa.Table:
    rows = [
        row(0),
        row(1, status="failed", error="image is blank", image=None, attention=None, width=None, height=None),
        row(2, attention=encode_array(np.full((2, 16, 16), 0.02, np.float16))),
        row(3, attention=None),
    ]
    return pa.Table.from_pylist(rows, SAMPLES)


def test_every_sample_has_a_row(tmp_path: Path) -> None:
    table = annotate_partition(make_job(tmp_path), samples_table().select(columns_for(make_job(tmp_path)))).table
    assert table.schema.equals(MASKS)
    assert table["status"].to_pylist() == ["ok", "failed", "ok", "failed"]
    assert table["sample_id"].to_pylist() == [f"{n:016x}" for n in range(4)]
    assert table["mask_source"].to_pylist() == ["cross_attention"] * 4


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools with numpy 2
def test_the_concept_is_masked_with_its_category(tmp_path: Path) -> None:
    found = annotate_partition(make_job(tmp_path), samples_table()).table.to_pylist()[0]
    mask = decode_mask(found["mask"])
    assert mask.shape == (32, 48)
    assert set(np.unique(mask)) == {0, 2}
    (instance,) = found["instances"]
    assert (instance["category"], instance["category_id"], instance["slot"]) == ("hook", 2, "concept")
    assert instance["area"] == (mask == 2).sum()
    assert 0.6 < instance["score"] < 1
    assert not instance["crowd"]
    assert np.array_equal(decode_rle(instance["rle"], 32, 48), mask == 2)
    assert found["mask_area"] == pytest.approx((mask == 2).mean())
    assert found["mask_confidence"] > 0.6
    assert found["mask_agreement"] == pytest.approx(0.9)
    assert found["mask_largest_share"] == 1.0


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools with numpy 2
def test_two_objects_of_a_word_are_two_instances_and_touching_ones_a_crowd(tmp_path: Path) -> None:
    apart, touching = (np.full((2, 16, 16), 0.01, np.float16) for _ in range(2))
    for left in (1, 10):
        apart[1, 4:10, left : left + 5] = 0.3
    touching[1, 4:10, 2:14] = 0.16
    touching[1, 4:10, [3, 4, 5, 10, 11, 12]] = 0.3
    rows = [row(n, attention=encode_array(maps)) for n, maps in enumerate((apart, touching))]
    job = make_job(tmp_path, refine=False)
    two, one = annotate_partition(job, pa.Table.from_pylist(rows, SAMPLES)).table.to_pylist()
    mask = decode_mask(two["mask"])
    left, right = (decode_rle(each["rle"], *mask.shape) for each in two["instances"])
    assert left[14, 10]
    assert right[14, 37]
    assert np.array_equal(left | right, mask == 2)
    assert [each["area"] for each in two["instances"]] == [left.sum(), right.sum()]
    assert [[each["crowd"] for each in found["instances"]] for found in (two, one)] == [[False, False], [True]]
    assert two["mask_components"] == 2


def scene_row(number: int, *slots: tuple[str, str], **values: Any) -> dict[str, Any]:
    """A sample whose words attend to squares of their own, from left to right; the last one to all around them."""
    maps = np.full((len(slots), 16, 16), 0.01, np.float16)
    maps[-1] = 0.05
    for place in range(len(slots) - 1):
        maps[:, 4:12, 1 + 5 * place : 5 + 5 * place] = 0.01
        maps[place, 4:12, 1 + 5 * place : 5 + 5 * place] = 0.3
    named = [{"name": name, "value": value, "start": 0, "end": 1} for name, value in slots]
    return row(number, slots=named, attention=encode_array(maps), attention_agreement=None, **values)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools with numpy 2
def test_words_of_other_slots_become_things_and_stuff(tmp_path: Path) -> None:
    job = make_job(tmp_path, things=["concept", "other"], stuff=["surface"])
    names = [(each.name, each.thing) for each in job.build.recipe.categories]
    things = [("gear", True), ("hook", True), ("bolt", True)]
    assert names == [*things, ("wooden bench", False), ("concrete floor", False)]
    table = pa.Table.from_pylist(
        [
            scene_row(0, ("other", "bolt"), ("concept", "hook"), ("surface", "concrete floor")),
            scene_row(1, ("other", "cog"), ("concept", "hook"), ("surface", "wooden bench")),
            row(2),
        ],
        SAMPLES,
    )
    first, second, third = annotate_partition(job, table).table.to_pylist()
    assert [(i["slot"], i["category"], i["category_id"]) for i in first["instances"]] == [
        ("concept", "hook", 2),
        ("other", "bolt", 3),
        ("surface", "concrete floor", 5),
    ]
    mask = decode_mask(first["mask"])
    assert set(np.unique(mask)) == {2, 3, 5}
    assert mask[16, 9] == 3
    assert mask[16, 24] == 2
    assert mask[30, 40] == 5
    assert first["mask_area"] == pytest.approx((mask == 2).mean())
    assert [i["category_id"] for i in second["instances"]] == [2, 1, 4]  # a word for the gear is a gear
    assert [i["slot"] for i in third["instances"]] == ["concept"]  # its prompt has neither


def test_slots_of_a_recipe_are_part_of_the_address(tmp_path: Path) -> None:
    store = Store.open(str(tmp_path), create=True)
    samples = run_once(store, Address(SAMPLES_STAGE, 0, "x", {}, {}), lambda: Made(samples_table()))
    jobs = [make_job(tmp_path), make_job(tmp_path, stuff=["surface"]), make_job(tmp_path, things=["concept", "other"])]
    assert len({locate(job, samples).fingerprint for job in jobs}) == 3


def test_a_pooled_threshold_is_that_of_the_partition(tmp_path: Path) -> None:
    job = make_job(tmp_path, threshold="concept", refine=False)
    faint = np.full((2, 16, 16), 0.01, np.float16)
    faint[1, 4:12, 4:12], faint[1, 4:12, 12:] = 0.08, 0.04
    rows = [row(0, attention=encode_array(faint)), *(row(n) for n in range(1, 9))]
    together = annotate_partition(job, pa.Table.from_pylist(rows, SAMPLES)).table.to_pylist()[0]
    alone = annotate_partition(job, pa.Table.from_pylist(rows[:1], SAMPLES)).table.to_pylist()[0]
    assert together["mask_area"] != alone["mask_area"]


def test_nothing_found_is_a_valid_empty_mask(tmp_path: Path) -> None:
    found = annotate_partition(make_job(tmp_path), samples_table()).table.to_pylist()[2]
    assert not decode_mask(found["mask"]).any()
    assert (found["status"], found["instances"], found["mask_confidence"]) == ("ok", [], 0.0)


def test_failed_samples_have_no_mask(tmp_path: Path) -> None:
    rows = annotate_partition(make_job(tmp_path), samples_table()).table.to_pylist()
    assert (rows[1]["mask"], rows[1]["error"], rows[1]["instances"]) == (None, "no image", [])
    assert (rows[3]["mask"], rows[3]["error"]) == (None, "no attention map of the concept")


def test_the_task_commits_and_its_address_follows_settings_and_samples(tmp_path: Path) -> None:
    job = make_job(tmp_path)
    store = Store.open(str(tmp_path), create=True)
    samples = run_once(store, Address(SAMPLES_STAGE, 0, "x", {}, {}), lambda: Made(samples_table()))
    receipt = run(STAGE, job.build.store, job, samples)
    assert receipt.uri == locate(job, samples).uri
    assert receipt.counts["status:failed"] == 2
    base = locate(job, samples).fingerprint
    assert locate(make_job(tmp_path, threshold=0.4), samples).fingerprint != base
    for decided in ({"window": (0.1, 0.9)}, {"affinity": 2}):  # SAMPLES already
        assert locate(make_job(tmp_path, **decided), samples).fingerprint == base
    assert locate(job, samples.model_copy(update={"sha256": "0"})).fingerprint != base


def test_maps_are_plain_numpy_files() -> None:
    assert decode_array(attention()).dtype == np.float16
