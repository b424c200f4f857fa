"""The stage "samples": rows, provenance and bytes of a partition made by a real tiny generator."""

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from tailforge.catalog.store import Store
from tailforge.schemas.errors import EngineError, NotFoundError
from tailforge.schemas.jobs import BuildContext, PartitionJob, ResolvedModel
from tailforge.schemas.receipts import EngineInputs
from tailforge.schemas.recipe import parse_recipe
from tailforge.schemas.settings.fields import ModelSource
from tailforge.schemas.tables import SAMPLES
from tailforge.tasks.artifacts.contract import encode_table, find_receipt, read_table
from tailforge.tasks.engines.plain import PlainSampling
from tailforge.tasks.methods.packing.arrays import decode_array
from tailforge.tasks.methods.sampling.rendered import OUT_OF_MEMORY, Rendered
from tailforge.tasks.stages.samples import STAGE, locate
from tailforge.tasks.stages.work.samples import remake, synthesize_partition, tabulate
from tests.support.stages import run
from tests.support.tiny_generators import build_sd, make_samples, save_sd


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> ResolvedModel:
    return save_sd(tmp_path_factory.mktemp("models") / "tiny")


def make_job(generator: ResolvedModel, store: Path, count: int = 5, **engine: object) -> PartitionJob:
    recipe = parse_recipe(
        {
            "name": "tiny",
            "description": "A test.",
            "seed": 1,
            "concepts": [{"name": "gear", "requested": 3}],
            "generator": {"model": "tiny"},
            "engine": {"steps": 2, "batch_size": 2, **engine},
        },
        "test",
    )
    build = BuildContext(store=str(store), recipe=recipe, generator=generator)
    samples = tuple(make_samples(count, ("a photo of a gear on a bench", "a gear")))
    return PartitionJob(build=build, concept="gear", attempt=0, source="template:0", part=3, samples=samples)


@pytest.fixture
def job(generator: ResolvedModel, tmp_path: Path) -> PartitionJob:
    return make_job(generator, tmp_path / "store")


def test_a_partition_has_a_row_a_sample(job: PartitionJob) -> None:
    made = synthesize_partition(job, EngineInputs())
    assert made.table.schema.equals(SAMPLES)
    rows = made.table.to_pylist()
    assert [row["sample_id"] for row in rows] == [sample.sample_id for sample in job.samples]
    for row, sample in zip(rows, job.samples, strict=True):
        assert (row["status"], row["error"], row["width"], row["height"]) == ("ok", None, 32, 32)
        assert Image.open(io.BytesIO(row["image"])).format == "PNG"
        assert decode_array(row["attention"]).shape == (1, 16, 16)
        assert row["attention_agreement"] is None  # of a single reading
        assert row["slots"] == [slot.model_dump() for slot in sample.slots]
        assert row["seed"] == sample.seed
    timings = made.timings
    assert {"load", "text", "sample", "decode", "png", "compute"} <= set(timings)


def test_provenance_tells_what_decided_the_bytes(job: PartitionJob) -> None:
    origin = json.loads(synthesize_partition(job, EngineInputs()).table.to_pylist()[4]["provenance"])
    assert origin["kind"] == "plain"
    assert (origin["steps"], origin["guidance"], origin["scheduler"]) == (2, 3.0, "DDIMScheduler")
    assert (origin["batch_size"], origin["batch_row"]) == (1, 0)  # the fifth of batches of two
    assert origin["generator"] == {"digest": "0" * 64, "revision": None}
    assert set(origin["versions"]) == {"torch", "diffusers", "transformers"}
    assert job.build.store not in json.dumps(origin)


def test_equal_jobs_give_equal_bytes(job: PartitionJob) -> None:
    first, second = (synthesize_partition(job, EngineInputs()).table for _ in range(2))
    assert encode_table(first) == encode_table(second)


def test_one_sample_is_made_again_bit_equal(job: PartitionJob) -> None:
    for row in synthesize_partition(job, EngineInputs()).table.to_pylist():
        assert tabulate(job, remake(job, row["sample_id"], EngineInputs())).to_pylist() == [row]
    with pytest.raises(NotFoundError, match="f" * 16):
        remake(job, "f" * 16, EngineInputs())


def test_the_task_commits_once(job: PartitionJob) -> None:
    store = Store.open(job.build.store, create=True)
    receipt = run(STAGE, job.build.store, job, EngineInputs())
    assert find_receipt(store, locate(job, EngineInputs())) == receipt
    assert receipt.counts == {"status:ok": 5}
    assert receipt.models == {"generator": "0" * 64}
    assert read_table(store, find_receipt(store, locate(job, EngineInputs()))).num_rows == 5
    assert run(STAGE, job.build.store, job, EngineInputs()) == receipt


