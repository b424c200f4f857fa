"""Decode COCO's compressed run lengths without pycocotools, which writes outside its buffer for runs that do not fit.

Format (cocodataset/cocoapi, common/maskApi.c): runs of background and region alternate, column by column. A length is
a sequence of 5-bit groups, lowest first, one character per group, counted from "0". Bit 32 marks that another group
follows. Bit 16 of the last group marks a negative number. From the fourth on, a length is stored as the difference to
the length two before it.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

LONGEST = 30  # bits of a length before its last group
MOST_PIXELS = 2**28  # above the limit for pictures


def decode_rle(counts: str, height: int, width: int) -> NDArray[np.bool_]:
    """Decode compressed run lengths to a region [height, width] in pixels.

    Errors: ValueError for characters outside the format, an empty or huge image, or runs that do not fill it exactly.
    """
    if not 0 < height * width <= MOST_PIXELS:
        raise ValueError(f"an image of {width} x {height} pixels; there can be 1 to {MOST_PIXELS}")

    runs: list[int] = []
    value = shift = 0
    for character in counts:
        bits = ord(character) - ord("0")
        if not 0 <= bits < 64 or shift > LONGEST:
            raise ValueError(f"{character!r} is no part of a run length")

        # Add the group's 5 bits; continue while another group follows.
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue

        # Extend the sign, then add the length two before.
        if bits & 16:
            value -= 1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
        value = shift = 0

    return fill_runs(runs, height, width)


def fill_runs(runs: Sequence[int], height: int, width: int) -> NDArray[np.bool_]:
    """Return the region, bool [height, width], of the lengths of background and region in turn, column by column.

    Errors: ValueError if the runs do not fill it exactly.
    """
    if not 0 < height * width <= MOST_PIXELS:
        raise ValueError(f"an image of {width} x {height} pixels; there can be 1 to {MOST_PIXELS}")
    if min(runs, default=0) < 0 or sum(runs) != height * width:
        raise ValueError(f"runs of {sum(runs)} pixels for an image of {height * width}")
    flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return flat.reshape(width, height).T
