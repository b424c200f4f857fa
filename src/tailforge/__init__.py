"""Versioned synthetic image datasets: what a consumer of versions imports.

The command is `tailforge`. Names are imported when they are first used, so that `import tailforge` takes no time.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tailforge.catalog.mixing.image_map import ImageMapDataset, open_images_map
    from tailforge.catalog.mixing.mix_datasets import MixedDataset, mix_datasets
    from tailforge.catalog.reading.batches import collate
    from tailforge.catalog.reading.datasets import list_datasets, list_versions
    from tailforge.catalog.reading.decoding import decode_sample
    from tailforge.catalog.reading.open_dataset import ShardedDataset, open_dataset, open_shards
    from tailforge.catalog.reading.open_dataset_map import MapDataset, open_dataset_map
    from tailforge.schemas.errors import TailforgeError

__all__ = [
    "ImageMapDataset",
    "MapDataset",
    "MixedDataset",
    "ShardedDataset",
    "TailforgeError",
    "__version__",
    "collate",
    "decode_sample",
    "list_datasets",
    "list_versions",
    "mix_datasets",
    "open_dataset",
    "open_dataset_map",
    "open_images_map",
    "open_shards",
]

_HOMES = {
    "ImageMapDataset": "tailforge.catalog.mixing.image_map",
    "MapDataset": "tailforge.catalog.reading.open_dataset_map",
    "MixedDataset": "tailforge.catalog.mixing.mix_datasets",
    "ShardedDataset": "tailforge.catalog.reading.open_dataset",
    "TailforgeError": "tailforge.schemas.errors",
    "collate": "tailforge.catalog.reading.batches",
    "decode_sample": "tailforge.catalog.reading.decoding",
    "list_datasets": "tailforge.catalog.reading.datasets",
    "list_versions": "tailforge.catalog.reading.datasets",
    "mix_datasets": "tailforge.catalog.mixing.mix_datasets",
    "open_dataset": "tailforge.catalog.reading.open_dataset",
    "open_dataset_map": "tailforge.catalog.reading.open_dataset_map",
    "open_images_map": "tailforge.catalog.mixing.image_map",
    "open_shards": "tailforge.catalog.reading.open_dataset",
}


def __getattr__(name: str) -> Any:
    """The public name, imported from its module. Raises AttributeError for any other name."""
    if name == "__version__":
        return import_module("importlib.metadata").version("tailforge")
    if name not in _HOMES:
        raise AttributeError(f"module 'tailforge' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
