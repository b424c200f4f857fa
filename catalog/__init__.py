"""The memory: recipes, models, published versions and how to read them. Imports schemas only; no torch, no Prefect."""

from catalog.reader import open_dataset

__all__ = ["open_dataset"]
