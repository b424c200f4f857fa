"""How a generator was trained: read from its folder, told in words, carried by the versions that it draws."""

import json
from pathlib import Path
from typing import Any

import pytest

from tailforge.catalog.metadata.generator_history import describe_training, read_training
from tailforge.catalog.registry import load_dataset
from tailforge.catalog.store import Store
from tailforge.catalog.verify import verify
from tailforge.schemas.errors import ModelError
from tailforge.schemas.jobs import ResolvedModel
from tailforge.schemas.training.record import TrainingRecord
from tests.support.fabricate import make_build, make_recipe, publish_build
from tests.support.training_records import make_record, write_record


def read(folder: Path, **place: Any) -> TrainingRecord | None:
    return read_training(ResolvedModel(path=str(folder), digest="0" * 64, **place))


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    written = write_record(tmp_path / "inner")
    found = read(tmp_path, subfolder="inner")
    assert found is not None
    assert found.model_dump(mode="json") == written


def test_a_generator_without_a_record_tells_nothing(tmp_path: Path) -> None:
    assert read(tmp_path) is None
    write_record(tmp_path)
    assert read(tmp_path, revision="0" * 40) is None  # a hub id that is called as a folder here


def test_the_chain_of_bases_is_told_from_the_last_training_to_the_first() -> None:
    first = make_record(
        name="parts", base={"model": "/home/somebody/models/blank"} | {"digest": "a" * 64}, start="scratch",
        weights="all", structure={"arm": "none"}, images={"origin": "/data/photos", "images": 1, "digest": "d" * 64},
    )  # fmt: skip
    second = make_record(base={"model": "parts", "digest": "b" * 64, "training": first})
    assert describe_training(TrainingRecord.model_validate(second)) == [
        f"rare-parts was adapted from parts (sha256 {'b' * 64}): low-rank adapters of its denoiser (folded into its "
        f"weights) were trained. It saw 48 images of parts@1.2.0 (train) (sha256 {'c' * 64}) in 300 steps of 32, "
        "with the denoising loss and structure-guided adversarial training (after SADM, arXiv 2402.17563), seed 5.",
        f"parts has a denoiser trained from scratch; its other parts are those of blank (sha256 {'a' * 64}). It saw "
        f"1 image of photos (sha256 {'d' * 64}) in 300 steps of 32, with the denoising loss alone, seed 5.",
        "There is no record of the training of blank.",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "training.json is not JSON: Expecting"),
        ("[1, 2]", "training.json is no record of a training: the whole: .*found \\[1, 2\\]"),
        ('{"format": "other/2"}', "no record of a training: format: .*'tailforge-training/1', found 'other/2'"),
        (json.dumps(make_record(measures={"error": float("nan")})), "is not JSON: NaN is no JSON number"),
        (json.dumps(make_record(steps="many")), "no record of a training: steps: .*found 'many'"),
        (json.dumps(make_record(author="me")), "no record of a training: author: .*found 'me'"),
        (b"\xff\xfe", "training.json is not JSON: 'utf-8' codec"),
        ('{"base":' * 100_000, "training.json is not JSON: it is nested deeper than 64"),
    ],
)
def test_a_broken_record_is_refused(tmp_path: Path, content: str | bytes, message: str) -> None:
    (tmp_path / "training.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ModelError, match=rf"generator: .*{message}.*; copy the generator again, or remove the file"):
        read(tmp_path)


def publish(tmp_path: Path, record: TrainingRecord | None) -> tuple[Store, Path]:
    """A store with parts@1.0.0, and that version's folder."""
    store = Store.open(str(tmp_path / "store"), create=True)
    build = make_build(store, make_recipe(), {"gear": 10})
    build.context = build.context.model_copy(update={"generator_training": record})
    publish_build(build, {"report/index.html": b"<html>"})
    return store, tmp_path / "store/datasets/parts/1.0.0"


def test_a_version_carries_the_record_and_its_card_tells_it(tmp_path: Path) -> None:
    record = TrainingRecord.model_validate(make_record())
    store, folder = publish(tmp_path, record)
    assert load_dataset(store, "parts").generator_training == record
    card = (folder / "README.md").read_text()
    section = card.split("## Generator\n\n")[1]
    assert section == "\n".join(
        ["The generator's record of its training:", "", *(f"- {each}" for each in describe_training(record)), ""]
    )
    assert verify(store, "parts") == []


def test_versions_that_say_nothing_of_a_training_stay_readable(tmp_path: Path) -> None:
    store, folder = publish(tmp_path, None)
    assert "## Generator" not in (folder / "README.md").read_text()
    document = json.loads((folder / "dataset.json").read_text())
    assert document.pop("generator_training") is None
    (folder / "dataset.json").write_text(json.dumps(document))  # as it was before there were records
    assert load_dataset(store, "parts").generator_training is None
    assert verify(store, "parts") == []
