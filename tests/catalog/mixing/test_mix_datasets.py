"""Training from real and synthetic images: shares per batch, classes by name, ranks and workers, exact resuming."""

import json
import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from tailforge import (
    ImageMapDataset,
    MapDataset,
    MixedDataset,
    mix_datasets,
    open_dataset_map,
    open_images_map,
)
from tailforge.catalog.store import Store
from tailforge.schemas.errors import ImagesError, ReadingError
from tests.support.image_files import put

REAL = {"ring": 9, "gear": 6, "hook": 3}
OPTIONS: list[dict[str, Any]] = [
    {},
    {"shares": [0.6, 0.4]},
    {"balance": "class"},
    {"shares": [0.5, 0.5], "balance": "class"},
]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 18 photographs of three classes."""
    folder = tmp_path_factory.mktemp("mixing") / "photos"
    for name, count in REAL.items():
        for number in range(count):
            put(folder / name / f"{number}.png", number, size=(20, 12))
    return folder


@pytest.fixture(scope="module")
def real(photos: Path) -> ImageMapDataset:
    return open_images_map(photos, size=(16, 16))


@pytest.fixture(scope="module")
def synthetic(published: Store) -> MapDataset:
    return open_dataset_map(published.uri, name="parts")


def keys_of(samples: Any) -> list[tuple[str, str]]:
    return [(sample["source"], sample["key"]) for sample in samples]


def test_real_images_are_samples(photos: Path, real: ImageMapDataset) -> None:
    assert (len(real), real.classes) == (18, ("gear", "hook", "ring"))
    found = {sample["key"]: sample for sample in real}
    assert (found["ring/4.png"]["cls"], found["ring/4.png"]["image"].size) == (2, (16, 16))
    assert (found["ring/4.png"]["mask"], found["ring/4.png"]["caption"]) == (None, None)
    assert open_images_map(photos)[0]["image"].size == (20, 12)
    assert Counter(real.read_labels().tolist()) == {0: 6, 1: 3, 2: 9}


def test_paths_in_a_table_start_from_the_root(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("file_name,label\ngear/0.png,gear\nring/1.png,ring\n")
    images = pickle.loads(pickle.dumps(open_images_map(tmp_path / "table.csv", root=photos)))
    assert [sample["cls"] for sample in images] == [0, 1]
    assert images[1]["image"].tobytes() == open_images_map(photos)[10]["image"].tobytes()


def test_sources_that_are_no_labelled_images_are_refused(published: Store, tmp_path: Path) -> None:
    put(tmp_path / "loose" / "1.png")
    with pytest.raises(ImagesError, match="folder of its class"):
        open_images_map(tmp_path / "loose")
    with pytest.raises(ReadingError, match="published version; open it with open_dataset_map"):
        open_images_map(f"{published.uri}/datasets/parts")
    with pytest.raises(ReadingError, match=r"give \(height, width\)"):
        open_images_map(tmp_path / "loose", size=(0, 4))


def test_an_epoch_holds_every_sample_once(real: ImageMapDataset, synthetic: MapDataset) -> None:
    mixed = mix_datasets([synthetic, real])
    found = keys_of(mixed)
    assert len(mixed) == len(found) == len(set(found)) == 60
    assert Counter(source for source, _ in found) == {"real": 18, "synthetic": 42}
    mixed.set_epoch(1)
    assert keys_of(mixed) != found
    assert sorted(keys_of(mixed)) == sorted(found)


def test_classes_agree_by_name(real: ImageMapDataset, synthetic: MapDataset) -> None:
    """In an order of the mix's own; masks follow."""
    names = ("ring", "spanner", "hook", "gear")
    originals = {sample["key"]: sample for sample in synthetic}
    for sample in mix_datasets([synthetic, real], classes=names):
        name = names[sample["cls"]]
        if sample["source"] == "real":
            assert sample["key"].startswith(name)
            continue
        original = originals[sample["key"]]
        assert name == synthetic.classes[original["cls"]]
        expected = np.where(np.asarray(original["mask"]) == original["cls"] + 1, sample["cls"] + 1, 0)
        assert np.array_equal(np.asarray(sample["mask"]), expected)
        assert sample["mask"].getpalette() == original["mask"].getpalette()


