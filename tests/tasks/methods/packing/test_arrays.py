"""Arrays survive their bytes, and nothing that could run code is read."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tailforge.tasks.methods.packing.arrays import decode_array, encode_array


@given(arrays.arrays(st.sampled_from([np.float16, np.float32, np.uint8]), arrays.array_shapes(min_side=0)))
def test_an_array_comes_back_as_it_was(array: np.ndarray) -> None:
    back = decode_array(encode_array(array))
    assert (back.dtype, back.shape) == (array.dtype, array.shape)
    assert back.tobytes() == array.tobytes()


def test_python_objects_are_refused() -> None:
    with pytest.raises(ValueError, match=r"pickle|Object"):
        encode_array(np.array([{}], dtype=object))
    out = io.BytesIO()
    np.save(out, np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"pickle|Object"):
        decode_array(out.getvalue())
