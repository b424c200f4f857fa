"""Collate samples into batches for a torch DataLoader, whose own function cannot collate pictures."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from tailforge.schemas.errors import ReadingError


def collate(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return a batch of samples of a `ShardedDataset`: `DataLoader(..., collate_fn=collate)`.

    `image`: uint8 [N, 3, H, W]. `mask`: uint8 [N, H, W]. `attention` and `noise`: float16 [N, ...]. If sizes differ,
    each of these is a list of N tensors instead. `cls`: int64 [N]. Every other field is a list of N values. The first
    call imports torch. Errors: ReadingError if torch is not installed, or `samples` is empty.
    """
    try:
        import torch
    except ModuleNotFoundError as error:
        raise ReadingError("collate makes tensors, and torch is not installed; install torch") from error
    if not samples:
        raise ReadingError("collate was given no sample; give one or more")

    def stack(values: list[Any]) -> Any:
        """Return one tensor, or a list of tensors if their shapes differ."""
        arrays = [_to_array(value) for value in values]
        if len({array.shape for array in arrays}) == 1:
            return torch.from_numpy(np.stack(arrays))
        return [torch.from_numpy(array) for array in arrays]

    batch: dict[str, Any] = {}
    for field in samples[0]:
        values = [sample[field] for sample in samples]
        if isinstance(values[0], int):
            batch[field] = torch.tensor(values)
        else:
            batch[field] = stack(values) if isinstance(values[0], Image.Image | np.ndarray) else values
    return batch


def _to_array(value: Any) -> Any:
    """Return a picture as uint8 [3, H, W] for colours or [H, W] for palette indices, or an array unchanged."""
    array = np.array(value)  # a copy, since users may write to tensors
    in_colours = isinstance(value, Image.Image) and array.ndim == 3
    return np.ascontiguousarray(array.transpose(2, 0, 1)) if in_colours else array