def test_unknown_classes_are_refused_with_their_names(tmp_path: Path, synthetic: MapDataset) -> None:
    for name in ("gears", "bolt", "hook"):
        put(tmp_path / name / "1.png")
    with pytest.raises(ReadingError, match=r"does not know: 'bolt', 'gears' .*; the mix has 'gear', 'hook', 'ring'"):
        mix_datasets([synthetic, open_images_map(tmp_path)])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shares": [0.4, 0.4]}, "with a sum of 1"),
        ({"balance": "images"}, "give 'class'"),
        ({"epoch_size": 0}, "epoch_size is 0"),
        ({"seed": -1}, "seed -1"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"classes": ["gear", "hook", "ring", "nut"], "balance": "class"}, "the mix has no sample of nut"),
    ],
)
def test_invalid_arguments_are_refused(
    real: ImageMapDataset, synthetic: MapDataset, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ReadingError, match=message):
        mix_datasets([synthetic, real], **options)


def test_a_dataset_that_lacks_a_class_is_refused_for_shares_and_fills_up_without(
    real: ImageMapDataset, synthetic: MapDataset
) -> None:
    """The rare class alone may be synthetic."""
    hooks = synthetic.filter(pc.field("concept") == "hook")
    with pytest.raises(ReadingError, match="has no sample of gear, ring; leave out shares"):
        mix_datasets([real, hooks], shares=[0.5, 0.5], balance="class")
    found = list(mix_datasets([real, hooks], balance="class", epoch_size=60))
    assert Counter(sample["cls"] for sample in found) == {0: 20, 1: 20, 2: 20}
    assert {sample["cls"] for sample in found if sample["source"] == "synthetic"} == {1}


@pytest.mark.parametrize("datasets", [[], ["photos"]])
def test_what_is_no_dataset_is_refused(datasets: list[Any]) -> None:
    with pytest.raises(ReadingError, match="open_dataset_map and open_images_map"):
        mix_datasets(datasets)


@pytest.mark.parametrize("workers", [0, 2])
def test_every_batch_of_a_loader_holds_the_shares(real: ImageMapDataset, synthetic: MapDataset, workers: int) -> None:
    mixed = mix_datasets([real, synthetic], shares=[0.6, 0.4], balance="class", batch_size=10)
    batches = list(DataLoader(mixed, batch_size=10, num_workers=workers))
    assert len(batches) == 6
    for batch in batches:
        assert Counter(batch["source"]) == {"real": 6, "synthetic": 4}
        assert tuple(batch["image"].shape) == (10, 3, 16, 16)
        assert sum(mask is None for mask in batch["mask"]) == 6
    labels = [label for batch in batches for label in batch["cls"].tolist()]
    assert Counter(labels) == {0: 20, 1: 20, 2: 20}


@settings(max_examples=20)
@given(world_size=st.integers(1, 7), options=st.sampled_from(OPTIONS), epoch=st.integers(0, 2))
def test_ranks_divide_an_epoch(
    real: ImageMapDataset, synthetic: MapDataset, world_size: int, options: dict[str, Any], epoch: int
) -> None:
    def read(**reader: int) -> list[tuple[str, str]]:
        mixed = mix_datasets([real, synthetic], **options, **reader)
        mixed.set_epoch(epoch)
        found = keys_of(mixed)
        assert len(found) == len(mixed)
        return found

    whole = read()
    assert [key for rank in range(world_size) for key in read(rank=rank, world_size=world_size)] == whole


