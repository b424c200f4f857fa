"""Reading by number: the samples of the iterable reader, for samplers and workers of torch's DataLoader."""

import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader, Subset, WeightedRandomSampler

from tailforge import MapDataset, open_dataset, open_dataset_map
from tailforge.catalog.store import Store
from tailforge.schemas.errors import NotFoundError, ReadingError, VerificationError
from tests.support.repository import ROOT
from tests.support.s3_server import S3Server


def open_parts(store: Store, **options: Any) -> MapDataset:
    return open_dataset_map(store.uri, name="parts", **options)


def read_in_order(store: Store, **options: Any) -> list[dict[str, Any]]:
    return list(open_dataset(store.uri, name="parts", **options))


def require_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert list(one) == list(other)
    for field, value in one.items():
        same = np.array_equal(np.asarray(value), np.asarray(other[field])) if field != "json" else value == other[field]
        assert same, field
    assert (one["image"].mode, one["mask"].mode) == (other["image"].mode, other["mask"].mode)


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("verify", [False, True])
def test_samples_are_those_of_the_iterable_reader(published: Store, split: str, verify: bool) -> None:
    found, expected = open_parts(published, split=split, verify=verify), read_in_order(published, split=split)
    assert len(found) == len(expected)
    for number in reversed(range(len(found))):
        require_same(found[number], expected[number])
    assert [sample["key"] for sample in found] == [sample["key"] for sample in expected]


@settings(max_examples=30)
@given(numbers=st.lists(st.integers(-42, 41), min_size=1, max_size=60))
def test_a_batch_is_read_in_the_requested_order(published: Store, numbers: list[int]) -> None:
    """Also with repetitions, which are samples of their own."""
    found, keys = open_parts(published, decode=False), [s["key"] for s in read_in_order(published, decode=False)]
    batch = found.__getitems__(numbers)
    assert [sample["key"] for sample in batch] == [keys[number] for number in numbers]
    assert len({id(sample) for sample in batch}) == len(numbers)


@pytest.mark.parametrize(("number", "error"), [(42, IndexError), (-43, IndexError), ("1", TypeError), (1.0, TypeError)])
def test_a_number_without_a_sample_is_refused(published: Store, number: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=str(number)):
        open_parts(published)[number]


def test_a_slice_is_refused(published: Store) -> None:
    with pytest.raises(TypeError, match="give a whole number"):
        open_parts(published)[1:2]  # type: ignore[index]


def test_filters_are_those_of_the_iterable_reader(published: Store) -> None:
    """`where`, `filter`, and one after the other."""
    hooks, first = pc.field("concept") == "hook", pc.field("prompt_index") < 3
    for where in (hooks, first, hooks & first):
        expected = [sample["key"] for sample in read_in_order(published, where=where)]
        assert [sample["key"] for sample in open_parts(published).filter(where)] == expected
        assert [sample["key"] for sample in open_parts(published, where=where)] == expected
    both = open_parts(published).filter(hooks).filter(first)
    assert [sample["key"] for sample in both] == expected
    assert len(both.filter(pc.field("concept") == "ring")) == 0


def test_a_filter_that_cannot_be_computed_is_refused(published: Store) -> None:
    with pytest.raises(NotFoundError, match="no column 'sharp'"):
        open_parts(published).filter(pc.field("sharp") > 1)
    with pytest.raises(ReadingError, match="is no expression"):
        open_parts(published).filter("sharpness > 1")  # type: ignore[arg-type]


def test_labels_are_the_classes_of_the_samples(published: Store) -> None:
    for dataset in (open_parts(published), open_parts(published, where=pc.field("class_id") != 1)):
        assert dataset.read_labels().tolist() == [sample["cls"] for sample in dataset]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_a_loader_shuffles_it_without_a_collate_function(published: Store, workers: int, start: str) -> None:
    if start == "spawn" and not workers:
        return
    parts, context = open_parts(published), start if workers else None
    loader = DataLoader(parts, batch_size=8, shuffle=True, num_workers=workers, multiprocessing_context=context)
    batches = list(loader)
    assert len(batches) == len(loader) == 6
    pixels = {key: image for batch in batches for key, image in zip(batch["key"], batch["image"], strict=True)}
    assert len(pixels) == len(parts)
    for sample in parts:
        assert np.array_equal(pixels[sample["key"]].permute(1, 2, 0).numpy(), np.asarray(sample["image"]))


def test_samplers_and_subsets_of_torch_take_it(published: Store) -> None:
    parts = open_parts(published)
    weights = [float(label == 1) for label in parts.read_labels()]
    sampler = WeightedRandomSampler(weights, num_samples=20)
    assert {label for batch in DataLoader(parts, 5, sampler=sampler) for label in batch["cls"].tolist()} == {1}
    assert DataLoader(Subset(parts, [3, 1]), 2).__iter__().__next__()["key"] == [parts[3]["key"], parts[1]["key"]]


def test_it_can_be_sent_to_another_process(published: Store) -> None:
    parts = pickle.loads(pickle.dumps(open_parts(published)))
    require_same(parts[7], open_parts(published)[7])
    assert repr(parts) == "<MapDataset parts@1.0.0, split train, 42 samples>"


def test_it_imports_no_torch(published: Store) -> None:
    program = (
        "import sys\nfrom tailforge import open_dataset_map\n"
        f"print(open_dataset_map({published.uri!r}, name='parts')[5]['key'], 'torch' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout.split() == [open_parts(published)[5]["key"], "False"]


def test_it_reads_from_a_bucket_and_keeps_shards(published: Store, s3: S3Server, tmp_path: Path) -> None:
    bucket = Store.open(f"s3://{s3.make_bucket()}/store", create=True)
    for file in sorted(Path(published.uri).rglob("*")):
        if file.is_file():
            bucket.write_bytes(str(file.relative_to(published.uri)), file.read_bytes())
    expected = open_parts(published)
    for options in ({}, {"cache": tmp_path / "cache"}):
        require_same(open_parts(bucket, **options)[30], expected[30])
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_a_damaged_member_is_named(published: Store, tmp_path: Path) -> None:
    copied = Store.open(str(shutil.copytree(published.uri, tmp_path / "store")))
    shard = Path(copied.path("datasets/parts/1.0.0/shards/train-000001.tar"))
    parts, data = open_parts(copied, verify=True), bytearray(shard.read_bytes())
    data[600] ^= 1  # in the first member of the shard's first sample
    shard.write_bytes(data)
    with pytest.raises(VerificationError, match=r"train-000001\.tar: .* has sha256"):
        parts[12]
    assert parts[0]["key"]
    shard.write_bytes(data[:5000])
    with pytest.raises(VerificationError, match="cut off"):
        open_parts(copied)[20]
