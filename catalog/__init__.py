"""The memory: recipes, models, published versions and how to read them. Imports schemas only; no torch, no Prefect."""

from catalog.batches import collate
from catalog.reader import open_dataset

__all__ = ["collate", "open_dataset"]
