"""Reading a published version in a training job: no torch, no Prefect, any fsspec address."""

import io
import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from typing import Any

import fsspec
import numpy as np
from PIL import Image

from catalog.registry import DATASETS, load_dataset, version_folder
from catalog.store import Store
from catalog.tars import read_members
from schemas.errors import NotFoundError, VerificationError


def open_dataset(
    uri: str, version: str = "latest", split: str = "train", *, name: str | None = None, decode: bool = True
) -> "ShardedDataset":
    """A split of a published version.

    `uri` is `<store>/datasets/<name>`, or the store where `name` is given. With `decode` False images and masks stay
    the bytes of their files. Errors: NotFoundError for a dataset, version or split that does not exist.
    """
    if name is None:
        root, _, name = uri.rstrip("/").rpartition(f"/{DATASETS}/")
        if not root or "/" in name:
            raise NotFoundError(f"{uri!r} is no dataset; give <store>/{DATASETS}/<name>, or the store and name=")
        uri = root
    store = Store.open(uri)
    dataset, folder = load_dataset(store, name, version), version_folder(store, name, version)
    shards = [shard for shard in dataset.shards if shard.split == split]
    if not shards:
        known = ", ".join(dataset.counts.by_split)
        raise NotFoundError(f"{name} {dataset.version} has no split {split!r}; it has: {known}")
    uris = tuple(store.fs.unstrip_protocol(store.path(f"{folder}/shards/{shard.name}")) for shard in shards)
    categories = tuple(category.name for category in dataset.mask_categories)
    count = sum(shard.samples for shard in shards)
    return ShardedDataset(uris, count, dataset.version, dataset.classes, categories, decode)


class ShardedDataset:
    """Samples of one split in their published order: iterable any number of times, sized, picklable.

    A sample is a dict: `key`, `image` (PIL, RGB), `mask` (PIL, palette: 0 background, a category, 255 ignore),
    `caption`, `cls` (int), `json` (dict), and `attention` and `noise` (float16 arrays) where shipped.
    `classes` names the classes by number, `categories` what the values of masks mean, value 1 first: the classes, then
    what else is masked. `shards` are the addresses of the tars.
    """

    def __init__(
        self,
        shards: tuple[str, ...],
        samples: int,
        version: str,
        classes: tuple[str, ...],
        categories: tuple[str, ...],
        decode: bool,
    ) -> None:
        self.shards, self.version, self.classes, self.categories = shards, version, classes, categories
        self._samples, self._decode = samples, decode

    def __len__(self) -> int:
        return self._samples

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Errors: VerificationError for a damaged shard."""
        for shard in self.shards:
            with fsspec.open(shard, "rb") as file:
                for key, members in groupby(read_members(file, shard), lambda member: member.key):
                    fields = {member.field: member.data for member in members}
                    try:
                        sample = decode_sample({"__key__": key, **fields}, decode=self._decode)
                    except (KeyError, ValueError, OSError) as error:
                        raise VerificationError(
                            f"{shard}: sample {key} cannot be decoded: {error}; fetch the shard again or run "
                            "`tailforge verify` to see what else is wrong"
                        ) from error
                    yield sample

    def webdataset(self, shuffle_seed: int | None = None) -> Any:
        """The same shards as a `webdataset` pipeline, which is a torch IterableDataset where torch is installed.

        Shards are dealt out to nodes and to DataLoader workers, in an order drawn anew each epoch if `shuffle_seed`
        is given. Samples are dicts of bytes by field with `__key__`: go on with `.shuffle(...)`, `.map(decode_sample)`,
        `.decode(...)`. Mind that webdataset's own "pil" decoder turns masks into RGB.
        """
        import webdataset as wds
        from webdataset.tariterators import group_by_keys, tar_file_expander

        shuffle = [] if shuffle_seed is None else [wds.detshuffle(len(self.shards), seed=shuffle_seed)]
        stages = [*shuffle, wds.split_by_node, wds.split_by_worker, open_shards, tar_file_expander, group_by_keys]
        return wds.FluidWrapper(wds.SimpleShardList(list(self.shards))).compose(*stages)


def open_shards(sources: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Stage of a webdataset pipeline: opens every {"url"} through fsspec."""
    for source in sources:
        with fsspec.open(source["url"], "rb") as stream:
            yield {**source, "stream": stream}


def decode_sample(sample: Mapping[str, Any], *, decode: bool = True) -> dict[str, Any]:
    """Bytes by field, as webdataset gives them, to the sample that `ShardedDataset` describes."""
    image = sample["png"] if "png" in sample else sample["jpg"]
    decoded = {
        "key": sample["__key__"],
        "image": Image.open(io.BytesIO(image)).convert("RGB") if decode else image,
        "mask": Image.open(io.BytesIO(sample["seg.png"])).copy() if decode else sample["seg.png"],
        "caption": sample["txt"].decode(),
        "cls": int(sample["cls"]),
        "json": json.loads(sample["json"]),
    }
    for field, name in (("attn.npy", "attention"), ("noise.npy", "noise")):
        if field in sample:
            decoded[name] = np.load(io.BytesIO(sample[field]), allow_pickle=False)
    return decoded
