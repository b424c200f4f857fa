"""Collate samples into batches for a torch DataLoader, whose own function cannot collate pictures."""

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from tailforge.schemas.errors import ReadingError


class SampleDict(dict[str, Any]):
    """One sample of a reader. The default collate function of a torch DataLoader calls `collate` for it."""


def register_collate() -> None:
    """Let torch's default collate function take samples, if torch is imported. Other types are not affected."""
    if torch_collate := sys.modules.get("torch.utils.data._utils.collate"):
        torch_collate.default_collate_fn_map[SampleDict] = _collate_by_default


def _collate_by_default(samples: Sequence[dict[str, Any]], *, collate_fn_map: Any = None) -> dict[str, Any]:
    """Return a batch, for torch's table of collate functions by type."""
    return collate(samples)


def collate(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return a batch of samples of any reader. A DataLoader without `collate_fn` calls it for samples as they are read.

    `image`: uint8 [N, 3, H, W]. `mask`: uint8 [N, H, W]. `attention` and `noise`: float16 [N, ...]. If sizes differ,
    each of these is a list of N tensors instead. `cls`: int64 [N]. Every other field is a list of N values. A sample
    without a field has None in a list. The first call imports torch. Errors: ReadingError if torch is not installed,
    or `samples` is empty.
    """
    try:
        import torch
    except ModuleNotFoundError as error:
        raise ReadingError("collate makes tensors, and torch is not installed; install torch") from error
    if not samples:
        raise ReadingError("collate was given no sample; give one or more")

    def gather(values: list[Any]) -> Any:
        """Return one tensor if all values are numbers, or arrays of one shape; else a list."""
        if all(isinstance(value, int) for value in values):
            return torch.tensor(values)
        arrays = [_to_array(value) for value in values]
        if all(isinstance(array, np.ndarray) for array in arrays) and len({array.shape for array in arrays}) == 1:
            return torch.from_numpy(np.stack(arrays))
        return [torch.from_numpy(array) if isinstance(array, np.ndarray) else array for array in arrays]

    fields = dict.fromkeys(field for sample in samples for field in sample)
    return {field: gather([sample.get(field) for sample in samples]) for field in fields}


def _to_array(value: Any) -> Any:
    """Return a picture as uint8 [3, H, W] for colours or [H, W] for palette indices; other values unchanged.

    Users may write to tensors, so arrays are copied.
    """
    if not isinstance(value, Image.Image | np.ndarray):
        return value
    array = np.array(value)
    in_colours = isinstance(value, Image.Image) and array.ndim == 3
    return np.ascontiguousarray(array.transpose(2, 0, 1)) if in_colours else array
