"""COCO's compressed run lengths, read without pycocotools, which writes beyond an image that runs do not fit.

Format (cocodataset/cocoapi, common/maskApi.c): the image column by column, as lengths of runs of background and region
in turn. A length takes groups of 5 bits, lowest first, each in a character from "0" on; bit 32 says that a group
follows, and bit 16 of the last that the number is negative. From the fourth on a length is told as the difference to
the one two before.
"""

import numpy as np
from numpy.typing import NDArray

LONGEST = 30  # bits of a length before its last group
MOST_PIXELS = 2**28  # more than a picture may have that is opened


def decode_rle(counts: str, height: int, width: int) -> NDArray[np.bool_]:
    """The region [height, width]. Errors: ValueError if the runs do not fill it exactly."""
    if not 0 < height * width <= MOST_PIXELS:
        raise ValueError(f"an image of {width} x {height} pixels; there can be 1 to {MOST_PIXELS}")
    runs: list[int] = []
    value = shift = 0
    for character in counts:
        bits = ord(character) - ord("0")
        if not 0 <= bits < 64 or shift > LONGEST:
            raise ValueError(f"{character!r} is no part of a run length")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
        value = shift = 0
    if min(runs, default=0) < 0 or sum(runs) != height * width:
        raise ValueError(f"runs of {sum(runs)} pixels for an image of {height * width}")
    flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return flat.reshape(width, height).T
