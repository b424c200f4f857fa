"""Encode and decode one array in numpy's .npy format."""

import io
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def encode_array(array: Array) -> bytes:
    """Encode an array of any shape as .npy bytes. Errors: ValueError for an array of Python objects."""
    out = io.BytesIO()
    np.save(out, array, allow_pickle=False)
    return out.getvalue()


def decode_array(data: bytes) -> Array:
    """Decode .npy bytes to an array of the shape that was encoded.

    Errors: ValueError for bytes in another format or with Python objects.
    """
    decoded: Array = np.load(io.BytesIO(data), allow_pickle=False)
    return decoded
