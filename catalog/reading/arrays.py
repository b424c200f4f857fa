"""Read the .npy arrays of published samples. The size is checked before memory is allocated."""

import io
import math

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from tailforge.schemas.documents.shown import count_of

HEADER_BYTES = 10_000  # upper bound of an array's header


def read_array(data: bytes) -> NDArray[np.float16]:
    """Return the float16 array of a .npy file, of any shape. Errors: ValueError for anything else."""
    file = io.BytesIO(data)
    version = npy.read_magic(file)
    if version != (1, 0):
        raise ValueError(f"it is a .npy file of version {version}; samples ship version 1.0")
    shape, _, dtype = npy.read_array_header_1_0(file, max_header_size=HEADER_BYTES)
    if dtype != np.float16 or math.prod(shape) * dtype.itemsize != len(data) - file.tell():
        raise ValueError(
            f"it announces {dtype} {shape} and holds {count_of(len(data) - file.tell(), 'byte')}; it must be float16"
        )
    found: NDArray[np.float16] = np.load(io.BytesIO(data), allow_pickle=False, max_header_size=HEADER_BYTES)
    return found