def test_the_address_follows_what_decides_the_images(generator: ResolvedModel, tmp_path: Path) -> None:
    job = make_job(generator, tmp_path)
    base = locate(job, EngineInputs()).fingerprint

    def changed(**update: object) -> str:
        return locate(job.model_copy(update=update), EngineInputs()).fingerprint

    recipe = job.build.recipe
    same = recipe.model_copy(
        update={"description": "Other words.", "annotation": recipe.annotation.model_copy(update={"threshold": 0.4})}
    )
    other = recipe.model_copy(update={"engine": recipe.engine.model_copy(update={"batch_size": 3})})
    model = generator.model_copy(update={"digest": "1" * 64})
    assert changed(build=job.build.model_copy(update={"recipe": same, "store": "elsewhere"})) == base
    assert changed(build=job.build.model_copy(update={"recipe": other})) != base
    assert changed(build=job.build.model_copy(update={"generator": model})) != base
    for recorded in ({"window": (0.0, 1.0)}, {"affinity": 1}):
        spread = recipe.model_copy(update={"annotation": recipe.annotation.model_copy(update=recorded)})
        assert changed(build=job.build.model_copy(update={"recipe": spread})) != base
    assert changed(samples=job.samples[:-1]) != base
    assert changed(attempt=1) != base


def test_the_guide_is_part_of_what_decides_the_images(job: PartitionJob, tmp_path: Path) -> None:
    def guided(job: PartitionJob, guide: ResolvedModel) -> PartitionJob:
        recipe = job.build.recipe
        engine = recipe.engine.model_copy(update={"guide": ModelSource(model=guide.path)})
        build = {"guide": guide, "recipe": recipe.model_copy(update={"engine": engine})}
        return job.model_copy(update={"build": job.build.model_copy(update=build)})

    build_sd(seed=1).save_pretrained(tmp_path / "before")
    guide = ResolvedModel(path=str(tmp_path / "before"), digest="2" * 64)
    with_guide = guided(job, guide)
    own, theirs = (synthesize_partition(each, EngineInputs()).table.to_pylist() for each in (job, with_guide))
    for one, other in zip(own, theirs, strict=True):
        assert one["image"] != other["image"]
        assert "guide" not in json.loads(one["provenance"])
        assert json.loads(other["provenance"])["guide"] == {"digest": "2" * 64, "revision": None}
        again = remake(with_guide, other["sample_id"], EngineInputs())
        assert tabulate(with_guide, again).to_pylist() == [other]
    moved = guide.model_copy(update={"path": "elsewhere"})
    changed = guide.model_copy(update={"digest": "3" * 64})
    places = [locate(each, EngineInputs()) for each in (job, with_guide, guided(job, moved), guided(job, changed))]
    prints = [place.fingerprint for place in places]
    assert prints[1] == prints[2]
    assert len(set(prints)) == 3
    assert places[1].models == {"generator": "0" * 64, "guide": "2" * 64}


def failing(errors: list[str | None]):  # type: ignore[no-untyped-def]
    def engine(_self, _job, samples, _inputs, _clock):  # type: ignore[no-untyped-def]
        for sample, error in zip(samples, errors, strict=True):
            pixels = None if error else np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
            yield Rendered(sample.sample_id, error, pixels, None, {})

    return engine


def test_failed_samples_are_rows(job: PartitionJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PlainSampling, "render", failing([None, "image is blank", None, OUT_OF_MEMORY, None]))
    rows = synthesize_partition(job, EngineInputs()).table.to_pylist()
    assert [row["status"] for row in rows] == ["ok", "failed", "ok", "failed", "ok"]
    assert rows[1]["error"] == "image is blank"
    assert (rows[1]["image"], rows[1]["width"], rows[1]["attention"]) == (None, None, None)


def test_a_partition_that_never_fits_is_an_error(job: PartitionJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PlainSampling, "render", failing([OUT_OF_MEMORY] * 5))
    with pytest.raises(EngineError, match=r"gear r0 template:0 #3: out of memory with 5 images, each alone as well"):
        synthesize_partition(job, EngineInputs())


def test_a_partition_of_blank_images_is_rows(job: PartitionJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PlainSampling, "render", failing(["image is blank"] * 5))
    assert pa.compute.all(pa.compute.equal(synthesize_partition(job, EngineInputs()).table["status"], "failed")).as_py()


def test_agreement_is_a_number_a_slot(generator: ResolvedModel, tmp_path: Path) -> None:
    table = synthesize_partition(make_job(generator, tmp_path, steps=4), EngineInputs()).table
    agreement = table["attention_agreement"].to_pylist()
    assert [len(own) for own in agreement] == [1] * 5
    assert all(0 < own[0] < 1 for own in agreement)


def test_stage_is_the_samples_table() -> None:
    assert (STAGE.name, STAGE.schema) == ("samples", SAMPLES)