@pytest.mark.parametrize("workers", [0, 2])
def test_ranks_and_workers_read_every_sample_once(real: ImageMapDataset, synthetic: MapDataset, workers: int) -> None:
    found: list[tuple[str, str]] = []
    for rank in (0, 1):
        mixed = mix_datasets([real, synthetic], rank=rank, world_size=2, batch_size=4)
        loader = DataLoader(mixed, batch_size=4, num_workers=workers, collate_fn=keys_of)
        batches = list(loader)
        assert len(batches) == len(loader)
        found += [key for batch in batches for key in batch]
    assert len(found) == len(set(found)) == 60


@settings(max_examples=20)
@given(options=st.sampled_from(OPTIONS), stop=st.integers(0, 30), epoch=st.integers(0, 2))
def test_reading_goes_on_with_the_very_next_sample(
    real: ImageMapDataset, synthetic: MapDataset, options: dict[str, Any], stop: int, epoch: int
) -> None:
    mixed = mix_datasets([real, synthetic], rank=1, world_size=2, **options)
    mixed.set_epoch(epoch)
    expected, iterator = keys_of(mixed), iter(mixed)
    seen = keys_of(next(iterator) for _ in range(stop))
    state = json.loads(json.dumps(mixed.state_dict()))
    again = mix_datasets([real, synthetic], rank=1, world_size=2, **options)
    again.load_state_dict(state)
    assert seen + keys_of(again) == expected
    assert keys_of(again) == expected  # the iteration after it is a whole one


@pytest.mark.parametrize(
    ("options", "what"), [({"seed": 1}, "seed"), ({"shares": [0.5, 0.5]}, "shares"), ({"epoch_size": 9}, "samples")]
)
def test_the_state_of_another_mix_is_refused(
    real: ImageMapDataset, synthetic: MapDataset, options: dict[str, Any], what: str
) -> None:
    state = mix_datasets([real, synthetic], **options).state_dict()
    with pytest.raises(ReadingError, match=f"belongs to another reader: its {what}"):
        mix_datasets([real, synthetic]).load_state_dict(state)
    with pytest.raises(ReadingError, match="its datasets"):
        mix_datasets([synthetic, real]).load_state_dict(mix_datasets([real, synthetic]).state_dict())


def test_it_can_be_sent_to_another_process(real: ImageMapDataset, synthetic: MapDataset) -> None:
    mixed = mix_datasets([real, synthetic], balance="class")
    sent: MixedDataset = pickle.loads(pickle.dumps(mixed))
    assert keys_of(sent) == keys_of(mixed)
    assert repr(sent) == "<MixedDataset of 2 datasets, 60 samples>"


def test_masks_of_real_images_get_the_numbers_of_the_mix(tmp_path: Path, synthetic: MapDataset) -> None:
    """COCO numbers its own categories; here ring is 1, and 3 in the masks of the version."""
    put(tmp_path / "1.png", size=(6, 4))
    document = {
        "images": [{"id": 1, "file_name": "1.png", "width": 6, "height": 4}],
        "categories": [{"id": 5, "name": "ring"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 5, "bbox": [0, 0, 3, 4], "area": 12, "iscrowd": 0,
             "segmentation": [[0, 0, 3, 0, 3, 4, 0, 4]]}
        ],
    }  # fmt: skip
    (tmp_path / "instances_train.json").write_text(json.dumps(document))
    real = open_images_map(tmp_path)
    assert np.unique(np.asarray(real[0]["mask"])).tolist() == [0, 1]
    found = next(sample for sample in mix_datasets([synthetic, real]) if sample["source"] == "real")
    assert (found["cls"], np.unique(np.asarray(found["mask"])).tolist()) == (2, [0, 3])


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_workers_of_either_kind_read_the_same_mix(real: ImageMapDataset, synthetic: MapDataset, start: str) -> None:
    mixed = mix_datasets([real, synthetic], batch_size=10)
    loader = DataLoader(mixed, batch_size=10, num_workers=2, multiprocessing_context=start)
    found = [pair for batch in loader for pair in zip(batch["source"], batch["key"], strict=True)]
    assert sorted(found) == sorted(keys_of(mixed))
