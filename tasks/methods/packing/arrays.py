"""Bytes of one array in numpy's .npy format, and back."""

import io
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def encode_array(array: Array) -> bytes:
    """.npy bytes. Errors: ValueError for an array of Python objects."""
    out = io.BytesIO()
    np.save(out, array, allow_pickle=False)
    return out.getvalue()


def decode_array(data: bytes) -> Array:
    """The array of .npy bytes. Errors: ValueError for bytes that are none or hold Python objects."""
    decoded: Array = np.load(io.BytesIO(data), allow_pickle=False)
    return decoded
