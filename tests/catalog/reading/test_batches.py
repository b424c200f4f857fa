"""Batches of samples as tensors, as a DataLoader makes them in its workers."""

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from tailforge import collate, open_dataset
from tailforge.catalog.store import Store
from tailforge.schemas.errors import ReadingError
from tests.support.repository import ROOT


def make_sample(width: int, height: int, value: int) -> dict[str, Any]:
    return {
        "key": f"{value:016x}",
        "image": Image.new("RGB", (width, height), (value, 2, 3)),
        "mask": Image.new("P", (width, height), value),
        "caption": "a gear",
        "cls": value,
        "json": {"seed": value},
        "attention": np.full((2, 4), value, np.float16),
    }


def test_a_batch_holds_tensors_and_lists() -> None:
    batch = collate([make_sample(4, 3, value) for value in (1, 7)])
    assert (batch["image"].shape, batch["image"].dtype) == ((2, 3, 3, 4), torch.uint8)
    assert batch["image"][:, :, 0, 0].tolist() == [[1, 2, 3], [7, 2, 3]]
    assert (batch["mask"].shape, batch["mask"].dtype) == ((2, 3, 4), torch.uint8)
    assert batch["mask"][:, 2, 3].tolist() == [1, 7]
    assert (batch["attention"].shape, batch["attention"].dtype) == ((2, 2, 4), torch.float16)
    assert (batch["cls"].tolist(), batch["cls"].dtype) == ([1, 7], torch.int64)
    assert batch["key"] == [f"{1:016x}", f"{7:016x}"]
    assert batch["json"] == [{"seed": 1}, {"seed": 7}]
    assert batch["caption"] == ["a gear", "a gear"]


def test_pictures_of_several_sizes_are_lists_of_tensors() -> None:
    batch = collate([make_sample(4, 3, 1), make_sample(5, 3, 2)])
    assert [tuple(image.shape) for image in batch["image"]] == [(3, 3, 4), (3, 3, 5)]
    assert [tuple(mask.shape) for mask in batch["mask"]] == [(3, 4), (3, 5)]
    assert batch["attention"].shape == (2, 2, 4)


def test_pictures_that_are_not_decoded_stay_bytes() -> None:
    batch = collate([make_sample(4, 3, 1) | {"image": b"image", "mask": b"mask"}])
    assert (batch["image"], batch["mask"]) == ([b"image"], [b"mask"])


def test_no_samples_are_refused() -> None:
    with pytest.raises(ReadingError, match="no sample"):
        collate([])


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_takes_it(published: Store, workers: int) -> None:
    train = open_dataset(f"{published.uri}/datasets/parts")
    batches = list(DataLoader(train, batch_size=8, num_workers=workers, collate_fn=collate))
    assert sum(len(batch["key"]) for batch in batches) == len(train)
    pixels = {key: image for batch in batches for key, image in zip(batch["key"], batch["image"], strict=True)}
    for sample in train:
        assert np.array_equal(pixels[sample["key"]].permute(1, 2, 0).numpy(), np.asarray(sample["image"]))


def test_without_torch_it_says_so() -> None:
    program = "import sys; sys.modules['torch'] = None\nfrom tailforge import collate\ncollate([{}])"
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert "ReadingError: collate makes tensors, and torch is not installed" in result.stderr


def test_a_field_that_samples_lack_is_none_there() -> None:
    real = make_sample(4, 3, 2) | {"mask": None, "caption": None}
    del real["attention"]
    batch = collate([make_sample(4, 3, 1), real])
    assert batch["image"].shape == (2, 3, 3, 4)
    assert (batch["mask"][0].shape, batch["mask"][1]) == ((3, 4), None)
    assert (batch["attention"][0].shape, batch["attention"][1]) == ((2, 4), None)
    assert batch["caption"] == ["a gear", None]


@pytest.mark.parametrize("start", [None, "fork", "spawn"])
@pytest.mark.parametrize("decode", [True, False])
def test_a_loader_without_a_collate_function_makes_the_same_batches(
    published: Store, start: str | None, decode: bool
) -> None:
    train = open_dataset(f"{published.uri}/datasets/parts", decode=decode)
    workers = 0 if start is None else 1
    batches = list(DataLoader(train, batch_size=8, num_workers=workers, multiprocessing_context=start))
    told = list(DataLoader(train, batch_size=8, num_workers=workers, collate_fn=collate))
    assert len(batches) == len(told) == 6
    for one, other in zip(batches, told, strict=True):
        assert list(one) == list(other)
        assert all(torch.equal(one[name], other[name]) for name in ("image", "mask") if decode)
        assert (one["key"], one["json"]) == (other["key"], other["json"])


def test_other_dicts_are_collated_as_before(published: Store) -> None:
    """A user's own samples are not ours, also after a reader was used."""
    next(iter(open_dataset(f"{published.uri}/datasets/parts")))
    assert next(iter(DataLoader([{"a": 1}, {"a": 2}], batch_size=2)))["a"].tolist() == [1, 2]  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="default_collate"):
        next(iter(DataLoader([{"a": None}], batch_size=1)))  # type: ignore[arg-type]
