"""Near duplicates, against the plain algorithm that compares every pair in order."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tailforge.tasks.methods.quality.near_duplicates import find_near_duplicates


@given(
    hashes=st.lists(st.one_of(st.integers(0, 2**64 - 1), st.integers(0, 31)), max_size=40),
    known=st.lists(st.integers(0, 63), max_size=5),
    distance=st.integers(0, 6),
    block=st.integers(1, 9),
    tables=st.booleans(),
)
@settings(max_examples=150)
def test_near_duplicates_are_those_of_the_plain_algorithm(
    hashes: list[int], known: list[int], distance: int, block: int, tables: bool
) -> None:
    near, repeats, kept = [], [], []
    for value in hashes:
        near.append(any((value ^ other).bit_count() <= distance for other in known))
        repeats.append(not near[-1] and any((value ^ other).bit_count() <= distance for other in kept))
        if not near[-1] and not repeats[-1]:
            kept.append(value)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tailforge.tasks.methods.quality.near_duplicates.BLOCK", block)
        if tables:  # as for many hashes
            patch.setattr(
                "tailforge.tasks.methods.quality.near_duplicates._choose_blocks",
                lambda *sizes: sizes[-1] + 1 + block % 3,
            )
            patch.setattr("tailforge.tasks.methods.quality.near_duplicates.LOOK_COST", block % 2)
        found = find_near_duplicates(np.array(hashes, np.uint64), distance, np.array(known, np.uint64))
    assert found[0].tolist() == near
    assert found[1].tolist() == repeats


def test_twenty_thousand_hashes_with_planted_duplicates() -> None:
    generator = np.random.default_rng(1)
    hashes = generator.integers(0, 2**64, 20_000, np.uint64)
    copies = generator.choice(np.arange(10_000, 20_000), 50, replace=False)
    hashes[copies] = hashes[copies - 10_000] ^ np.uint64(0b101)
    _, repeats = find_near_duplicates(hashes, 3, np.array([], np.uint64))
    assert np.flatnonzero(repeats).tolist() == sorted(copies.tolist())
